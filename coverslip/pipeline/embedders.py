"""What embeds a sealed frame into an instance's planes: the protocol, and what schemes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import RecordTooLargeError
from coverslip.pipeline.frame_reports import FrameReport
from coverslip.pipeline.planes import PlaneWindow
from coverslip.qr import symbol as symbols
from coverslip.scheme import address
from coverslip.scheme.profiles import Profile

_LARGEST_SLOT = 8190


@dataclass
class Attempt:
    """One frame as far as it got.

    Attributes
    ----------
    stego : int32 [H, W]
        Air dark.
    report : FrameReport
    """

    stego: NDArray[np.int32]
    report: FrameReport


class FrameEmbedder(Protocol):
    """Embeds one sealed frame into every plane of an instance.

    Attributes
    ----------
    symbol : bool [n, n]
    slots_needed : int
        Groups of modules that each need a carrier.
    """

    @property
    def symbol(self) -> NDArray[np.bool_]:
        """The QR symbol of the sealed frame."""
        ...

    @property
    def slots_needed(self) -> int:
        """Groups of modules that each need a carrier."""
        ...

    def run(self) -> Iterator[tuple[PlaneWindow, list[Attempt]]]:
        """Every frame, in order, a few at a time."""
        ...


def draw_symbol(sealed: bytes, profile: Profile) -> tuple[NDArray[np.bool_], int]:
    """The QR symbol of a sealed frame, and the groups of modules that each need a carrier.

    Raises
    ------
    RecordTooLargeError
        No symbol holds it.
    """
    symbol = symbols.draw(sealed, symbols.level_for(len(sealed), profile.levels))
    slots = address.slot_count(len(symbol), len(profile.coefficients))
    if slots > _LARGEST_SLOT:
        raise RecordTooLargeError(needed=len(sealed), available=symbols.MAX_FRAME_BYTES)
    return symbol, slots
