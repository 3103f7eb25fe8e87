"""The small model of the graph's tests."""

from tests.graph.conftest import bright, engine, released, tensorflow_engine

__all__ = ["bright", "engine", "released", "tensorflow_engine"]
