"""What the farm remembers: runs, cells, attempts and what they said."""

from farm.store.store import Store

__all__ = ["Store"]
