"""What the listener counts and measures of itself, over all workers: docs/reference/metrics.md has the table.

A request adds to plain numbers in a segment of memory that all workers share (`segment.py`, `meter.py`); whichever
worker is asked makes Prometheus' families of all of them (`exposition.py`).
"""
