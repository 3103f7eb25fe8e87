"""Pastes the small masks of the detections into the network's frame.

Two matrix products of hat-function weights: fixed shapes, built-in operations.
"""

from __future__ import annotations

import tensorflow as tf

from coverslip_graph.preprocess import SIDE

SCORE = 0.5
"""Least score of a detection that counts as body."""


def spread_weights(low: tf.Tensor, high: tf.Tensor, cells: int, count: int) -> tf.Tensor:
    """Linear-interpolation weights from the cells of boxes to points on an axis of the frame.

    Parameters
    ----------
    low, high : float32 [B, K]
        Start and end of the boxes, frame pixels.
    cells : int
        Mask cells between them.
    count : int
        Number of points, evenly spaced.

    Returns
    -------
    float32 [B, K, count, cells]
        Rows of points inside the box sum to 1; all other rows are 0.
    """
    centres = (tf.range(count, dtype=tf.float32) + 0.5) * (SIDE / count)
    low, high = tf.expand_dims(low, -1), tf.expand_dims(high, -1)
    inside = tf.cast((centres >= low) & (centres < high), tf.float32)
    position = (centres - low) / tf.maximum(high - low, 1e-3) * cells - 0.5
    position = tf.expand_dims(tf.clip_by_value(position, 0.0, cells - 1.0), -1)
    hats = tf.nn.relu(1.0 - tf.abs(position - tf.range(cells, dtype=tf.float32)))
    return hats * tf.expand_dims(inside, -1)


def paste(masks: tf.Tensor, boxes: tf.Tensor, scores: tf.Tensor, count: int) -> tf.Tensor:
    """Join the detections with a score of at least `SCORE` in the network's frame.

    Parameters
    ----------
    masks : float32 [B, K, M, M]
        Probability of body in each cell of each box.
    boxes : float32 [B, K, 4]
        y1, x1, y2, x2 in frame pixels.
    scores : float32 [B, K]
    count : int
        Number of points on a side of the frame.

    Returns
    -------
    float32 [B, count, count]
        Probability of body.
    """
    cells = masks.shape[-1]
    rows = spread_weights(boxes[..., 0], boxes[..., 2], cells, count)
    columns = spread_weights(boxes[..., 1], boxes[..., 3], cells, count)
    chosen = masks * tf.cast(scores >= SCORE, tf.float32)[..., tf.newaxis, tf.newaxis]
    return tf.reduce_max(tf.matmul(tf.matmul(rows, chosen), columns, transpose_b=True), axis=1)
