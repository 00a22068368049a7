"""HTTP in, HTTP out: one file for each kind of request, no logic."""
