"""The small model of the graph's tests."""

from tests.graph.conftest import bright, released

__all__ = ["bright", "released"]
