"""Which blocks carry: `coverslip.scheme.carriers` and `coverslip.scheme.quantise.choose` as a graph of stock operations.

Both runtimes sort with TOP_K, which ranks equal values by index, lowest first, and so breaks ties as the reference does.
"""

from __future__ import annotations

from fractions import Fraction

import tensorflow as tf

from coverslip.scheme.carriers import GATE_FLOOR, GATE_RANK, GATE_SPAN
from coverslip.scheme.dct import SIDE
from coverslip.scheme.quantise import COST_CAP, NEAR_PENALTY

RANK = Fraction(GATE_RANK).limit_denominator(100)
_BITS = 17
_OUTSIDE = 1e6
"""Above every pixel, and whole numbers up to it are exact in float32."""

_LAST = (1 << 31) - 1
"""Above every sorting key."""


def near_mask(mask: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Blocks that the mask, grown by a margin, touches.

    Parameters
    ----------
    mask : uint8 [B, H, W]
        1 = body.
    margin : int32 [B]
        Pixels to grow the mask by in every direction, from 0.

    Returns
    -------
    bool [B, H // 4, W // 4]

    Notes
    -----
    Growing by a square and asking 4 x 4 blocks is asking larger squares: count the body's pixels in each with two band matrices.
    The counts are whole numbers below 2^24, so float32 is exact.
    """
    shape = tf.shape(mask)
    rows = _bands(shape[1], margin)
    cols = _bands(shape[2], margin)
    inside = tf.matmul(tf.cast(mask, tf.float32), cols, transpose_b=True)
    return tf.matmul(rows, inside) > 0.5


def _bands(size: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """1 where pixel ``x`` is within a margin of block ``k``: float32 [B, size // 4, size]."""
    pixel = tf.cast(tf.range(size), tf.float32)[tf.newaxis, tf.newaxis, :]
    centre = (tf.cast(tf.range(size // SIDE), tf.float32) * SIDE + (SIDE - 1) / 2)[tf.newaxis, :, tf.newaxis]
    reach = tf.cast(margin, tf.float32)[:, tf.newaxis, tf.newaxis] + (SIDE + 1) / 2
    return tf.clip_by_value(reach - tf.abs(pixel - centre), 0.0, 1.0)


def allowed_blocks(blocks: tf.Tensor, mask: tf.Tensor, legal: tf.Tensor, padding: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """Blocks that may carry: outside the grown mask, without padding, inside the legal range, and past the gate.

    Parameters
    ----------
    blocks : float32 [B, Hb, Wb, 16]
        Pixels.
    mask : uint8 [B, H, W]
        1 = body.
    legal : float32 [B, 2]
        Lowest and highest legal pixel, inclusive.
    padding : float32 [B]
        Pixel padding value.
    margin : int32 [B]
        Pixels kept clear around the mask.

    Returns
    -------
    bool [B, Hb, Wb]
    """
    highest = tf.reduce_max(blocks, axis=3)
    lowest = tf.reduce_min(blocks, axis=3)
    to_padding = tf.reduce_min(tf.abs(blocks - padding[:, tf.newaxis, tf.newaxis, tf.newaxis]), axis=3)
    legal_block = (lowest >= legal[:, 0:1, tf.newaxis]) & (highest <= legal[:, 1:2, tf.newaxis])
    clear = legal_block & (to_padding > 0) & ~near_mask(mask, margin)
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
    """Cost by which blocks are chosen: `coverslip.scheme.quantise.rank`; float32 [B, Hb, Wb], from cost float32 and near bool."""
    return tf.minimum(cost, float(NEAR_PENALTY - 1)) + tf.cast(near, tf.float32) * float(NEAR_PENALTY)


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
    One TOP_K sorts the usable blocks by slot and then by cost; a block carries when the block ``votes`` places before it is
    of another slot.
    """
    shape = tf.shape(slots)
    keys = slots * (COST_CAP + 1) + tf.cast(tf.minimum(cost, float(COST_CAP)), tf.int32)
    keys = tf.reshape(tf.where(usable, -keys, -_LAST), [shape[0], -1])
    count = tf.reduce_sum(tf.reshape(tf.cast(usable, tf.int32), [shape[0], -1]), axis=1)
    # One place at least: a TOP_K of nothing has nothing to gather from.
    ranked, where = tf.math.top_k(keys, tf.maximum(tf.reduce_max(count), 1))
    place = tf.range(tf.shape(ranked)[1])[tf.newaxis, :]
    slot = (-ranked) // (COST_CAP + 1)
    before = place - votes[:, tf.newaxis]
    other = slot != tf.gather(slot, tf.maximum(before, 0), batch_dims=1)
    first = ((before < 0) | other) & (place < count[:, tf.newaxis])
    size = tf.shape(keys)[1]
    flat = where + (tf.range(shape[0]) * size)[:, tf.newaxis]
    chosen = tf.scatter_nd(tf.reshape(flat, [-1, 1]), tf.reshape(tf.cast(first, tf.int32), [-1]), [shape[0] * size])
    return tf.reshape(chosen, shape) > 0
