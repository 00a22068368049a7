"""Made-up rounds for the tests."""

from __future__ import annotations

from benchmarks.results import Key, Measured, Results


def measured(rps: float, server_cpu: float = 0.0, triton_cpu: float = 100.0) -> Measured:
    return Measured(rps, 1000 / rps, 3000 / rps, server_cpu, triton_cpu)


def results(**by_server: list[float]) -> Results:
    """W1 at 8 connections: requests per second by server, one for each round."""
    made = Results()
    for server, rounds in by_server.items():
        for rps in rounds:
            made.add(Key("W1", 8, server), measured(rps, 0.0 if server == "triton" else 40.0))
    return made
