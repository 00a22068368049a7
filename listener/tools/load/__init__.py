"""`listener load`: the rate up to which a service keeps its objective, and a report (docs/capacity.md)."""
