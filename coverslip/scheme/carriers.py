"""Which blocks may carry: not body, not padding, inside the legal range, and as dark as the air of
this image.

Two judges must agree before a pixel is touched. The network outlines the body and so covers what is
air-like inside it (lungs, bowel gas); the gate looks at intensities only and so covers a network
that missed skin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme.dct import COEFFICIENTS, SIDE, block_view, to_blocks

GATE_RANK = 0.3
GATE_SPAN = 2.5
GATE_FLOOR = 4
"""The gate's threshold is Q(max) + GATE_SPAN * Q(max - min) + GATE_FLOOR grey levels, with Q the
GATE_RANK quantile over the blocks outside the mask. Measured on labelled slices with the mask
eroded by 8 pixels all round: the low rank keeps the threshold at air's level even when a third of
what is left outside the mask is body; no air is lost where images are flat."""

NEAR = 6
"""Blocks next to those that the outline and its margin touch which are the second choice: what a
network misses lies next to what it finds."""

NOISE_RANK = 0.9
NOISE_SHARE = 0.12
"""Above this share of the way from the darkest pixel to the 98th percentile, the NOISE_RANK
quantile of what carriers span is no air's. Measured on 474 labelled slices: MR up to 0.08, CT up to
0.16 (one above 0.12); breast MR whose fat is suppressed 0.16 to 0.35."""


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


def quantile(values: NDArray[np.int64] | NDArray[np.int32], rank: float) -> int:
    """The value at index floor(rank (n - 1)) of the n sorted values [n]; no interpolation, so that
    every runtime agrees.
    """
    index = int(rank * (values.size - 1))
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


def gate_threshold(blocks: NDArray[np.int32], clear: NDArray[np.bool_]) -> int:
    """The brightest pixel that still counts as air, from blocks [Hb, Wb, 16] and the clear ones
    among them [Hb, Wb].

    Without a single clear block the threshold is below every pixel: nothing passes.
    """
    if not clear.any():
        return int(np.iinfo(np.int32).min)
    highest = blocks.max(axis=-1)[clear].astype(np.int64)
    span = highest - blocks.min(axis=-1)[clear]
    return quantile(highest, GATE_RANK) + int(GATE_SPAN * quantile(span, GATE_RANK)) + GATE_FLOOR


def allowed_blocks(
    pixels: NDArray[np.int32],
    mask: NDArray[np.uint8],
    legal: tuple[int, int],
    padding: int,
    margin: int,
) -> NDArray[np.bool_]:
    """Blocks that may carry: `clear_blocks` that also pass the gate; bool [H // 4, W // 4]."""
    clear = clear_blocks(pixels, mask, legal, padding, margin)
    blocks = to_blocks(pixels)
    return np.asarray(clear & (blocks.max(axis=-1) <= gate_threshold(blocks, clear)))


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
