"""Which blocks carry: `coverslip.scheme.carriers` and `coverslip.scheme.quantise.choose` as a graph
of stock operations.

Both runtimes sort with TOP_K, which ranks equal values by index, lowest first, and so breaks ties
as the reference does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from coverslip.scheme import carriers as scheme
from coverslip.scheme.carriers import NEAR, SLOPES, WINDOW
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.quantise import COST_CAP, FLAT_PENALTY, NEAR_PENALTY
from coverslip_graph.blocks import apply, at_least, per_image

RANKS = tuple(map(scheme.as_fraction, (scheme.GATE_RANK,) * 3 + (scheme.BRIGHT_RANK,)))
"""Of the four quantiles that are taken at once."""

_BITS = 20
"""Of the sum of a block of 16-bit pixels."""

_OUTSIDE = float(1 << 21)
"""Above every pixel, every sum and every price, and whole numbers up to it are exact in float32."""

_FAR = float(1 << 18)
"""More columns than a plane has, and more than a side of the hull moves along all rows."""

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


class Levels(NamedTuple):
    """`coverslip.scheme.carriers.Levels`; float32 [B, Hb, Wb] all.

    Attributes
    ----------
    highest, span, sums
        As there.
    uneven
        1 = the block has more than one value, else 0.
    unpadded
        1 = no pixel of the block is padding, else 0.
    counted
        1 = both, else 0.
    """

    highest: tf.Tensor
    span: tf.Tensor
    sums: tf.Tensor
    uneven: tf.Tensor
    unpadded: tf.Tensor
    counted: tf.Tensor


def measure_blocks(blocks: tf.Tensor, padding: tf.Tensor) -> Levels:
    """Levels of blocks float32 [B, Hb, Wb, 16] with pixel padding values float32 [B]."""
    highest = tf.reduce_max(blocks, axis=3)
    span = highest - tf.reduce_min(blocks, axis=3)
    # A product with ones takes two thirds of the time of a sum.
    sums = tf.squeeze(apply(np.ones((1, COEFFICIENTS)), blocks, np.zeros(1)), 3)
    uneven = tf.minimum(span, 1.0)
    # Pixels are whole numbers: what is not padding is at least a level away from it. Comparing each
    # pixel takes longer.
    unpadded = tf.minimum(tf.reduce_min(tf.abs(blocks - per_image(padding)), axis=3), 1.0)
    return Levels(highest, span, sums, uneven, unpadded, uneven * unpadded)


def allowed_blocks(levels: Levels, touched: tf.Tensor, legal: tf.Tensor) -> tf.Tensor:
    """Blocks that may carry: outside the grown mask, without padding, inside the legal range, and
    past gate and hull.

    Parameters
    ----------
    levels : Levels
    touched : float32 [B, Hb, Wb]
        From `touched_blocks`.
    legal : float32 [B, 2]
        Lowest and highest legal pixel, inclusive.

    Returns
    -------
    float32 [B, Hb, Wb]
        0 or 1.
    """
    lowest = levels.highest - levels.span
    legal_block = at_least(lowest, legal[:, 0:1, tf.newaxis])
    legal_block *= at_least(legal[:, 1:2, tf.newaxis], levels.highest)
    clear = legal_block * levels.unpadded * (1.0 - touched)
    air = _measure_air(levels, clear)
    brighter, far_brighter = _surroundings_exceed(levels, [air.surroundings, air.hull])
    gate = at_least(air.brightest, levels.highest) * at_least(air.span, levels.span)
    outside = 1.0 - hull_blocks(tf.maximum(touched, far_brighter))
    return clear * air.known * gate * (1.0 - brighter) * outside


class _Air(NamedTuple):
    """`coverslip.scheme.carriers.Air`; float32 [B, 1, 1] all.

    Attributes
    ----------
    brightest, span, surroundings, hull
        As there.
    known
        1 = there was a block to tell them from, else 0.
    """

    brightest: tf.Tensor
    span: tf.Tensor
    surroundings: tf.Tensor
    hull: tf.Tensor
    known: tf.Tensor


def _measure_air(levels: Levels, clear: tf.Tensor) -> _Air:
    """What counts as air: `coverslip.scheme.carriers.measure_air`."""
    planes = [levels.highest, levels.span, levels.sums, levels.counted, clear]
    highest, span, sums, counted, clear = _sample(planes)
    even_too = at_least(_count(clear) - 1.0, scheme.UNEVEN_SHARE * _count(clear * counted))
    air = clear * tf.maximum(counted, even_too)
    found = _quantiles(
        tf.stack([highest, span, sums, sums], axis=1),
        tf.stack([air, air, air, counted], axis=1),
    )
    brightest, spread, level, bright = tf.unstack(found, axis=1)
    contrast = tf.nn.relu(bright - level) * tf.minimum(_count(counted), 1.0)
    reach = tf.floor(spread * scheme.GATE_SPAN) + scheme.GATE_FLOOR
    rise = tf.floor(contrast * (1 / scheme.RISE_SHARE)) + spread * scheme.RISE_SPAN
    rise = tf.minimum(rise, reach * COEFFICIENTS)
    hull = tf.maximum(tf.floor(contrast * (1 / scheme.HULL_SHARE)), rise)
    return _Air(
        brightest + reach, reach, level + rise, level + hull, tf.minimum(_count(clear), 1.0)
    )


def _count(blocks: tf.Tensor) -> tf.Tensor:
    """How many of blocks [B, Hb, Wb] are 1: float32 [B, 1, 1]."""
    return tf.reduce_sum(blocks, axis=[1, 2], keepdims=True)


def _sample(planes: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Every `SAMPLE`-th block of every such row of planes [B, Hb, Wb], in no order that matters.

    Pooling over one row takes a third of the time of a slice with steps.
    """
    every = tf.concat(planes, axis=0)
    for _ in range(2):
        every = tf.transpose(_highest(every, 1, scheme.SAMPLE, "SAME"), [0, 2, 1])
    return tf.split(every, len(planes), axis=0)


def _surroundings_exceed(levels: Levels, bounds: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Blocks about which the mean is above each of some bounds [B, 1, 1]:
    `coverslip.scheme.carriers.surroundings_exceed`; float32 [B, Hb, Wb], 0 or 1.

    Notes
    -----
    Sums are told from means, since pooling over rows takes a tenth of the time of adding, and of
    pooling over squares. There are 1 to 5 rows, and 60 is a multiple of each: that many times the
    mean is a whole number, to which it is rounded. The mean of these has the sign of their sum, and
    is at least 1 / 5 where that is above 0.
    """
    limit = float(scheme.SURROUNDINGS_LIMIT)
    above = tf.concat(
        [tf.clip_by_value(levels.sums - bound, -limit, limit) * levels.counted for bound in bounds],
        axis=0,
    )
    above = _mean_about(tf.round(_mean_about(above) * 60))
    return tf.split(tf.clip_by_value(above * 8, 0.0, 1.0), len(bounds), axis=0)


def _mean_about(plane: tf.Tensor) -> tf.Tensor:
    """The mean of the rows at most `WINDOW` away, of planes [B, M, N], lying on their side: float32
    [B, N, M].
    """
    rows = tf.nn.avg_pool2d(tf.expand_dims(plane, 2), [2 * WINDOW + 1, 1], 1, "SAME")
    return tf.transpose(tf.squeeze(rows, 2), [0, 2, 1])


def hull_blocks(blocks: tf.Tensor) -> tf.Tensor:
    """Blocks in the convex hull of some: `coverslip.scheme.carriers.hull_blocks`; float32
    [B, Hb, Wb], 0 or 1, both.
    """
    shape = tf.shape(blocks)
    row, column = (tf.cast(tf.range(shape[axis]), tf.float32) for axis in (1, 2))
    # A row without such blocks is as if its last were far to the left and its first far to the
    # right.
    last = tf.reduce_max(blocks * (column + _FAR), axis=2) - _FAR
    first = tf.reduce_min(blocks * (column - _FAR), axis=2) + _FAR
    away = np.array(SLOPES, np.float32)[:, np.newaxis] * row
    right = _edge(last, away)
    left = -_edge(-first, -away)
    held = tf.reduce_max(blocks, axis=2)
    bottom = tf.reduce_max(held * (row + _FAR), axis=1, keepdims=True) - _FAR
    top = tf.reduce_min(held * (row - _FAR), axis=1, keepdims=True) + _FAR
    spanned = at_least(row, top) * at_least(bottom, row)
    across = column * 8
    inside = at_least(across, tf.expand_dims(left, 2)) * at_least(tf.expand_dims(right, 2), across)
    return inside * tf.expand_dims(spanned, 2)


def _edge(last: tf.Tensor, away: tf.Tensor) -> tf.Tensor:
    """Where each row leaves the hull on its right, in eighths of a column: float32 [B, Hb].

    Parameters
    ----------
    last : float32 [B, Hb]
        Last block of each row.
    away : float32 [K, Hb]
        How far to the left each slope has come in each row, in eighths.
    """
    furthest = tf.reduce_max(tf.expand_dims(last * 8, 1) + away, axis=2, keepdims=True)
    return tf.reduce_min(furthest - away, axis=1)


def _quantiles(values: tf.Tensor, among: tf.Tensor) -> tf.Tensor:
    """The value at index floor(rank (n - 1)) of the n sorted values among which ``among`` holds,
    for each of `RANKS`.

    Parameters
    ----------
    values : float32 [B, 4, Hb, Wb]
        Whole numbers, less than 2^20 apart where ``among`` holds.
    among : float32 [B, 4, Hb, Wb]
        0 or 1.

    Returns
    -------
    float32 [B, 4, 1, 1]

    Notes
    -----
    Built bit by bit, as the largest number that at most ``index`` values lie below. Sorting takes
    ten times as long.
    """
    count = tf.cast(tf.reduce_sum(among, axis=[2, 3], keepdims=True), tf.int32)
    above, below = (
        np.array(part, np.int32).reshape(-1, 1, 1)
        for part in zip(*((rank.numerator, rank.denominator) for rank in RANKS), strict=True)
    )
    index = tf.cast(tf.maximum(count - 1, 0) * above // below, tf.float32)
    values = _only(values, among)
    lowest = tf.reduce_min(values, axis=[2, 3], keepdims=True)
    values -= lowest
    found = tf.zeros_like(lowest)
    for bit in reversed(range(_BITS)):
        raised = found + float(1 << bit)
        lower = tf.clip_by_value(raised - values, 0.0, 1.0)
        lower = tf.reduce_sum(lower, axis=[2, 3], keepdims=True)
        found += at_least(index, lower) * float(1 << bit)
    return found + lowest


def _only(values: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Values where ``inside`` is 1, and `_OUTSIDE` where it is 0."""
    return values * inside + (1.0 - inside) * _OUTSIDE


def rank(cost: tf.Tensor, near: tf.Tensor, uneven: tf.Tensor) -> tf.Tensor:
    """Price by which blocks are chosen: `coverslip.scheme.quantise.rank`; float32 [B, Hb, Wb], from
    cost, near, and whether blocks have more than one value, all float32.
    """
    own = tf.minimum(cost, float(NEAR_PENALTY - 1))
    return own + near * float(NEAR_PENALTY) + (1.0 - uneven) * float(FLAT_PENALTY)


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
