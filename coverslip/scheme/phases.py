"""From a symbol to an engine's inputs: the wanted phase of each coefficient, each block's slot."""

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
    """A message as an engine receives it; without the dither it reveals neither key nor bit.

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
    """Assign the modules of a symbol to a grid of blocks, as phases.

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
    bits = address.slot_bits(symbol, profile.coefficients)
    rows, cols = dither.shape[:2]
    count, slots = len(bits), address.slot_plane(rows, cols, len(bits), variant)
    item_index = slots
    if profile.turns:
        bits = _rotations(bits, profile.coefficients)
        item_index = slots + count * address.rotation_plane(rows, cols, len(profile.coefficients))
    zero = round(profile.alpha * PHASES)
    wanted = np.where(bits, np.uint8(PHASES - zero), np.uint8(zero)).astype(np.uint8)
    # One 16-byte item for each slot: indexing items is several times faster than indexing rows.
    items = np.ascontiguousarray(wanted).view(np.dtype((np.void, COEFFICIENTS))).reshape(-1)
    phases = items[item_index.reshape(-1)].view(np.uint8).reshape(rows, cols, COEFFICIENTS)
    return PhasePlane(phases - dither, slots, count)


def _rotations(bits: NDArray[np.bool_], coefficients: tuple[int, ...]) -> NDArray[np.bool_]:
    """The bits [L, 16] of all slots, rotated by 0 to K - 1 places: bool [K L, 16]."""
    chosen = list(coefficients)
    rotated = np.repeat(bits[np.newaxis], len(chosen), axis=0)
    for places in range(len(chosen)):
        rotated[places][:, chosen] = np.roll(bits[:, chosen], -places, axis=1)
    return rotated.reshape(-1, COEFFICIENTS)
