"""Puts the small masks of the detections back into the frame, by two matrix products of
hat-function weights.
"""

from __future__ import annotations

import tensorflow as tf

from coverslip_graph.preprocess import SIDE

SCORE = 0.5
"""Detections below this score are not body."""


def spread_weights(low: tf.Tensor, high: tf.Tensor, cells: int, count: int) -> tf.Tensor:
    """Linear-interpolation weights from the cells of boxes to evenly spaced points on an axis of
    the frame.

    Parameters
    ----------
    low, high : float32 [B, K]
        Where the boxes begin and end, frame pixels.
    cells : int
        Mask cells between them.
    count : int
        Points on the axis.

    Returns
    -------
    float32 [B, K, count, cells]
        Rows of points inside the box sum to 1, others are 0.
    """
    centres = (tf.range(count, dtype=tf.float32) + 0.5) * (SIDE / count)
    low, high = tf.expand_dims(low, -1), tf.expand_dims(high, -1)
    inside = tf.cast((centres >= low) & (centres < high), tf.float32)
    position = (centres - low) / tf.maximum(high - low, 1e-3) * cells - 0.5
    position = tf.expand_dims(tf.clip_by_value(position, 0.0, cells - 1.0), -1)
    hats = tf.nn.relu(1.0 - tf.abs(position - tf.range(cells, dtype=tf.float32)))
    return hats * tf.expand_dims(inside, -1)


def paste(masks: tf.Tensor, boxes: tf.Tensor, scores: tf.Tensor, count: int) -> tf.Tensor:
    """Union of the detections with a score of at least 0.5, in the network's frame.

    Parameters
    ----------
    masks : float32 [B, K, M, M]
        Probability of body in each cell of each box.
    boxes : float32 [B, K, 4]
        y1, x1, y2, x2 in frame pixels.
    scores : float32 [B, K]
    count : int
        Points on a side of the frame.

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
