"""From a symbol to what an engine is told: the phase that each coefficient shall have, and each
block's slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme import address
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.profiles import Profile
from coverslip.scheme.quantise import PHASES


@dataclass(frozen=True)
class PhasePlane:
    """What an engine is told of a message; neither key nor bit can be had from it without the
    dither.

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
    profile: Profile,
    variant: int = 0,
) -> PhasePlane:
    """Lay a symbol over a grid of blocks.

    Parameters
    ----------
    symbol : bool [n, n]
        True = dark.
    dither : uint8 [Hb, Wb, 16]
        From `coverslip.scheme.dither.dither_plane`.
    profile : Profile
        Its alpha is rounded to 1/256.
    variant : int
        Address variant.
    """
    bits = address.tiles(symbol, profile.coefficients)
    rows, cols = dither.shape[:2]
    count, slots = len(bits), address.slot_plane(rows, cols, len(bits), variant)
    items_of = slots
    if profile.turns:
        bits = _turned(bits, profile.coefficients)
        items_of = slots + count * address.turn_plane(rows, cols, len(profile.coefficients))
    zero = round(profile.alpha * PHASES)
    wanted = np.where(bits, np.uint8(PHASES - zero), np.uint8(zero)).astype(np.uint8)
    # One 16-byte item for each slot: a gather of items is several times faster than one of rows.
    items = np.ascontiguousarray(wanted).view(np.dtype((np.void, COEFFICIENTS))).reshape(-1)
    phases = items[items_of.reshape(-1)].view(np.uint8).reshape(rows, cols, COEFFICIENTS)
    return PhasePlane(phases - dither, slots, count)


def _turned(bits: NDArray[np.bool_], coefficients: tuple[int, ...]) -> NDArray[np.bool_]:
    """The bits [L, 16] of each slot after every number of turns, one below the other: bool [K L,
    16].
    """
    chosen = list(coefficients)
    every = np.repeat(bits[np.newaxis], len(chosen), axis=0)
    for turn in range(len(chosen)):
        every[turn][:, chosen] = np.roll(bits[:, chosen], -turn, axis=1)
    return every.reshape(-1, COEFFICIENTS)
