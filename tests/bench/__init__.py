"""Measurements: `make bench`. Nothing here is asserted; the figures go to docs/performance.md."""
