"""What an embedding did to each frame, and its figures over all of them, without the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from coverslip.metrics import Psnr, psnr_of
from coverslip.pipeline.trials import Disturbance
from coverslip.pixels.scratch import ScratchFile
from coverslip.scheme.dct import block_view
from coverslip.scheme.reader import Votes


class Refusal(str, Enum):
    """Why a frame carries nothing."""

    NO_BODY = "no-body"
    NO_BLOCK = "no-block"
    NOISY = "noisy"
    TOO_FEW_CARRIERS = "too-few-carriers"
    SLOTS_MISSED = "slots-missed"
    DISTURBED = "disturbed"
    MODULES_WRONG = "modules-wrong"


@dataclass(frozen=True)
class FrameOutcome:
    """How a frame went; `coverslip.pipeline.refusals` renders it.

    Attributes
    ----------
    refusal : Refusal or None
        None where the frame carries.
    seen, needed : float
        Carriers for each slot with ``TOO_FEW_CARRIERS``, slots with ``SLOTS_MISSED``, share of
        wrong modules with ``MODULES_WRONG``; 0 otherwise.
    disturbance : Disturbance or None
        The first that the record would not survive, with ``DISTURBED``.
    """

    refusal: Refusal | None = None
    seen: float = 0.0
    needed: float = 0.0
    disturbance: Disturbance | None = None


CARRIES = FrameOutcome()


@dataclass(frozen=True)
class FrameReport:
    """What happened to one frame.

    Attributes
    ----------
    mask : uint8 [H, W]
        1 = body.
    carriers : bool [Hb, Wb]
    votes : Votes or None
        What the closing extraction read; None where the frame carries nothing.
    outcome : FrameOutcome
    """

    mask: NDArray[np.uint8]
    carriers: NDArray[np.bool_]
    votes: Votes | None
    outcome: FrameOutcome = CARRIES


@dataclass(frozen=True)
class _Kept:
    """A frame's report but for its arrays, and where those are."""

    at: int
    mask: tuple[int, ...]
    carriers: tuple[int, ...]
    modules: tuple[int, ...]
    votes: Votes | None
    outcome: FrameOutcome


class SpooledReports(Sequence[FrameReport]):
    """Reports of frames whose arrays go to a temporary file when there are many.

    Parameters
    ----------
    folder : Path, optional
        As for `coverslip.pixels.scratch.ScratchFile`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._spool = ScratchFile(folder)
        self._kept: list[_Kept] = []

    def extend(self, reports: Iterable[FrameReport]) -> None:
        """Take more of them."""
        for report in reports:
            modules = (
                np.empty(0, dtype=np.float32) if report.votes is None else report.votes.modules
            )
            votes = None if report.votes is None else replace(report.votes, modules=modules[:0])
            packed = (
                np.packbits(report.mask > 0).tobytes()
                + np.packbits(report.carriers).tobytes()
                + modules.tobytes()
            )
            shapes = (report.mask.shape, report.carriers.shape, modules.shape)
            self._kept.append(_Kept(self._spool.add(packed), *shapes, votes, report.outcome))

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> FrameReport: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrameReport]: ...

    def __getitem__(self, index: int | slice) -> FrameReport | list[FrameReport]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        kept = self._kept[index]
        at = kept.at
        mask, at = self._bits(at, kept.mask)
        carriers, at = self._bits(at, kept.carriers)
        votes = kept.votes
        if votes is not None:
            modules = np.frombuffer(
                self._spool.get(at, 4 * int(np.prod(kept.modules))), dtype=np.float32
            )
            votes = replace(votes, modules=modules.reshape(kept.modules))
        return FrameReport(mask, carriers.astype(bool), votes, kept.outcome)

    def _bits(self, at: int, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], int]:
        """An array of 0 and 1, and where the next one begins."""
        count = int(np.prod(shape))
        length = -(-count // 8)
        packed = np.frombuffer(self._spool.get(at, length), dtype=np.uint8)
        return np.unpackbits(packed, count=count).reshape(shape), at + length


def changed_outside(
    cover: NDArray[np.int32], stego: NDArray[np.int32], carriers: NDArray[np.bool_]
) -> int:
    """Pixels of a plane [H, W] that differ and lie in no carrier; carriers bool [H // 4, W //
    4].
    """
    changed = cover != stego
    return int(np.count_nonzero(changed)) - int(np.count_nonzero(block_view(changed)[carriers]))


class Tally:
    """Figures over all frames, from some of them at a time.

    Attributes
    ----------
    changed, outside : int
        Pixels that differ; those of them outside the carriers.
    """

    def __init__(self) -> None:
        self.changed = 0
        self.outside = 0
        self._squares = 0
        self._pixels = 0
        self._low: list[int] = []
        self._high: list[int] = []

    def add(
        self,
        cover: NDArray[np.int32],
        stego: NDArray[np.int32],
        carriers: Sequence[NDArray[np.bool_]],
    ) -> None:
        """Count frames in.

        Parameters
        ----------
        cover, stego : int32 [n, H, W]
        carriers : n of bool [H // 4, W // 4]
        """
        changed = stego != cover
        difference = stego[changed].astype(np.int64) - cover[changed]  # few of all pixels
        self._squares += int((difference * difference).sum())
        self._pixels += cover.size
        self.changed += difference.size
        self.outside += sum(
            changed_outside(*frame) for frame in zip(cover, stego, carriers, strict=True)
        )
        self._low.append(int(cover.min()))
        self._high.append(int(cover.max()))

    def psnr(self, legal: tuple[int, int]) -> Psnr:
        """As `coverslip.metrics.psnr_three`, over all frames."""
        return psnr_of(self._squares / self._pixels, max(self._high) - min(self._low), legal)
