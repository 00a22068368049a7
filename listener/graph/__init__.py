"""The graph of a service: callables from `Call` to `Reply`, all with one signature, wrapped around one another."""
