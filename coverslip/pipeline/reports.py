"""What an embedding did, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverslip.deidentification.header import Dropped
from coverslip.deidentification.mark import Carried
from coverslip.metrics import Psnr
from coverslip.pipeline.frame_reports import FrameReport, Tally
from coverslip.scheme.profiles import Profile


@dataclass(frozen=True)
class HeaderReason:
    """Why the header carries a record.

    Attributes
    ----------
    code : str
        Stable name of the cause: of an eligibility kind, or of an error.
    message : str
        The cause as a sentence.
    """

    code: str
    message: str


@dataclass(frozen=True)
class EmbedReport:
    """What an embedding did, in figures; nothing of the identity.

    Attributes
    ----------
    carried : Carried
        Whether the pixels carry the record, or the header alone.
    header_reasons : list of HeaderReason
        Why the pixels do not; empty where they do.
    bound : bool
        The record says which image it belongs to.
    profile : str
        Empty where the header carries the record, as the figures of pixels are 0 then.
    step : float
        Grey levels.
    frames, frames_carrying : int
    carriers : int
        Blocks that carry, over all frames.
    modules : int
        Modules of the symbol, n^2.
    votes_per_module : float
        Mean number of positions that say what a module is, over the frames that carry.
    weakest_module : float
        Smallest log-likelihood ratio of a module, in nats, as the closing extraction read it.
    module_errors : int
        Modules that the closing extraction read wrongly before the QR reader repaired them; the
        largest of any frame.
    payload : float
        Coefficients that carry a bit per pixel.
    psnr : Psnr
        Infinite where no pixel changed.
    changed_pixels, changed_outside : int
        Pixels that differ from the cover; those outside the carriers (always 0: anything else is
        refused).
    record_bytes, sealed_bytes : int
        Of the record before sealing; of the frame that pixels or header carry.
    header_bytes : int
        Of the sealed header part; 0 where there is none.
    recorded : int
        Attributes in the record.
    dropped : list of str
        Attributes that are in the sealed header part alone: tag and size, never a value.
    notes : list of str
        What else a person should know, such as a changed transfer syntax.
    """

    carried: Carried
    header_reasons: list[HeaderReason]
    bound: bool
    profile: str
    step: float
    frames: int
    frames_carrying: int
    carriers: int
    modules: int
    votes_per_module: float
    weakest_module: float
    module_errors: int
    payload: float
    psnr: Psnr
    changed_pixels: int
    changed_outside: int
    record_bytes: int
    sealed_bytes: int
    header_bytes: int
    recorded: int
    dropped: list[str]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return {**asdict(self), "carried": self.carried.value}


@dataclass(frozen=True)
class SealedRecord:
    """A sealed record and its figures.

    Attributes
    ----------
    frame : bytes
        Empty where the sealed header part alone holds the record.
    record_bytes, recorded : int
    dropped : list of Dropped
    bound : bool
    """

    frame: bytes
    record_bytes: int
    recorded: int
    dropped: list[Dropped]
    bound: bool


_UNCHANGED = Psnr(float("inf"), float("inf"), float("inf"))


def pixel_report(
    shape: tuple[int, int, int],
    legal: tuple[int, int],
    tally: Tally,
    frames: Sequence[FrameReport],
    symbol: NDArray[np.bool_],
    profile: Profile,
    sealed: SealedRecord,
    header_bytes: int,
    notes: list[str],
) -> EmbedReport:
    """The report of an instance whose pixels carry its record."""
    carrying = [(frame, frame.votes) for frame in frames if frame.votes is not None]
    carriers = sum(int(frame.carriers.sum()) for frame, _ in carrying)
    bits = carriers * len(profile.coefficients)
    return EmbedReport(
        carried=Carried.PIXELS,
        header_reasons=[],
        bound=sealed.bound,
        profile=profile.name,
        step=profile.step,
        frames=len(frames),
        frames_carrying=len(carrying),
        carriers=carriers,
        modules=symbol.size,
        votes_per_module=bits / symbol.size / len(carrying),
        weakest_module=min(float(np.abs(votes.modules).min()) for _, votes in carrying),
        module_errors=max(int((votes.symbol() != symbol).sum()) for _, votes in carrying),
        payload=bits / int(np.prod(shape)),
        psnr=tally.psnr(legal),
        changed_pixels=tally.changed,
        changed_outside=tally.outside,
        record_bytes=sealed.record_bytes,
        sealed_bytes=len(sealed.frame),
        header_bytes=header_bytes,
        recorded=sealed.recorded,
        dropped=[str(item) for item in sealed.dropped],
        notes=notes,
    )


def header_report(
    frames: int,
    reasons: list[HeaderReason],
    sealed: SealedRecord,
    header_bytes: int,
    notes: list[str],
) -> EmbedReport:
    """The report of an object whose header carries its record."""
    return EmbedReport(
        carried=Carried.HEADER,
        header_reasons=reasons,
        bound=sealed.bound,
        profile="",
        step=0.0,
        frames=frames,
        frames_carrying=0,
        carriers=0,
        modules=0,
        votes_per_module=0.0,
        weakest_module=0.0,
        module_errors=0,
        payload=0.0,
        psnr=_UNCHANGED,
        changed_pixels=0,
        changed_outside=0,
        record_bytes=sealed.record_bytes,
        sealed_bytes=len(sealed.frame),
        header_bytes=header_bytes,
        recorded=sealed.recorded,
        dropped=[str(item) for item in sealed.dropped],
        notes=notes,
    )
