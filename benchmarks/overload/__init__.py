"""More requests than a listener can answer: `python -m benchmarks.overload`."""
