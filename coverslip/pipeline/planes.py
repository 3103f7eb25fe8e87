"""An instance as the engine sees it: air dark, whole blocks, a window of frames at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coverslip.dicom.instance import Instance
from coverslip.pixels.frames import Frames, MappedFrames
from coverslip.scheme.profiles import PAPER_BETA, Profile, Scheme


@dataclass
class Planes:
    """Planes as the engine sees them: air dark, one padding value.

    Attributes
    ----------
    pixels : Frames
        int32 [F, H, W]
    legal : (lo, hi)
    padding : int
    """

    pixels: Frames
    legal: tuple[int, int]
    padding: int
    _instance: Instance = field(repr=False)
    _padded: tuple[int, int] | None = field(repr=False, default=None)

    def back(self, start: int, stego: NDArray[np.int32]) -> NDArray[np.int32]:
        """Stored values from what the engine made of ``pixels`` from frame ``start`` on."""
        turned = sum(self.legal) - stego if self._instance.inverted else stego
        if self._padded is not None:
            low, high = self._padded
            cover = self._instance.frames.read(start, start + len(stego))
            turned = np.where((cover >= low) & (cover <= high), cover, turned)
        return turned


def engine_planes(instance: Instance, use_padding: bool = False) -> Planes:
    """An instance's planes for the engine.

    MONOCHROME1 is turned over, so that air is dark. A range of padding becomes one value, and is
    put back afterwards.
    """
    lo, hi = instance.legal
    padding = None if use_padding else instance.padding
    value = lo - 1 if padding is None else lo + hi - padding[0] if instance.inverted else padding[0]
    ranged = None if padding is None or padding[0] == padding[1] else padding

    def turn(stored: NDArray[np.int32]) -> NDArray[np.int32]:
        turned = np.int32(lo + hi) - stored if instance.inverted else stored
        return (
            turned
            if ranged is None
            else np.where((stored >= ranged[0]) & (stored <= ranged[1]), np.int32(value), turned)
        )

    plain = ranged is None and not instance.inverted
    pixels = instance.frames if plain else MappedFrames(instance.frames, turn)
    return Planes(pixels, instance.legal, value, instance, ranged)


def own_span(instance: Instance) -> int:
    """How far an instance's highest pixel is above its lowest, over all frames; at least 1."""
    low, high = instance.frames.extremes()
    return max(high - low, 1)


def settle_step(profile: Profile, beta: float | None, instance: Instance) -> Profile:
    """The profile with its step settled: by beta over the legal range, or over the image's own for
    the paper's scheme; else by the profile itself, which may want the image's own range for it.
    """
    return settled(profile, beta, instance)[0]


def settled(profile: Profile, beta: float | None, instance: Instance) -> list[Profile]:
    """As `settle_step`, with what a writer tries next where that does not hold what the profile
    promises.
    """
    if profile.scheme is Scheme.PAPER:
        return [profile.with_beta(beta or PAPER_BETA, own_span(instance))]
    lo, hi = instance.legal
    return (
        profile.choices(own_span(instance)) if beta is None else [profile.with_beta(beta, hi - lo)]
    )
