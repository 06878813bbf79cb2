"""A farm that another machine serves: what it is asked for over its REST API, and how its answers are read."""

from farm.remote.client import Client

__all__ = ["Client"]
