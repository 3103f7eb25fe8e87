"""The scheme and the outline network as one TensorFlow graph, and its export."""
