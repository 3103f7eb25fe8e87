"""Hides the identity of an instance in its background, and reads it back before anything is
written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from coverslip import record as records
from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.instance import Instance, write_instance
from coverslip.engine import EmbedRequest, Engine
from coverslip.errors import (
    AlreadyCarriesError,
    CoverslipError,
    DamagedMessageError,
    DoesNotComeBackError,
    NoBodyError,
    NoCarriersError,
    RecordTooLargeError,
)
from coverslip.metrics import Psnr
from coverslip.parallel import CONCURRENT_IMAGES, map_concurrently
from coverslip.pipeline.frame_reports import FrameReport, SpooledReports, Tally, changed_outside
from coverslip.pipeline.planes import Planes, engine_planes, settled
from coverslip.pipeline.reading import check_value, read_paper, read_plane, read_votes, uid_key
from coverslip.pipeline.trials import TRIALS, spoiler
from coverslip.pixels.frames import WINDOW, Frames, SpooledFrames
from coverslip.qr import symbol as symbols
from coverslip.scheme import address
from coverslip.scheme.carriers import is_noisy
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.paper import PaperEmbedded, embed_paper, extract_paper
from coverslip.scheme.phases import PhasePlane, phase_plane
from coverslip.scheme.profiles import Profile, Scheme

_LARGEST_SLOT = 8190
_CROPS = (0.0, 0.03, 0.06, 0.09, 0.12)
"""Shares of the side that are cut off every edge, for which an address variant shall do well."""

_VARIANTS_TRIED = 4
"""Address variants that are tried for a frame, those first whose carriers reach most slots."""

_NO_BODY = "no body was found"
_NO_BLOCK = "no block may carry"
_NOISY = "what is outside the outline is as uneven as tissue, so that nothing tells the two apart"
_WHATEVER_THE_ADDRESS = (_NO_BODY, _NO_BLOCK, _NOISY)
"""Why a frame carries nothing under any address variant."""


@dataclass(frozen=True)
class EmbedReport:
    """What an embedding did, in figures; nothing of the identity.

    Attributes
    ----------
    profile : str
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
    changed_pixels, changed_outside : int
        Pixels that differ from the cover; those outside the carriers (always 0: anything else is
        refused).
    record_bytes, sealed_bytes : int
    recorded : int
        Attributes in the record.
    dropped : list of str
        Attributes that were removed and are not in the record: tag and size, never a value.
    notes : list of str
        What else a person should know, such as a changed transfer syntax.
    """

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
    recorded: int
    dropped: list[str]
    notes: list[str]


@dataclass
class Embedding:
    """A stego instance that is ready to be written.

    Attributes
    ----------
    instance : Instance
        The stego header; its ``frames`` are still the cover's.
    stego_frames : Frames
        int32 [F, H, W]
    frames : sequence of FrameReport
    symbol : bool [n, n]
    report : EmbedReport
    """

    instance: Instance
    stego_frames: Frames
    frames: Sequence[FrameReport]
    symbol: NDArray[np.bool_]
    report: EmbedReport

    @cached_property
    def stego(self) -> NDArray[np.int32]:
        """All stego frames in memory, int32 [F, H, W]."""
        return self.stego_frames.whole()

    def write(self, path: Path, overwrite: bool = False) -> None:
        """Write the stego instance; the report's notes grow by what the transfer syntax needed."""
        self.report.notes.extend(
            write_instance(self.instance, self.stego_frames, path, overwrite=overwrite)
        )


@dataclass(frozen=True)
class EmbedOptions:
    """Choices of an embedding.

    Attributes
    ----------
    profile : Profile
    beta : float, optional
        The paper's knob in place of the profile's step.
    use_padding : bool
        Padding may carry too.
    allow_burned_in : bool
        Accept an instance that says its pixels show identity.
    """

    profile: Profile
    beta: float | None = None
    use_padding: bool = False
    allow_burned_in: bool = False


def _request(planes: Planes, frames: slice, plane: PhasePlane, profile: Profile) -> EmbedRequest:
    pixels = planes.pixels[frames]
    batch = len(pixels)
    coefficients = np.zeros((batch, COEFFICIENTS), dtype=np.float32)
    coefficients[:, list(profile.coefficients)] = 1
    return EmbedRequest(
        pixels=pixels,
        legal=np.tile(np.array(planes.legal, dtype=np.int32), (batch, 1)),
        padding=np.full(batch, planes.padding, dtype=np.int32),
        phases=np.broadcast_to(plane.phases, (batch, *plane.phases.shape)),
        slots=np.broadcast_to(plane.slots, (batch, *plane.slots.shape)),
        coefficients=coefficients,
        step=np.full(batch, profile.step, dtype=np.float32),
        votes=np.full(batch, profile.votes, dtype=np.int32),
        margin=np.full(batch, profile.margin, dtype=np.int32),
    )


def _spoilt(harm: str) -> str:
    """Why a frame that reads back now carries nothing all the same."""
    return f"it would not come back after {harm}"


_SPOILT = frozenset(_spoilt(harm) for harm in TRIALS)


def _covered(carriers: NDArray[np.bool_], slots: NDArray[np.int32]) -> int:
    return int(np.unique(slots[carriers]).size)


def _without_edges(shape: tuple[int, ...], share: float) -> tuple[slice, ...]:
    """The blocks that are left where every edge loses a share of its side."""
    return tuple(slice(cut := round(share * side), side - cut) for side in shape)


@dataclass
class _Attempt:
    """One frame as far as it got."""

    stego: NDArray[np.int32]
    report: FrameReport


class _Embedder:
    """Embeds one sealed frame into the planes of one instance."""

    def __init__(
        self,
        planes: Planes,
        recipient: Recipient,
        profile: Profile,
        engine: Engine,
        sealed: bytes,
    ) -> None:
        self._planes = planes
        self._recipient = recipient
        self._profile = profile
        self._engine = engine
        self._sealed = sealed
        self.symbol = symbols.draw(sealed, symbols.level_for(len(sealed), profile.levels))
        self._slots_needed = address.slot_count(len(self.symbol), len(profile.coefficients))
        if self._slots_needed > _LARGEST_SLOT:
            raise RecordTooLargeError(needed=len(sealed), available=symbols.MAX_FRAME_BYTES)
        rows, cols = (side // SIDE for side in planes.pixels.shape[1:])
        self._dither = (
            dither_plane(dither_key(recipient.public), rows, cols) if rows and cols else None
        )

    def _phase_plane(self, variant: int) -> PhasePlane:
        assert self._dither is not None
        return phase_plane(self.symbol, self._dither, self._profile, variant)

    def _judge(
        self,
        cover: NDArray[np.int32],
        stego: NDArray[np.int32],
        mask: NDArray[np.uint8],
        carriers: NDArray[np.bool_],
        slots: NDArray[np.int32],
    ) -> FrameReport:
        """Read the stego plane as a stranger to the mask would, and say whether it comes back."""
        if not mask.any():
            return FrameReport(mask, carriers, None, _NO_BODY)
        if not carriers.any():
            return FrameReport(mask, carriers, None, _NO_BLOCK)
        if outside := changed_outside(cover, stego, carriers):
            raise DoesNotComeBackError(
                f"the engine changed {outside} pixels outside the carriers; none was expected: "
                "do not use this model"
            )
        if is_noisy(cover, carriers):
            return FrameReport(mask, carriers, None, _NOISY)
        covered = _covered(carriers, slots)
        if (mean := carriers.sum() / self._slots_needed) < self._profile.least_votes:
            wanted = (
                f"{self._profile.least_votes:g} are needed for what profile "
                f"'{self._profile.name}' shall survive"
            )
            return FrameReport(
                mask, carriers, None, f"{mean:.1f} for each group of modules, where {wanted}"
            )
        votes = read_plane(stego, self._recipient, self._profile)
        try:
            if votes is not None and read_votes(votes) == self._sealed:
                return FrameReport(mask, carriers, votes)
        except DamagedMessageError:
            pass  # Said below, with the coverage that explains it.
        return FrameReport(
            mask,
            carriers,
            None,
            f"its carriers reach {covered} of the {self._slots_needed} groups of modules",
        )

    def _variant(self, frames: slice, variant: int) -> list[_Attempt]:
        plane = self._phase_plane(variant)
        request = _request(self._planes, frames, plane, self._profile)
        done = self._engine.embed(request)

        def attempt(number: int) -> _Attempt:
            stego, carriers = done.stego[number], done.carriers[number].astype(bool)
            return _Attempt(
                stego,
                self._judge(
                    request.pixels[number], stego, done.mask[number], carriers, plane.slots
                ),
            )

        return map_concurrently(attempt, len(request.pixels), CONCURRENT_IMAGES)

    def _reached(self, carriers: NDArray[np.bool_], variant: int, cut: float) -> float:
        """Share of the slots that have a carrier under a variant where every edge loses a share of
        its side.
        """
        kept = _without_edges(carriers.shape, cut)
        slots = address.slot_plane(*carriers.shape, self._slots_needed, variant)
        return _covered(carriers[kept], slots[kept]) / self._slots_needed

    def _ranked(self, carriers: NDArray[np.bool_]) -> list[int]:
        """Variants, those first under which carriers reach most slots; after crops too, where the
        profile asks for it.
        """
        cuts = _CROPS if self._profile.best_variant else _CROPS[:1]
        reached = [
            sum(self._reached(carriers, variant, cut) for cut in cuts)
            for variant in range(address.VARIANTS)
        ]
        return [int(variant) for variant in np.argsort(-np.array(reached), kind="stable")]

    def _better(self, attempt: _Attempt, frame: slice) -> _Attempt:
        """What a frame becomes under the variant that suits it, from the attempt under the first
        one.
        """
        report = attempt.report
        if report.reason in _WHATEVER_THE_ADDRESS or (
            report.votes is not None and not self._profile.best_variant
        ):
            return attempt
        for variant in self._ranked(report.carriers)[:_VARIANTS_TRIED]:
            other = self._variant(frame, variant)[0] if variant else attempt
            if other.report.votes is not None:
                return other
        return attempt

    def _batch(self, start: int, stop: int) -> list[_Attempt]:
        attempts = self._variant(slice(start, stop), 0)
        attempts = [
            self._better(attempt, slice(start + i, start + i + 1))
            for i, attempt in enumerate(attempts)
        ]
        return (
            map_concurrently(
                lambda number: self._tried(attempts[number]), len(attempts), CONCURRENT_IMAGES
            )
            if self._profile.tried
            else attempts
        )

    def _tried(self, attempt: _Attempt) -> _Attempt:
        """An attempt that comes back still counts only when it does so after cropping and lossy
        codecs too.
        """
        report = attempt.report
        if report.votes is None:
            return attempt
        harm = spoiler(
            attempt.stego, self._planes.legal, self._recipient, self._profile, self._sealed
        )
        return (
            attempt
            if harm is None
            else replace(attempt, report=replace(report, votes=None, reason=_spoilt(harm)))
        )

    def run(self) -> Iterator[list[_Attempt]]:
        """Every frame, in order, some at a time."""
        if self._dither is None:
            return
        for start in range(0, len(self._planes.pixels), WINDOW):
            yield self._batch(start, min(start + WINDOW, len(self._planes.pixels)))


class _PaperEmbedder(_Embedder):
    """The paper's scheme: the engine only outlines the body, on both sides, and the mask is what
    the reader needs again.
    """

    def _batch(self, start: int, stop: int) -> list[_Attempt]:
        covers = self._planes.pixels[start:stop]
        masks = self._engine.segment(covers).mask
        done = [
            embed_paper(cover, mask, self.symbol, self._profile, self._planes.legal)
            for cover, mask in zip(covers, masks, strict=True)
        ]
        return [
            _Attempt(d.stego, self._judge_paper(d, mask))
            for d, mask in zip(done, masks, strict=True)
        ]

    def _judge_paper(self, done: PaperEmbedded, mask: NDArray[np.uint8]) -> FrameReport:
        try:
            votes = read_paper(done.stego, self._engine, self._profile)
            if votes is not None and symbols.read(votes.symbol()) == self._sealed:
                return FrameReport(mask, done.carriers, votes)
        except DamagedMessageError:
            pass  # Said below, with the error rate that explains it.
        wrong = float(
            np.mean(extract_paper(done.stego, mask, len(self.symbol), self._profile) != self.symbol)
        )
        reason = (
            f"{wrong:.1%} of its modules are wrong once pixels are integers, even with the very "
            "same mask"
        )
        return FrameReport(mask, done.carriers, None, reason)


def _refuse(reports: Sequence[FrameReport], slots_needed: int) -> CoverslipError:
    """The error that says why no frame carries."""
    if all(not r.mask.any() for r in reports):
        return NoBodyError(
            "no body was outlined in any frame; an image of a body with air around it was "
            "expected: "
            "look at it with 'coverslip inspect', and leave it out if it shows none"
        )
    if spoilt := sorted({r.reason for r in reports if r.reason in _SPOILT}):
        return DoesNotComeBackError(
            f"the record would be lost to what the profile is for ({'; '.join(spoilt)}); nothing "
            "was written: "
            "use --profile default for lossless handling, or choose a slice with more air"
        )
    best = max(reports, key=lambda r: int(r.carriers.sum()))
    if not best.carriers.any():
        return NoCarriersError(
            "no block of background may carry: expected air around the body that is dark and not "
            "padding; "
            "look at it with 'coverslip inspect', and try --use-padding if the background is "
            "padding"
        )
    if best.reason == _NOISY:
        return NoCarriersError(
            f"no block of background may carry: {_NOISY}; expected air that is dark and even "
            "beside the body: leave this image out"
        )
    return NoCarriersError(
        f"the background has room for {int(best.carriers.sum())} blocks where the record needs "
        f"about {3 * slots_needed} "
        f"({best.reason}): choose a slice with more air, or a smaller record"
    )


def _verify_all(reports: Sequence[FrameReport], slots: int, paper: bool) -> None:
    if any(r.votes is not None for r in reports):
        return
    if paper and any(r.carriers.any() for r in reports):
        raise DoesNotComeBackError(
            f"the record would not come back ({next(r.reason for r in reports if r.reason)}); "
            "nothing was written: "
            "use --profile default, 'paper' is for comparison"
        )
    raise _refuse(reports, slots)


@dataclass(frozen=True)
class _Sealed:
    """A sealed record and what is told of it."""

    frame: bytes
    record_bytes: int
    recorded: int
    dropped: list[header.Dropped]


def embed(
    instance: Instance,
    recipient: Recipient,
    engine: Engine,
    options: EmbedOptions,
    sealed_frame: bytes | None = None,
    spool: Path | None = None,
) -> Embedding:
    """Move an instance's identity from its header into its background.

    Parameters
    ----------
    instance : Instance
        From `coverslip.dicom.instance.read_instance`.
    recipient : Recipient
        Who shall be able to read it.
    engine : Engine
    options : EmbedOptions
    sealed_frame : bytes, optional
        A record that was sealed elsewhere (`coverslip.crypto.seal.seal`), for an instance that is
        de-identified already: its header is kept.
    spool : Path, optional
        The folder for temporary files that long instances need, two bytes for each pixel; the
        system's where absent.

    Returns
    -------
    Embedding
        Read back already: what does not come back is never returned.

    Raises
    ------
    AlreadyCarriesError, BurnedInAnnotationError, RecordTooLargeError, NoBodyError, NoCarriersError,
    DoesNotComeBackError
    """
    if header.read_mark(instance.dataset) is not None:
        raise AlreadyCarriesError(
            "the instance carries a record already; an original was expected: extract it first, "
            "or leave the file as it is"
        )
    if sealed_frame is None:
        clean, sealed = _sealed_header(instance, recipient, options.allow_burned_in)
    else:
        clean, sealed = copy.deepcopy(instance.dataset), _Sealed(sealed_frame, 0, 0, [])
    planes = engine_planes(instance, options.use_padding)

    def made_with(profile: Profile) -> _Made:
        kind = _PaperEmbedder if profile.scheme is Scheme.PAPER else _Embedder
        return _embed_frames(
            instance, planes, kind(planes, recipient, profile, engine, sealed.frame), profile, spool
        )

    made = _first_that_holds(settled(options.profile, options.beta, instance), made_with)
    profile = made.profile
    _verify_all(
        made.frames,
        address.slot_count(len(made.symbol), len(profile.coefficients)),
        profile.scheme is Scheme.PAPER,
    )
    header.mark(
        clean, profile.name, profile.step, check_value(recipient, str(clean.SOPInstanceUID))
    )
    report = _report(instance, made.tally, made.frames, made.symbol, profile, sealed)
    return Embedding(instance.with_dataset(clean), made.stego, made.frames, made.symbol, report)


@dataclass(frozen=True)
class _Made:
    """Every frame of an instance, done with one choice of step and votes."""

    profile: Profile
    symbol: NDArray[np.bool_]
    stego: SpooledFrames
    frames: SpooledReports
    tally: Tally

    def spoilt(self) -> bool:
        """Whether no frame carries, and some would but for a lossy codec."""
        return all(frame.votes is None for frame in self.frames) and any(
            frame.reason in _SPOILT for frame in self.frames
        )


def _first_that_holds(choices: Sequence[Profile], made_with: Callable[[Profile], _Made]) -> _Made:
    """What the first choice makes that a codec does not spoil, else what the last one does. Only
    one is held at a time.
    """
    for choice in choices[:-1]:
        made = made_with(choice)
        if not made.spoilt():
            return made
        del made
    return made_with(choices[-1])


def _embed_frames(
    instance: Instance, planes: Planes, embedder: _Embedder, profile: Profile, spool: Path | None
) -> _Made:
    stego, frames = (
        SpooledFrames(instance.frames.shape, instance.legal, spool),
        SpooledReports(spool),
    )
    made = _Made(profile, embedder.symbol, stego, frames, Tally())
    for attempts in embedder.run():
        start = len(made.frames)
        cover = instance.frames.read(start, start + len(attempts))
        planes_made = _assemble(planes, start, attempts)
        made.tally.add(cover, planes_made, [a.report.carriers for a in attempts])
        made.stego.add(planes_made)
        made.frames.extend(a.report for a in attempts)
    return made


def _sealed_header(
    instance: Instance, recipient: Recipient, allow_burned_in: bool
) -> tuple[Dataset, _Sealed]:
    """The de-identified header, and the sealed record of what it lost."""
    clean, record, dropped = header.deidentify(
        instance.dataset, uid_key(recipient), allow_burned_in=allow_burned_in
    )
    encoded = records.encode(record)
    return clean, _Sealed(seal(encoded, recipient.public), len(encoded), len(record), dropped)


def _assemble(planes: Planes, start: int, attempts: Sequence[_Attempt]) -> NDArray[np.int32]:
    """The stored stego planes from frame ``start`` on; a frame that carries nothing stays the
    cover.
    """
    covers = planes.pixels.read(start, start + len(attempts))
    stego = np.stack(
        [
            a.stego if a.report.votes is not None else cover
            for a, cover in zip(attempts, covers, strict=True)
        ]
    )
    return planes.back(start, stego)


def _report(
    instance: Instance,
    tally: Tally,
    frames: Sequence[FrameReport],
    symbol: NDArray[np.bool_],
    profile: Profile,
    sealed: _Sealed,
) -> EmbedReport:
    carriers, weakest, errors = [], [], []
    for frame in frames:
        if frame.votes is not None:
            carriers.append(int(frame.carriers.sum()))
            weakest.append(float(np.abs(frame.votes.modules).min()))
            errors.append(int((frame.votes.symbol() != symbol).sum()))
    per_block = len(profile.coefficients)
    return EmbedReport(
        profile=profile.name,
        step=profile.step,
        frames=len(frames),
        frames_carrying=len(carriers),
        carriers=sum(carriers),
        modules=symbol.size,
        votes_per_module=sum(carriers) * per_block / symbol.size / len(carriers),
        weakest_module=min(weakest),
        module_errors=max(errors),
        payload=sum(carriers) * per_block / instance.frames.size,
        psnr=tally.psnr(instance.legal),
        changed_pixels=tally.changed,
        changed_outside=tally.outside,
        record_bytes=sealed.record_bytes,
        sealed_bytes=len(sealed.frame),
        recorded=sealed.recorded,
        dropped=[str(item) for item in sealed.dropped],
        notes=list(instance.notes),
    )
