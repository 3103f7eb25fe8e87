"""Which blocks may carry: not body, not padding, inside the legal range, and air by every measure
that this image offers.

Three judges must agree before a pixel is touched.

- The network's *outline* covers what is air-like inside the body: lungs, bowel gas.
- The *gate* looks at intensities only and so covers a network that missed skin: a block's own
  pixels must be as dark and as even as this image's air, and so must the mean of the 5 x 5 blocks
  around it, by which faint tissue differs from air where single pixels do not.
- The *hull*: air lies outside the convex hull of the outline and of all that is much brighter than
  air. What is dark inside it is lung that is open to the frame's edge, the gap between two tiles of
  a mosaic, or the space between legs.

Measured on 474 labelled slices: no block with a pixel of the body is allowed, also where the
outline is eroded by 8 pixels, ends at the body's middle, or is a dot of 16 x 16 pixels; outline and
pixel gate alone, as models 1 to 6 have them, allowed some on 2, 93, 238 and 359 of these.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme.dct import COEFFICIENTS, SIDE, block_view, to_blocks

GATE_RANK = 0.3
GATE_SPAN = 2.5
GATE_FLOOR = 4
"""With Q the GATE_RANK quantile over the blocks that count as air (`measure_air`), a block spans at
most GATE_SPAN * Q(max - min) + GATE_FLOOR grey levels, and its brightest pixel is at most that
above Q(max). The low rank keeps both at air's level even when a third of what is left outside the
mask is body; no air is lost where images are flat. What spans more is an edge, mostly of the circle
that a CT is reconstructed in."""

SAMPLE = 2
"""Quantiles are taken over every second block of every second row, in a quarter of the time: as
many
of the 474 slices carry as with all blocks."""

UNEVEN_SHARE = 8
"""Blocks of one value are padding or masked out more often than air, so quantiles leave them out,
unless more than 7 of 8 clear blocks are such: then what is not lies about the body."""

BRIGHT_RANK = 0.98
"""Contrast is the way from the air's level to this quantile of the blocks' sums."""

WINDOW = 2
"""Blocks in every direction that the mean about a block is taken over, those of one value and those
with padding left out."""

SURROUNDINGS_LIMIT = 1 << 15
"""What one block counts for in that mean, 2048 grey levels on average over its pixels: sums of five
blocks then are whole numbers that a 32-bit graph gets back from their mean."""

RISE_SHARE, RISE_SPAN = 64, 2
"""Air's surroundings are at most contrast / RISE_SHARE + RISE_SPAN * Q(max - min) / 16 above its
level, and at most what the gate allows a pixel. Half or twice the first changes the share of
slices that carry by less than 1 %."""

HULL_SHARE = 32
"""Surroundings more than contrast / HULL_SHARE above the air are in the hull. At 1/16 it leaves out
fat-suppressed muscle, of which the network may miss half. Of the 474 slices 96.8 % carry with
`default` (97.5 % by outline and pixel gate alone); at 1/16 it is 98.3 %, at 1/64 95.4 %."""

SLOPES = (0, 2, -2, 3, -3, 5, -5, 8, -8, 12, -12, 20, -20, 40, -40)
"""Sides of the hull in eighths of a column for each row: tangents of about every eleventh degree.
With the first and last row they make 32 half-planes."""

NEAR = 6
"""Blocks next to those that the outline and its margin touch which are the second choice: what a
network misses lies next to what it finds."""

NOISE_RANK = 0.9
NOISE_SHARE = 0.12
"""Above this share of the way from the darkest pixel to the 98th percentile, the NOISE_RANK
quantile of what carriers span is no air's. Measured on 474 labelled slices: CT up to 0.10, MR up to
0.07; breast MR whose fat is suppressed up to 0.2."""


MARGIN_SHARE, WIDEST_MARGIN = 64, 32
"""The margin is at least the longer side / MARGIN_SHARE, and at most what engines take. The network
sees 256 pixels a side, so 4 of its pixels are kept clear, in a matrix of 1024 as in one of 512."""


def margin_for(margin: int, height: int, width: int) -> int:
    """The margin for an image of some size, pixels, from a profile's own."""
    return max(margin, min(-(-max(height, width) // MARGIN_SHARE), WIDEST_MARGIN))


def dilate(mask: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """Grow a mask [H, W] by ``margin`` pixels in every direction (square structuring element)."""
    grown = mask
    for axis in (0, 1):
        padded = np.pad(grown, [(margin, margin) if a == axis else (0, 0) for a in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * margin + 1, axis=axis)
        grown = windows.max(axis=-1)
    return grown


def touched_blocks(mask: NDArray[np.uint8], margin: int) -> NDArray[np.bool_]:
    """Blocks with a pixel of the mask [H, W], and those around them as far as a margin in pixels
    goes, rounded up to whole blocks.

    Returns bool [H // 4, W // 4]. No other block has a pixel within the margin of the mask; where
    the margin is a multiple of 4, all of these have one.
    """
    height, width = mask.shape
    whole = np.pad(mask, [(0, -height % SIDE), (0, -width % SIDE)])
    body = to_blocks(whole).any(axis=-1).astype(np.uint8)
    return np.asarray(dilate(body, -(-margin // SIDE))[: height // SIDE, : width // SIDE] > 0)


def near_blocks(touched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks that are at most `NEAR` blocks from one of those that the mask touches; bool [Hb, Wb]
    both.

    They carry only where farther ones are too few.
    """
    return dilate(touched.astype(np.uint8), NEAR) > 0


def as_fraction(rank: float) -> Fraction:
    """A rank as the nearest fraction whose denominator is at most 100: runtimes calculate the index
    in whole numbers.
    """
    return Fraction(rank).limit_denominator(100)


def quantile(values: NDArray[np.int64] | NDArray[np.int32], rank: float) -> int:
    """The value at index floor(rank (n - 1)) of the n sorted values [n]; no interpolation, so that
    every runtime agrees. The rank is taken as `as_fraction` has it.
    """
    index = int((values.size - 1) * as_fraction(rank))
    lowest = int(values.min())
    if (
        int(values.max()) - lowest < values.size
    ):  # counting is several times as quick where values repeat
        return lowest + int(
            np.searchsorted(np.cumsum(np.bincount(values - lowest)), index, side="right")
        )
    return int(np.partition(values, index)[index])


def clear_blocks(
    pixels: NDArray[np.int32],
    mask: NDArray[np.uint8],
    legal: tuple[int, int],
    padding: int,
    margin: int,
) -> NDArray[np.bool_]:
    """Blocks outside the dilated mask, without padding and inside the legal range.

    Parameters
    ----------
    pixels : int32 [H, W]
    mask : uint8 [H, W]
        1 = body.
    legal : (lo, hi)
        Lowest and highest legal pixel, inclusive.
    padding : int
        Pixel padding value; anything below lo for none.
    margin : int
        Pixels kept clear around the mask.

    Returns
    -------
    bool [H // 4, W // 4]
    """
    lo, hi = legal
    wrong = (pixels == padding) | (pixels < lo) | (pixels > hi)
    return np.asarray(~(to_blocks(wrong).any(axis=-1) | touched_blocks(mask, margin)))


class Levels(NamedTuple):
    """What the pixels of each block come to.

    Attributes
    ----------
    highest, span, sums : int64 [Hb, Wb]
        Highest pixel, highest less lowest, and sum; grey levels.
    counted : bool [Hb, Wb]
        Has more than one value and no padding.
    """

    highest: NDArray[np.int64]
    span: NDArray[np.int64]
    sums: NDArray[np.int64]
    counted: NDArray[np.bool_]


def measure_blocks(blocks: NDArray[np.int32], padding: int) -> Levels:
    """Levels of blocks [Hb, Wb, 16]."""
    highest = blocks.max(axis=-1).astype(np.int64)
    span = highest - blocks.min(axis=-1)
    counted = (span > 0) & (blocks != padding).all(axis=-1)
    return Levels(highest, span, blocks.sum(axis=-1, dtype=np.int64), counted)


class Air(NamedTuple):
    """What counts as air in one image, in grey levels; sums are of the 16 pixels of a block.

    Attributes
    ----------
    brightest : int
        Brightest pixel.
    span : int
        Widest span of a block's pixels.
    surroundings : int
        Highest mean of the blocks' sums about a block.
    hull : int
        Mean of the blocks' sums about a block above which it is in the hull.
    """

    brightest: int
    span: int
    surroundings: int
    hull: int


def measure_air(levels: Levels, clear: NDArray[np.bool_]) -> Air | None:
    """What counts as air, told from the blocks that may be it.

    Parameters
    ----------
    levels : Levels
        Of all blocks.
    clear : bool [Hb, Wb]
        From `clear_blocks`.

    Returns
    -------
    Air or None
        None where no block of the sample is clear.
    """
    every = np.s_[::SAMPLE, ::SAMPLE]
    highest, span, sums = (plane[every] for plane in (levels.highest, levels.span, levels.sums))
    counted, clear = levels.counted[every], clear[every]
    if not clear.any():
        return None
    uneven = clear & counted
    air = uneven if UNEVEN_SHARE * uneven.sum() >= clear.sum() else clear
    level, spread = quantile(sums[air], GATE_RANK), quantile(span[air], GATE_RANK)
    bright = quantile(sums[counted], BRIGHT_RANK) if counted.any() else level
    contrast = max(bright - level, 0)
    reach = int(GATE_SPAN * spread) + GATE_FLOOR
    rise = min(contrast // RISE_SHARE + RISE_SPAN * spread, COEFFICIENTS * reach)
    return Air(
        brightest=quantile(highest[air], GATE_RANK) + reach,
        span=reach,
        surroundings=level + rise,
        hull=level + max(contrast // HULL_SHARE, rise),
    )


def surroundings_exceed(levels: Levels, bound: int) -> NDArray[np.bool_]:
    """Blocks about which the mean of the blocks' sums is above a bound; bool [Hb, Wb].

    Only what is ``counted`` counts, and a block for at most `SURROUNDINGS_LIMIT` more or less than
    the bound.
    """
    total = np.clip(levels.sums - bound, -SURROUNDINGS_LIMIT, SURROUNDINGS_LIMIT)
    total *= levels.counted
    for axis in (0, 1):
        padded = np.pad(total, [(WINDOW, WINDOW) if a == axis else (0, 0) for a in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * WINDOW + 1, axis=axis)
        total = windows.sum(axis=-1)
    return np.asarray(total > 0)


def hull_blocks(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Blocks in the convex hull of some [Hb, Wb], as far as `SLOPES` follow it; bool [Hb, Wb].

    Of each row only the first and the last block matter: a side of the hull is a slope, and the
    place in the first row at which it clears all of them.
    """
    rows = np.flatnonzero(blocks.any(axis=1))
    if not rows.size:
        return np.zeros_like(blocks)
    row, column = (np.arange(count) for count in blocks.shape)
    slopes = np.array(SLOPES)[:, np.newaxis]
    away = slopes * row
    last = 8 * np.where(blocks, column, column - column.size).max(axis=1)
    first = 8 * np.where(blocks, column, column + column.size).min(axis=1)
    held = slopes * rows
    right = ((last[rows] + held).max(axis=1, keepdims=True) - away).min(axis=0)
    left = ((first[rows] + held).min(axis=1, keepdims=True) - away).max(axis=0)
    spanned = (row >= rows[0]) & (row <= rows[-1])
    across = 8 * column
    inside = (across >= left[:, np.newaxis]) & (across <= right[:, np.newaxis])
    return np.asarray(inside & spanned[:, np.newaxis])


def allowed_blocks(
    pixels: NDArray[np.int32],
    mask: NDArray[np.uint8],
    legal: tuple[int, int],
    padding: int,
    margin: int,
) -> NDArray[np.bool_]:
    """Blocks that may carry: `clear_blocks` that gate and hull leave; bool [H // 4, W // 4]."""
    clear = clear_blocks(pixels, mask, legal, padding, margin)
    levels = measure_blocks(to_blocks(pixels), padding)
    air = measure_air(levels, clear)
    if air is None:
        return np.zeros_like(clear)
    far_brighter = surroundings_exceed(levels, air.hull)
    outside = ~hull_blocks(touched_blocks(mask, margin) | far_brighter)
    gate = (levels.highest <= air.brightest) & (levels.span <= air.span)
    gate &= ~surroundings_exceed(levels, air.surroundings)
    return np.asarray(clear & gate & outside)


def is_noisy(pixels: NDArray[np.int32], carriers: NDArray[np.bool_]) -> bool:
    """Whether the blocks that carry are as uneven as tissue: then nothing tells air from dark
    tissue, and neither judge can be believed.

    Parameters
    ----------
    pixels : int32 [H, W]
        The cover.
    carriers : bool [H // 4, W // 4]
        At least one of them.
    """
    blocks = block_view(pixels)[carriers].reshape(-1, COEFFICIENTS).astype(np.int64)
    darkest = int(pixels.min())
    bright = quantile(pixels.ravel(), 0.98) - darkest
    return quantile(blocks.max(axis=-1) - blocks.min(axis=-1), NOISE_RANK) > max(
        NOISE_SHARE * bright, GATE_FLOOR
    )
