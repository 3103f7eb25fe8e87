"""Which blocks carry: `coverslip.scheme.carriers` and `coverslip.scheme.quantise.choose` as a graph of stock operations.

Both runtimes sort with TOP_K, which ranks equal values by index, lowest first, and so breaks ties as the reference does.
"""

from __future__ import annotations

from fractions import Fraction

import tensorflow as tf
from coverslip.graph.blocks import per_image

from coverslip.scheme.carriers import GATE_FLOOR, GATE_RANK, GATE_SPAN, NEAR
from coverslip.scheme.dct import SIDE
from coverslip.scheme.quantise import COST_CAP, NEAR_PENALTY

RANK = Fraction(GATE_RANK).limit_denominator(100)
_BITS = 17
_OUTSIDE = 1e6
"""Above every pixel, and whole numbers up to it are exact in float32."""

_SLOTS = 8192
"""Above every slot."""


def touched_blocks(mask: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Blocks that the mask, grown by a margin, touches: `coverslip.scheme.carriers.touched_blocks`.

    Parameters
    ----------
    mask : uint8 [B, H, W]
        1 = body.
    margin : int32 [B]
        Pixels to grow the mask by in every direction, from 0; rounded up to whole blocks.

    Returns
    -------
    float32 [B, H // 4, W // 4]
        0 or 1.

    Notes
    -----
    Blocks with body are counted in squares of blocks, with two band matrices. The counts are whole numbers below 2^24, so float32 is
    exact.
    """
    reach = tf.cast((margin + (SIDE - 1)) // SIDE, tf.float32)[:, tf.newaxis, tf.newaxis]
    shape = tf.shape(mask)
    rows, cols = (_bands(shape[axis] // SIDE, shape[axis] // SIDE + 1, reach) for axis in (1, 2))
    return _counted(_body_blocks(mask), rows, cols)


def _body_blocks(mask: tf.Tensor) -> tf.Tensor:
    """Blocks with body, and one more row and column of them: float32 [B, H // 4 + 1, W // 4 + 1], 0 or 1, of masks uint8 [B, H, W].

    What no full block covers is counted there, with as much of the last full block as fills a window: its body reaches farther from
    where it is counted as well. Extending the mask to whole blocks takes several times longer.
    """

    def pooled(part: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(tf.nn.max_pool2d(tf.expand_dims(part, 3), SIDE, SIDE, "VALID"), 3)

    body = tf.cast(mask, tf.float32)
    right, below, corner = body[:, :, -SIDE:], body[:, -SIDE:], body[:, -SIDE:, -SIDE:]
    return tf.concat([tf.concat([pooled(body), pooled(right)], 2), tf.concat([pooled(below), pooled(corner)], 2)], 1)


def near_blocks(touched: tf.Tensor) -> tf.Tensor:
    """Blocks that are at most `NEAR` blocks from one of those that the mask touches; float32 [B, Hb, Wb], 0 or 1, both."""
    shape = tf.shape(touched)
    rows, cols = (_bands(shape[axis], shape[axis], float(NEAR)) for axis in (1, 2))
    return _counted(touched, rows, cols)


def _bands(count: tf.Tensor, size: tf.Tensor, reach: tf.Tensor | float) -> tf.Tensor:
    """1 where two places, ``count`` and ``size`` of them, are within a reach of each other: float32 [B or 1, count, size]."""
    to = tf.cast(tf.range(size), tf.float32)[tf.newaxis, tf.newaxis, :]
    at = tf.cast(tf.range(count), tf.float32)[tf.newaxis, :, tf.newaxis]
    return tf.clip_by_value(reach + 1.0 - tf.abs(to - at), 0.0, 1.0)


def _counted(plane: tf.Tensor, rows: tf.Tensor, cols: tf.Tensor) -> tf.Tensor:
    """1 where the product ``rows @ plane @ cols'`` counts anything, else 0."""
    return tf.minimum(tf.matmul(rows, tf.matmul(plane, cols, transpose_b=True)), 1.0)


def allowed_blocks(blocks: tf.Tensor, touched: tf.Tensor, legal: tf.Tensor, padding: tf.Tensor) -> tf.Tensor:
    """Blocks that may carry: outside the grown mask, without padding, inside the legal range, and past the gate.

    Parameters
    ----------
    blocks : float32 [B, Hb, Wb, 16]
        Pixels.
    touched : float32 [B, Hb, Wb]
        From `touched_blocks`.
    legal : float32 [B, 2]
        Lowest and highest legal pixel, inclusive.
    padding : float32 [B]
        Pixel padding value.

    Returns
    -------
    bool [B, Hb, Wb]
    """
    highest = tf.reduce_max(blocks, axis=3)
    lowest = tf.reduce_min(blocks, axis=3)
    # Pixels are whole numbers: a distance above a half is one of at least a level. Comparing each pixel takes longer.
    unpadded = tf.reduce_min(tf.abs(blocks - per_image(padding)), axis=3) > 0.5
    legal_block = (lowest >= legal[:, 0:1, tf.newaxis]) & (highest <= legal[:, 1:2, tf.newaxis])
    clear = legal_block & unpadded & (touched < 0.5)
    threshold = _gate(highest, highest - lowest, clear)
    return clear & (highest <= threshold)


def _gate(highest: tf.Tensor, span: tf.Tensor, clear: tf.Tensor) -> tf.Tensor:
    """The brightest pixel that still counts as air: float32 [B, 1, 1], from [B, Hb, Wb]; of no use without a clear block."""
    level, spread = tf.unstack(_low_quantiles(tf.stack([highest, span], axis=1), clear), axis=1)
    return level + tf.floor(spread * GATE_SPAN) + GATE_FLOOR


def _low_quantiles(values: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """The value at index floor(GATE_RANK (n - 1)) of the n sorted values among which ``among`` holds.

    Parameters
    ----------
    values : float32 [B, K, Hb, Wb]
        Whole numbers, less than 2^17 apart where ``among`` holds.
    among : bool [B, Hb, Wb]

    Returns
    -------
    float32 [B, K, 1, 1]

    Notes
    -----
    Built bit by bit, as the largest number that at most ``index`` values lie below. Sorting takes ten times as long.
    """
    inside = tf.expand_dims(tf.cast(among, tf.float32), 1)
    count = tf.cast(tf.reduce_sum(inside, axis=[2, 3], keepdims=True), tf.int32)
    index = tf.cast(tf.maximum(count - 1, 0) * RANK.numerator // RANK.denominator, tf.float32)
    values = values * inside + (1.0 - inside) * _OUTSIDE
    lowest = tf.reduce_min(values, axis=[2, 3], keepdims=True)
    values -= lowest
    found = tf.zeros_like(lowest)
    for bit in reversed(range(_BITS)):
        raised = found + float(1 << bit)
        below = tf.reduce_sum(tf.clip_by_value(raised - values, 0.0, 1.0), axis=[2, 3], keepdims=True)
        found += tf.clip_by_value(index - below + 1.0, 0.0, 1.0) * float(1 << bit)
    return found + lowest


def rank(cost: tf.Tensor, near: tf.Tensor) -> tf.Tensor:
    """Cost by which blocks are chosen: `coverslip.scheme.quantise.rank`; float32 [B, Hb, Wb], from cost and near, both float32."""
    return tf.minimum(cost, float(NEAR_PENALTY - 1)) + near * float(NEAR_PENALTY)


def choose(cost: tf.Tensor, usable: tf.Tensor, slots: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """The ``votes`` cheapest usable blocks of each slot.

    Parameters
    ----------
    cost : float32 [B, Hb, Wb]
        Grey levels squared, whole numbers.
    usable : bool [B, Hb, Wb]
    slots : int32 [B, Hb, Wb]
        0 to 8190.
    votes : int32 [B]
        At least 1.

    Returns
    -------
    bool [B, Hb, Wb]
        Ties go to the block that comes first.

    Notes
    -----
    One TOP_K sorts the usable blocks of all images by image, slot and cost; a block carries when the block ``votes`` places before it is
    of another slot. They are gathered first, since sorting is what takes the time; a TOP_K for fewer places than it is given takes longer
    than sorting them all, measured in TensorFlow.
    """
    shape = tf.shape(slots)
    image = tf.range(shape[0])[:, tf.newaxis, tf.newaxis]
    where = tf.squeeze(tf.cast(tf.where(tf.reshape(usable, [-1])), tf.int32), 1)
    group = tf.gather(tf.reshape(image * _SLOTS + slots, [-1]), where)
    price = tf.gather(tf.reshape(tf.cast(tf.minimum(cost, float(COST_CAP)), tf.int32), [-1]), where)
    keys = tf.cast(group, tf.int64) * (COST_CAP + 1) + tf.cast(price, tf.int64)
    count = tf.shape(where)[0]
    order = tf.math.top_k(-keys, count).indices
    group = tf.gather(group, order)
    before = tf.range(count) - tf.gather(votes, group // _SLOTS)
    first = (before < 0) | (group != tf.gather(group, tf.maximum(before, 0)))
    # A scatter takes its time for each place, so it gets the few blocks that carry and not every block.
    carrying = tf.gather(tf.gather(where, order), tf.where(first))
    chosen = tf.scatter_nd(carrying, tf.ones_like(carrying[:, 0]), [tf.reduce_prod(shape)])
    return tf.reshape(chosen, shape) > 0
