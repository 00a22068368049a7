"""Everything that knows Triton: its client, its batches, its process and the backends that come with us."""
