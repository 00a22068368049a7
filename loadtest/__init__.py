"""Load on a listener's predict route, driven by Locust: docs/load-testing.md.

`locustfile.py` is what Locust reads; the other modules know nothing of Locust and need the standard library alone.
"""
