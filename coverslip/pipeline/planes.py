"""An instance as the engine sees it: air dark, whole blocks, a window of frames at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        What the engine may make of them; narrower than the instance's own range where that keeps
        bright blocks as they are.
    padding : int
    instance : Instance
    turn : callable
        Stored values to ``pixels``.
    padded : (int, int) or None
        The range of padding values that ``padding`` stands for.
    """

    pixels: Frames
    legal: tuple[int, int]
    padding: int
    instance: Instance = field(repr=False)
    turn: Callable[[NDArray[np.int32]], NDArray[np.int32]] = field(repr=False)
    padded: tuple[int, int] | None = field(repr=False, default=None)

    def windows(self) -> Iterator[PlaneWindow]:
        """All frames in order, a few at a time, each read once."""
        for start, stored in self.instance.frames.windows():
            yield PlaneWindow(start, stored, self.turn(stored))

    def back(self, stored: NDArray[np.int32], stego: NDArray[np.int32]) -> NDArray[np.int32]:
        """Stored values from what the engine made of them.

        Parameters
        ----------
        stored, stego : int32 [n, H, W]
            The cover's stored values; the engine's planes, air dark.
        """
        turned = sum(self.instance.legal) - stego if self.instance.inverted else stego
        if self.padded is not None:
            low, high = self.padded
            turned = np.where((stored >= low) & (stored <= high), stored, turned)
        return turned


@dataclass(frozen=True)
class PlaneWindow:
    """Some frames of an instance.

    Attributes
    ----------
    start : int
        Number of the first, from 0.
    stored, planes : int32 [n, H, W]
        Stored values; the same as the engine sees them.
    """

    start: int
    stored: NDArray[np.int32]
    planes: NDArray[np.int32]


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
    return Planes(pixels, instance.legal, value, instance, turn, ranged)


def own_span(instance: Instance) -> int:
    """How far an instance's highest pixel is above its lowest, over all frames; at least 1."""
    low, high = instance.frames.extremes()
    return max(high - low, 1)


def resolve_step(profile: Profile, beta: float | None, instance: Instance) -> Profile:
    """The profile with the step that an instance gives it.

    By beta over the legal range, or over the image's own for the paper's scheme; else by the
    profile itself, which may want the image's own range for it.
    """
    return step_choices(profile, beta, instance)[0]


def step_choices(profile: Profile, beta: float | None, instance: Instance) -> list[Profile]:
    """As `resolve_step`, with fallbacks to try if the first fails the profile's guarantees."""
    if profile.scheme is Scheme.PAPER:
        return [profile.with_beta(beta or PAPER_BETA, own_span(instance))]
    lo, hi = instance.legal
    return (
        profile.choices(own_span(instance)) if beta is None else [profile.with_beta(beta, hi - lo)]
    )
