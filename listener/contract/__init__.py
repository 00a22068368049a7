"""The platform's contract as pure functions: bytes <-> `Call` and `Reply`. docs/reference/contract.md."""
