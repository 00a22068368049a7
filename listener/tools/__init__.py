"""What people run at a desk. May import what serves requests; nothing that serves requests imports it."""
