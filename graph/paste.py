"""Puts the small masks of the detections back into the picture, by two matrix products of hat-function weights."""

from __future__ import annotations

import tensorflow as tf

SCORE = 0.5
"""Detections below this score are not body."""


def spread_weights(low: tf.Tensor, high: tf.Tensor, cells: int, size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Linear-interpolation weights from the cells of boxes to the pixels of an axis.

    Parameters
    ----------
    low, high : float32 [B, K]
        Where the boxes begin and end, frame pixels.
    cells : int
        Mask cells between them.
    size : int32 []
        Pixels on the axis of the source image.
    scale : float32 []
        Source pixels per frame pixel.

    Returns
    -------
    float32 [B, K, size, cells]
        Rows of pixels inside the box sum to 1, others are 0.
    """
    centres = (tf.cast(tf.range(size), tf.float32) + 0.5) / scale
    low, high = tf.expand_dims(low, -1), tf.expand_dims(high, -1)
    inside = tf.cast((centres >= low) & (centres < high), tf.float32)
    position = (centres - low) / tf.maximum(high - low, 1e-3) * cells - 0.5
    position = tf.expand_dims(tf.clip_by_value(position, 0.0, cells - 1.0), -1)
    hats = tf.nn.relu(1.0 - tf.abs(position - tf.range(cells, dtype=tf.float32)))
    return hats * tf.expand_dims(inside, -1)


def paste(masks: tf.Tensor, boxes: tf.Tensor, scores: tf.Tensor, size: tuple[tf.Tensor, tf.Tensor], scale: tf.Tensor) -> tf.Tensor:
    """Union of the detections with a score of at least 0.5.

    Parameters
    ----------
    masks : float32 [B, K, M, M]
        Probability of body in each cell of each box.
    boxes : float32 [B, K, 4]
        y1, x1, y2, x2 in frame pixels.
    scores : float32 [B, K]
    size : int32 [], int32 []
        Height and width of the source image.
    scale : float32 []
        Source pixels per frame pixel.

    Returns
    -------
    uint8 [B, H, W]
        1 = body.
    """
    cells = masks.shape[-1]
    rows = spread_weights(boxes[..., 0], boxes[..., 2], cells, size[0], scale)
    columns = spread_weights(boxes[..., 1], boxes[..., 3], cells, size[1], scale)
    chosen = masks * tf.cast(scores >= SCORE, tf.float32)[..., tf.newaxis, tf.newaxis]
    pasted = tf.matmul(tf.matmul(rows, chosen), columns, transpose_b=True)
    return tf.cast(tf.reduce_max(pasted, axis=1) >= 0.5, tf.uint8)
