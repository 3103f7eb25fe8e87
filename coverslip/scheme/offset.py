"""Where a cropped image lay in the one that was embedded: rows and columns cut away by any amount.

Twice a carrier's phase is the same for a 0 and a 1 when alpha is a quarter, so the doubled phases
of an image, turned back by the doubled dither at the right offset, all point one way. The offset is
the peak of that sum, found for each of the 16 pixel alignments by one correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme.dct import SIDE
from coverslip.scheme.dither import dither_plane
from coverslip.scheme.quantise import PHASES
from coverslip.scheme.reference import measure_plane

FARTHEST = 256
"""Blocks that may have been cut away above or to the left: 1024 pixels."""

_USUAL = 64
"""Blocks that are searched first: a quarter of the side makes the search several times shorter."""

_THRESHOLD = 7.0
"""Standard deviations of chance; the best of the 10^6 offsets that are tried reaches 5.3."""


@dataclass(frozen=True)
class Offset:
    """Place of a cropped image in the embedded one.

    Attributes
    ----------
    align : (int, int)
        Rows and columns to leave out until the grid of blocks is met, 0 to 3.
    blocks : (int, int)
        Row and column, in the embedded image's grid, of the first block after that.
    significance : float
        Height of the peak in standard deviations of chance.
    """

    align: tuple[int, int]
    blocks: tuple[int, int]
    significance: float


def _turned(phases: NDArray[np.uint8], coefficients: list[int]) -> NDArray[np.complex64]:
    circle: NDArray[np.complex64] = np.exp(4j * np.pi * np.arange(PHASES) / PHASES).astype(
        np.complex64
    )
    return circle[np.moveaxis(phases[..., coefficients], -1, 0)]


def _peak(
    measured: NDArray[np.uint8],
    spectrum: NDArray[np.complex64],
    coefficients: list[int],
    reach: int,
) -> tuple[float, tuple[int, int]]:
    field = _turned(measured, coefficients)
    size = spectrum.shape[1:]
    product = np.zeros(size, dtype=np.complex64)
    for channel, dither in zip(field, spectrum, strict=True):
        product += dither * np.conj(np.fft.fft2(np.conj(channel), size))
    # A carrier's doubled phase is half a turn: the sum points to -1.
    match = -np.fft.ifft2(product).real[:reach, :reach]
    row, col = np.unravel_index(int(np.argmax(match)), match.shape)
    return float(match[row, col] / np.sqrt(field.size / 2)), (int(row), int(col))


def find_offset(
    pixels: NDArray[np.int32],
    key: bytes,
    step: float,
    coefficients: tuple[int, ...],
    farthest: int = FARTHEST,
) -> Offset | None:
    """Find where a cropped image lay in the one that was embedded.

    Parameters
    ----------
    pixels : int32 [H, W]
        Air dark.
    key : bytes
        From `coverslip.scheme.dither.dither_key`.
    step : float
        Grey levels.
    coefficients : tuple of int
        Which coefficients carry.
    farthest : int
        Blocks that may have been cut away above or to the left.

    Returns
    -------
    Offset or None
        None when no offset stands out.
    """
    if min(pixels.shape) < SIDE:
        return None
    for reach in sorted({min(_USUAL, farthest), farthest}):
        found = _best_offset(pixels, key, step, list(coefficients), reach)
        if found is not None and found.significance >= _THRESHOLD:
            return found
    return None


def _best_offset(
    pixels: NDArray[np.int32], key: bytes, step: float, chosen: list[int], reach: int
) -> Offset | None:
    """The offset of up to ``reach`` blocks that stands out most, over the 16 pixel alignments."""
    rows, cols = (side // SIDE for side in pixels.shape)
    dither = _turned(dither_plane(key, rows + reach, cols + reach), chosen)
    spectrum = np.stack([np.fft.fft2(channel) for channel in dither]).astype(np.complex64)
    best: Offset | None = None
    for down in range(SIDE):
        for right in range(SIDE):
            aligned = pixels[down:, right:]
            if min(aligned.shape) < SIDE:
                continue
            height, blocks = _peak(measure_plane(aligned, step), spectrum, chosen, reach + 1)
            if best is None or height > best.significance:
                best = Offset((down, right), blocks, height)
    return best
