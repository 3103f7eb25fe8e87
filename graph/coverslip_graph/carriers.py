"""Which blocks carry: `coverslip.scheme.carriers` and `coverslip.scheme.quantise.choose` as a graph
of stock operations.

Both runtimes sort with TOP_K, which ranks equal values by index, lowest first, and so breaks ties
as the reference does.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import tensorflow as tf

from coverslip.scheme.carriers import GATE_FLOOR, GATE_RANK, GATE_SPAN, NEAR
from coverslip.scheme.dct import SIDE
from coverslip.scheme.quantise import COST_CAP, NEAR_PENALTY
from coverslip_graph.blocks import at_least, per_image

RANK = Fraction(GATE_RANK).limit_denominator(100)
_BITS = 17
_OUTSIDE = 1e6
"""Above every pixel and every price, and whole numbers up to it are exact in float32."""

_SLOTS = 8192
"""Above every slot."""

SPARE, SAMPLE = 2, 8
"""Blocks that are sorted first, as a multiple of those wanted, and how far apart the blocks lie
that tell their price. Neither changes what is chosen, and between 1 and 4 the first hardly changes
the time."""


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
    Blocks with body are counted in squares of blocks, with two band matrices. The counts are whole
    numbers below 2^24, so float32 is exact.
    """
    reach = tf.cast((margin + (SIDE - 1)) // SIDE, tf.float32)[:, tf.newaxis, tf.newaxis]
    rows, cols = (_bands(tf.shape(mask)[axis] // SIDE, reach) for axis in (1, 2))
    return tf.minimum(tf.matmul(rows, tf.matmul(_body_blocks(mask), cols, transpose_b=True)), 1.0)


def _body_blocks(mask: tf.Tensor) -> tf.Tensor:
    """Blocks with body, and one more row and column of them: float32 [B, H // 4 + 1, W // 4 + 1], 0
    or 1, of masks uint8 [B, H, W].
    """
    return _fourths(_fourths(tf.cast(mask, tf.float32)))


def _fourths(plane: tf.Tensor) -> tf.Tensor:
    """The highest of every four rows of planes [B, M, N], lying on their side: float32 [B, N, M //
    4 + 1].

    What no full four rows cover is counted in the last place, with as many of the rows before it as
    make four: their body reaches farther from there as well. Extending the plane takes several
    times longer, and so does looking for the highest along rows.
    """
    parts = (_highest(part, SIDE, SIDE, "VALID") for part in (plane, plane[:, -SIDE:]))
    return tf.transpose(tf.concat(list(parts), 1), [0, 2, 1])


def near_blocks(touched: tf.Tensor) -> tf.Tensor:
    """Blocks that are at most `NEAR` blocks from one of those that the mask touches; float32 [B,
    Hb, Wb], 0 or 1, both.
    """
    return _spread(_spread(touched))


def _spread(plane: tf.Tensor) -> tf.Tensor:
    """The highest of the rows at most `NEAR` away, of planes [B, M, N], lying on their side:
    float32 [B, N, M].
    """
    return tf.transpose(_highest(plane, 2 * NEAR + 1, 1, "SAME"), [0, 2, 1])


def _highest(plane: tf.Tensor, rows: int, stride: int, edges: str) -> tf.Tensor:
    """The highest of so many rows, every ``stride`` rows, of planes [B, M, N]; ``edges`` as a
    pooling has them.
    """
    return tf.squeeze(tf.nn.max_pool2d(tf.expand_dims(plane, 2), [rows, 1], [stride, 1], edges), 2)


def _bands(count: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """1 where ``count`` places and those places and one more are within a reach [B, 1, 1] of each
    other: float32 [B, count, count + 1].
    """
    to = tf.cast(tf.range(count + 1), tf.float32)[tf.newaxis, tf.newaxis, :]
    at = tf.cast(tf.range(count), tf.float32)[tf.newaxis, :, tf.newaxis]
    return tf.clip_by_value(reach + 1.0 - tf.abs(to - at), 0.0, 1.0)


def allowed_blocks(
    blocks: tf.Tensor, touched: tf.Tensor, legal: tf.Tensor, padding: tf.Tensor
) -> tf.Tensor:
    """Blocks that may carry: outside the grown mask, without padding, inside the legal range, and
    past the gate.

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
    float32 [B, Hb, Wb]
        0 or 1.
    """
    highest = tf.reduce_max(blocks, axis=3)
    lowest = tf.reduce_min(blocks, axis=3)
    # Pixels are whole numbers: what is not padding is at least a level away from it. Comparing each
    # pixel takes longer.
    unpadded = tf.minimum(tf.reduce_min(tf.abs(blocks - per_image(padding)), axis=3), 1.0)
    legal_block = at_least(lowest, legal[:, 0:1, tf.newaxis]) * at_least(
        legal[:, 1:2, tf.newaxis], highest
    )
    clear = legal_block * unpadded * (1.0 - touched)
    return clear * at_least(_gate(highest, highest - lowest, clear), highest)


def _gate(highest: tf.Tensor, span: tf.Tensor, clear: tf.Tensor) -> tf.Tensor:
    """The brightest pixel that still counts as air: float32 [B, 1, 1], from [B, Hb, Wb]; of no use
    without a clear block.
    """
    level, spread = tf.unstack(_low_quantiles(tf.stack([highest, span], axis=1), clear), axis=1)
    return level + tf.floor(spread * GATE_SPAN) + GATE_FLOOR


def _low_quantiles(values: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """The value at index floor(GATE_RANK (n - 1)) of the n sorted values among which ``among``
    holds.

    Parameters
    ----------
    values : float32 [B, K, Hb, Wb]
        Whole numbers, less than 2^17 apart where ``among`` holds.
    among : float32 [B, Hb, Wb]
        0 or 1.

    Returns
    -------
    float32 [B, K, 1, 1]

    Notes
    -----
    Built bit by bit, as the largest number that at most ``index`` values lie below. Sorting takes
    ten times as long.
    """
    inside = tf.expand_dims(among, 1)
    count = tf.cast(tf.reduce_sum(inside, axis=[2, 3], keepdims=True), tf.int32)
    index = tf.cast(tf.maximum(count - 1, 0) * RANK.numerator // RANK.denominator, tf.float32)
    values = _only(values, inside)
    lowest = tf.reduce_min(values, axis=[2, 3], keepdims=True)
    values -= lowest
    found = tf.zeros_like(lowest)
    for bit in reversed(range(_BITS)):
        raised = found + float(1 << bit)
        below = tf.reduce_sum(
            tf.clip_by_value(raised - values, 0.0, 1.0), axis=[2, 3], keepdims=True
        )
        found += at_least(index, below) * float(1 << bit)
    return found + lowest


def _only(values: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Values where ``inside`` is 1, and `_OUTSIDE` where it is 0."""
    return values * inside + (1.0 - inside) * _OUTSIDE


def rank(cost: tf.Tensor, near: tf.Tensor) -> tf.Tensor:
    """Cost by which blocks are chosen: `coverslip.scheme.quantise.rank`; float32 [B, Hb, Wb], from
    cost and near, both float32.
    """
    return tf.minimum(cost, float(NEAR_PENALTY - 1)) + near * float(NEAR_PENALTY)


def choose(cost: tf.Tensor, usable: tf.Tensor, slots: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """The ``votes`` cheapest usable blocks of each slot.

    Parameters
    ----------
    cost : float32 [B, Hb, Wb]
        Grey levels squared, whole numbers.
    usable : float32 [B, Hb, Wb]
        0 or 1.
    slots : int32 [B, Hb, Wb]
        0 to 8190.
    votes : int32 [B]
        At least 1.

    Returns
    -------
    float32 [B, Hb, Wb]
        0 or 1. Ties go to the block that comes first.

    Notes
    -----
    Sorting is what takes the time, so most blocks are kept out of it: first the cheap ones are
    sorted, then, in slots that have too few of those, all. Where the line between them lies makes
    no difference to what is chosen.
    """
    shape = tf.shape(slots)
    price = tf.minimum(cost, float(COST_CAP))
    whole = tf.cast(tf.reshape(price, [-1]), tf.int64)
    group = tf.reshape(tf.range(shape[0])[:, tf.newaxis, tf.newaxis] * _SLOTS + slots, [-1])
    known = _only(price, usable)
    cheap = _cheapest(whole, group, at_least(_line(known, slots, votes), known), votes)
    rest = _cheapest(
        whole, group, usable * tf.reshape(tf.gather(_lacking(cheap, votes), group), shape), votes
    )
    places = tf.concat([cheap.place, rest.place], 0)
    # A scatter takes its time for each place, so it gets the few blocks that carry and not every
    # block.
    chosen = tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(places), [tf.reduce_prod(shape)])
    return tf.minimum(tf.cast(tf.reshape(chosen, shape), tf.float32), 1.0)


def _line(price: tf.Tensor, slots: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """A price that about `SPARE` times as many blocks as are wanted do not pass: float32 [B, 1, 1],
    below `_OUTSIDE`.

    Told from every eighth block of every eighth row.
    """
    sample = tf.reshape(price[:, ::SAMPLE, ::SAMPLE], [tf.shape(price)[0], -1])
    last = tf.shape(sample)[1] - 1
    wanted = (
        tf.cast(votes, tf.float32)
        * tf.cast(tf.reduce_max(slots, [1, 2]) + 1, tf.float32)
        * (SPARE / SAMPLE**2)
    )
    index = tf.cast(tf.minimum(wanted, tf.cast(last, tf.float32)), tf.int32)
    line = -tf.gather(tf.math.top_k(-sample, last + 1).values, index, batch_dims=1)
    return tf.minimum(line, float(COST_CAP))[:, tf.newaxis, tf.newaxis]


class _Chosen(NamedTuple):
    """Blocks of all images in one row; int32 [N] both.

    Attributes
    ----------
    place
        Where each block is in that row.
    group
        `_SLOTS` times the number of its image, plus its slot.
    """

    place: tf.Tensor
    group: tf.Tensor


def _lacking(chosen: _Chosen, votes: tf.Tensor) -> tf.Tensor:
    """1 for groups of which fewer blocks than ``votes`` are chosen, else 0: float32 [B *
    _SLOTS].
    """
    wanted = tf.repeat(votes, _SLOTS)
    found = tf.scatter_nd(chosen.group[:, tf.newaxis], tf.ones_like(chosen.group), tf.shape(wanted))
    return tf.cast(found < wanted, tf.float32)


def _cheapest(price: tf.Tensor, group: tf.Tensor, among: tf.Tensor, votes: tf.Tensor) -> _Chosen:
    """The ``votes`` cheapest of each group among some blocks.

    Parameters
    ----------
    price, group : int64 and int32 [B * Hb * Wb]
        Price up to `COST_CAP`; group as in `_Chosen`.
    among : float32 [B, Hb, Wb]
        0 or 1.
    votes : int32 [B]
        At least 1.

    Notes
    -----
    A block is chosen when the block ``votes`` places before it, sorted by group and price, is of
    another group. A TOP_K for fewer places than it is given takes longer than sorting them all,
    measured in TensorFlow.
    """
    where = tf.squeeze(tf.cast(tf.where(tf.reshape(among, [-1]) > 0.5), tf.int32), 1)
    keys = tf.gather(tf.cast(group, tf.int64) * (COST_CAP + 1) + price, where)
    count = tf.shape(where)[0]
    places = tf.gather(where, tf.math.top_k(-keys, count).indices)
    ranked = tf.gather(group, places)
    before = tf.range(count) - tf.gather(votes, ranked // _SLOTS)
    first = (before < 0) | (ranked != tf.gather(ranked, tf.maximum(before, 0)))
    chosen = tf.squeeze(tf.cast(tf.where(first), tf.int32), 1)
    return _Chosen(tf.gather(places, chosen), tf.gather(ranked, chosen))
