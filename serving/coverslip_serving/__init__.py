"""Coverslip over gRPC: gateway, client, TensorFlow Serving as an engine, and a stand-in for it."""
