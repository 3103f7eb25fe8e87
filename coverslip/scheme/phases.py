"""From a symbol to what an engine is told: the phase that each coefficient shall have, and each block's slot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme import address
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.quantise import PHASES


@dataclass(frozen=True)
class PhasePlane:
    """What an engine is told of a message; neither key nor bit can be had from it without the dither.

    Attributes
    ----------
    phases : uint8 [Hb, Wb, 16]
        Wanted (c / step) mod 1, in 1/256.
    slots : int32 [Hb, Wb]
    slot_count : int
    """

    phases: NDArray[np.uint8]
    slots: NDArray[np.int32]
    slot_count: int


def phase_plane(
    symbol: NDArray[np.bool_],
    dither: NDArray[np.uint8],
    coefficients: tuple[int, ...],
    alpha: float,
    variant: int = 0,
) -> PhasePlane:
    """Lay a symbol over a grid of blocks.

    Parameters
    ----------
    symbol : bool [n, n]
        True = dark.
    dither : uint8 [Hb, Wb, 16]
        From `coverslip.scheme.dither.dither_plane`.
    coefficients : tuple of int
        Which coefficients carry.
    alpha : float
        Place of a 0 between two lattice points, rounded to 1/256; a 1 stands at ``1 - alpha``.
    variant : int
        Address variant.
    """
    bits = address.tiles(symbol, coefficients)
    rows, cols = dither.shape[:2]
    slots = address.slot_plane(rows, cols, len(bits), variant)
    zero = round(alpha * PHASES)
    wanted = np.where(bits, np.uint8(PHASES - zero), np.uint8(zero)).astype(np.uint8)
    # One 16-byte item for each slot: a gather of items is several times faster than one of rows.
    items = np.ascontiguousarray(wanted).view(np.dtype((np.void, COEFFICIENTS))).reshape(-1)
    phases = items[slots.reshape(-1)].view(np.uint8).reshape(rows, cols, COEFFICIENTS)
    return PhasePlane(phases - dither, slots, len(bits))
