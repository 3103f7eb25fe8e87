"""Finds the place of a cropped image in the embedded one: any number of rows and columns is gone.

With alpha a quarter, twice a carrier's phase is the same for a 0 and a 1. The doubled phases of an
image, less the doubled dither at the right offset, therefore all point one way. The offset is the
peak of that sum, computed for each of the 16 pixel alignments by one correlation.
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
"""Most blocks that may be missing above or to the left: 1024 pixels."""

_USUAL = 64
"""Blocks to search first: a quarter of the side makes the search several times faster."""

_THRESHOLD = 7.0
"""Standard deviations; by chance, the best of 10^6 offsets reaches 5.3."""


@dataclass(frozen=True)
class Offset:
    """Position of a cropped image in the embedded one.

    Attributes
    ----------
    align : (int, int)
        Rows and columns to skip to the first boundary of the block grid, 0 to 3.
    blocks : (int, int)
        Row and column of the first whole block in the embedded image's grid.
    significance : float
        Height of the peak, in standard deviations of its values by chance.
    """

    align: tuple[int, int]
    blocks: tuple[int, int]
    significance: float


def _doubled_phasors(phases: NDArray[np.uint8], coefficients: list[int]) -> NDArray[np.complex64]:
    """Unit vectors [K, Hb, Wb] at twice the phases of some coefficients."""
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
    field = _doubled_phasors(measured, coefficients)
    size = spectrum.shape[1:]
    product = np.zeros(size, dtype=np.complex64)
    for channel, dither in zip(field, spectrum, strict=True):
        product += dither * np.conj(np.fft.fft2(np.conj(channel), size))
    # A carrier's doubled phase is half a turn: the sum points towards -1.
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
    """Find the position of a cropped image in the embedded one.

    Parameters
    ----------
    pixels : int32 [H, W]
        Air dark.
    key : bytes
        From `coverslip.scheme.dither.dither_key`.
    step : float
        Grey levels.
    coefficients : tuple of int
        Indices of the carrying coefficients.
    farthest : int
        Most blocks that may be missing above or to the left.

    Returns
    -------
    Offset or None
        None if no offset stands out.
    """
    if min(pixels.shape) < SIDE:
        return None
    for reach in sorted({min(_USUAL, farthest), farthest}):
        offset = _best_offset(pixels, key, step, list(coefficients), reach)
        if offset is not None and offset.significance >= _THRESHOLD:
            return offset
    return None


def _best_offset(
    pixels: NDArray[np.int32], key: bytes, step: float, chosen: list[int], reach: int
) -> Offset | None:
    """The most significant offset of up to ``reach`` blocks, over the 16 pixel alignments."""
    rows, cols = (side // SIDE for side in pixels.shape)
    dither = _doubled_phasors(dither_plane(key, rows + reach, cols + reach), chosen)
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
