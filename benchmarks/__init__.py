"""The listener measured against Triton's own frontend and against other servers (`make bench`)."""
