"""The main job: hide the identity of an instance in its background, and give it back to the holder of the key."""

from __future__ import annotations

import copy
import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID

from coverslip import record as records
from coverslip import symbol as symbols
from coverslip.dicom import header
from coverslip.dicom.frames import WINDOW, Frames, SpooledFrames, TurnedFrames
from coverslip.dicom.instance import Instance, write_instance
from coverslip.engine import EmbedRequest, Engine
from coverslip.errors import (
    AlreadyCarriesError,
    CoverslipError,
    DamagedMessageError,
    DoesNotComeBackError,
    EngineError,
    NoBodyError,
    NoCarriersError,
    NoMessageError,
    RecordTooLargeError,
    WrongKeyError,
)
from coverslip.keys import Identity, Recipient
from coverslip.metrics import Psnr
from coverslip.outcome import FrameReport, SpooledReports, Tally, changed_outside
from coverslip.scheme import address
from coverslip.scheme.carriers import allowed_blocks
from coverslip.scheme.dct import COEFFICIENTS, SIDE, to_blocks
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.offset import find_offset
from coverslip.scheme.paper import PaperEmbedded, embed_paper, extract_paper, find_side
from coverslip.scheme.phases import PhasePlane, phase_plane
from coverslip.scheme.profiles import PAPER_BETA, PROFILES, Profile, Scheme
from coverslip.scheme.reader import Reader, Votes
from coverslip.scheme.reference import measure_plane
from coverslip.scheme.repair import repair
from coverslip.seal import seal, unseal

_UID_LABEL = b"coverslip uid v1"
_CHECK_LABEL = b"coverslip check v1"
_CHECK_BYTES = 8
_LARGEST_SLOT = 8190
_ALPHAS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.45)


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
        Modules that the closing extraction read wrongly before the QR reader repaired them; the largest of any frame.
    payload : float
        Coefficients that carry a bit per pixel.
    psnr : Psnr
    changed_pixels, changed_outside : int
        Pixels that differ from the cover; those outside the carriers (always 0: anything else is refused).
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
        self.report.notes.extend(write_instance(self.instance, self.stego_frames, path, overwrite=overwrite))


@dataclass(frozen=True)
class Extraction:
    """A record that was read back.

    Attributes
    ----------
    record : Record
    frame : int
        The frame it was read from, from 0.
    votes : Votes
    profile : str
        The profile whose step and coefficients it was read with.
    """

    record: records.Record
    frame: int
    votes: Votes
    profile: str


@dataclass(frozen=True)
class SealedExtraction:
    """A sealed record that was read back.

    Attributes
    ----------
    sealed : bytes
        The frame; `coverslip.seal.unseal` opens it.
    frame, votes, profile
        As in `Extraction`.
    """

    sealed: bytes
    frame: int
    votes: Votes
    profile: str


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


def uid_key(recipient: Recipient) -> bytes:
    """The key under which UIDs are replaced: the same for every file sealed to a recipient, so that a series stays a series."""
    return hmac.digest(recipient.public, _UID_LABEL, hashlib.sha256)


def check_value(recipient: Recipient, sop_instance_uid: str) -> bytes:
    """Eight bytes that tell a reader whether a file was sealed to its key, without naming the recipient to anybody else."""
    return hmac.digest(recipient.public, _CHECK_LABEL + sop_instance_uid.encode(), hashlib.sha256)[:_CHECK_BYTES]


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

    MONOCHROME1 is turned over, so that air is dark. A range of padding becomes one value, and is put back afterwards.
    """
    lo, hi = instance.legal
    padding = None if use_padding else instance.padding
    value = lo - 1 if padding is None else lo + hi - padding[0] if instance.inverted else padding[0]
    ranged = None if padding is None or padding[0] == padding[1] else padding

    def turn(stored: NDArray[np.int32]) -> NDArray[np.int32]:
        turned = np.int32(lo + hi) - stored if instance.inverted else stored
        return turned if ranged is None else np.where((stored >= ranged[0]) & (stored <= ranged[1]), np.int32(value), turned)

    plain = ranged is None and not instance.inverted
    pixels = instance.frames if plain else TurnedFrames(instance.frames, turn)
    return Planes(pixels, instance.legal, value, instance, ranged)


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


def read_plane(
    pixels: NDArray[np.int32],
    recipient: Recipient,
    profile: Profile,
    phases: NDArray[np.uint8] | None = None,
    mask: NDArray[np.uint8] | None = None,
) -> Votes | None:
    """The votes of one plane for a recipient and a profile; None when nothing is found.

    Parameters
    ----------
    pixels : int32 [H, W]
        Air dark.
    recipient : Recipient
    profile : Profile
    phases : uint8 [Hb, Wb, 16], optional
        Measured by an engine at the profile's step; numpy measures them where absent.
    mask : uint8 [H, W], optional
        1 = body; reading needs none.
    """
    measured = measure_plane(pixels, profile.step) if phases is None else phases
    rows, cols = measured.shape[:2]
    if not rows or not cols:
        return None
    clear = None if mask is None else ~to_blocks(mask).any(axis=-1)
    dither = dither_plane(dither_key(recipient.public), rows, cols)
    return Reader(measured, dither, profile.step, profile.coefficients, profile.alpha, clear).find()


def read_cropped(pixels: NDArray[np.int32], recipient: Recipient, profile: Profile) -> Votes | None:
    """As `read_plane`, for an image whose rows and columns were cut away after embedding: the offset is searched for first."""
    key = dither_key(recipient.public)
    offset = find_offset(pixels, key, profile.step, profile.coefficients)
    if offset is None:
        return None
    (down, right), (row, col) = offset.align, offset.blocks
    measured = measure_plane(pixels[down:, right:], profile.step)
    rows, cols = measured.shape[:2]
    dither = dither_plane(key, row + rows, col + cols)[row:, col:]
    return Reader(measured, dither, profile.step, profile.coefficients, profile.alpha, origin=(row, col)).find()


def _covered(carriers: NDArray[np.bool_], slots: NDArray[np.int32]) -> int:
    return int(np.unique(slots[carriers]).size)


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
        self.symbol = symbols.draw(sealed)
        self._slots_needed = address.slot_count(len(self.symbol), len(profile.coefficients))
        if self._slots_needed > _LARGEST_SLOT:
            raise RecordTooLargeError(needed=len(sealed), available=symbols.MAX_FRAME_BYTES)
        rows, cols = (side // SIDE for side in planes.pixels.shape[1:])
        self._dither = dither_plane(dither_key(recipient.public), rows, cols) if rows and cols else None

    def _phase_plane(self, variant: int) -> PhasePlane:
        assert self._dither is not None
        return phase_plane(self.symbol, self._dither, self._profile.coefficients, self._profile.alpha, variant)

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
            return FrameReport(mask, carriers, None, "no body was found")
        if not carriers.any():
            return FrameReport(mask, carriers, None, "no block may carry")
        if outside := changed_outside(cover, stego, carriers):
            raise DoesNotComeBackError(
                f"the engine changed {outside} pixels outside the carriers; none was expected: do not use this model"
            )
        covered = _covered(carriers, slots)
        if (mean := carriers.sum() / self._slots_needed) < self._profile.least_votes:
            wanted = f"{self._profile.least_votes:g} are needed for what profile '{self._profile.name}' shall survive"
            return FrameReport(mask, carriers, None, f"{mean:.1f} for each group of modules, where {wanted}")
        votes = read_plane(stego, self._recipient, self._profile)
        try:
            if votes is not None and read_votes(votes) == self._sealed:
                return FrameReport(mask, carriers, votes)
        except DamagedMessageError:
            pass  # Said below, with the coverage that explains it.
        return FrameReport(
            mask, carriers, None, f"its carriers reach {covered} of the {self._slots_needed} groups of modules"
        )

    def _variant(self, frames: slice, variant: int) -> list[_Attempt]:
        plane = self._phase_plane(variant)
        done = self._engine.embed(_request(self._planes, frames, plane, self._profile))
        attempts = []
        for i, cover in enumerate(self._planes.pixels[frames]):
            carriers = done.carriers[i].astype(bool)
            report = self._judge(cover, done.stego[i], done.mask[i], carriers, plane.slots)
            attempts.append(_Attempt(done.stego[i], report))
        return attempts

    def _reaching_most(self, attempt: _Attempt) -> int:
        """The variant under which the carriers of an attempt reach most slots."""
        rows, cols = attempt.report.carriers.shape
        planes = [address.slot_plane(rows, cols, self._slots_needed, variant) for variant in range(address.VARIANTS)]
        return int(np.argmax([_covered(attempt.report.carriers, plane) for plane in planes]))

    def _batch(self, start: int, stop: int) -> list[_Attempt]:
        attempts = self._variant(slice(start, stop), 0)
        for i, attempt in enumerate(attempts):
            if self._profile.best_variant and (better := self._reaching_most(attempt)):
                attempts[i] = self._variant(slice(start + i, start + i + 1), better)[0]
        for i, attempt in enumerate(attempts):
            for variant in range(1, address.VARIANTS):
                worth = attempts[i].report.votes is None and attempt.report.carriers.any() and attempt.report.mask.any()
                if not worth:
                    break
                attempts[i] = self._variant(slice(start + i, start + i + 1), variant)[0]
        return attempts

    def run(self) -> Iterator[list[_Attempt]]:
        """Every frame, in order, some at a time."""
        if self._dither is None:
            return
        for start in range(0, len(self._planes.pixels), WINDOW):
            yield self._batch(start, min(start + WINDOW, len(self._planes.pixels)))


class _PaperEmbedder(_Embedder):
    """The paper's scheme: the engine only outlines the body, on both sides, and the mask is what the reader needs again."""

    def _batch(self, start: int, stop: int) -> list[_Attempt]:
        covers = self._planes.pixels[start:stop]
        masks = self._engine.segment(covers).mask
        done = [
            embed_paper(cover, mask, self.symbol, self._profile, self._planes.legal)
            for cover, mask in zip(covers, masks, strict=True)
        ]
        return [_Attempt(d.stego, self._judge_paper(d, mask)) for d, mask in zip(done, masks, strict=True)]

    def _judge_paper(self, done: PaperEmbedded, mask: NDArray[np.uint8]) -> FrameReport:
        try:
            votes = _read_paper(done.stego, self._engine, self._profile)
            if votes is not None and symbols.read(votes.symbol()) == self._sealed:
                return FrameReport(mask, done.carriers, votes)
        except DamagedMessageError:
            pass  # Said below, with the error rate that explains it.
        wrong = float(np.mean(extract_paper(done.stego, mask, len(self.symbol), self._profile) != self.symbol))
        reason = f"{wrong:.1%} of its modules are wrong once pixels are integers, even with the very same mask"
        return FrameReport(mask, done.carriers, None, reason)


def _read_paper(pixels: NDArray[np.int32], engine: Engine, profile: Profile) -> Votes | None:
    """Algorithm 2 on one plane: outline the body again, walk the same blocks."""
    mask = engine.segment(pixels[None]).mask[0]
    side = find_side(pixels, mask, profile)
    if side is None:
        return None
    read = extract_paper(pixels, mask, side, profile)
    return Votes(np.where(read, np.float32(1), np.float32(-1)), symbols.version_of(side), 0, 0.0)


def _refuse(reports: Sequence[FrameReport], slots_needed: int) -> CoverslipError:
    """The error that says why no frame carries."""
    if all(not r.mask.any() for r in reports):
        return NoBodyError(
            "no body was outlined in any frame; an image of a body with air around it was expected: "
            "look at it with 'coverslip inspect', and leave it out if it shows none"
        )
    best = max(reports, key=lambda r: int(r.carriers.sum()))
    if not best.carriers.any():
        return NoCarriersError(
            "no block of background may carry: expected air around the body that is dark and not padding; "
            "look at it with 'coverslip inspect', and try --use-padding if the background is padding"
        )
    return NoCarriersError(
        f"the background has room for {int(best.carriers.sum())} blocks where the record needs about {3 * slots_needed} "
        f"({best.reason}): choose a slice with more air, or a smaller record"
    )


def _verify_all(reports: Sequence[FrameReport], slots: int, paper: bool) -> None:
    if any(r.votes is not None for r in reports):
        return
    if paper and any(r.carriers.any() for r in reports):
        raise DoesNotComeBackError(
            f"the record would not come back ({next(r.reason for r in reports if r.reason)}); nothing was written: "
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


def own_span(instance: Instance) -> int:
    """How far an instance's highest pixel is above its lowest, over all frames; at least 1."""
    low, high = instance.frames.extremes()
    return max(high - low, 1)


def settle_step(profile: Profile, beta: float | None, instance: Instance) -> Profile:
    """The profile with its step settled: by beta over the legal range, or over the image's own for the paper's scheme; else by the
    profile itself, which may want the image's own range for it.
    """
    if profile.scheme is Scheme.PAPER:
        return profile.with_beta(beta or PAPER_BETA, own_span(instance))
    lo, hi = instance.legal
    return profile.for_span(own_span(instance)) if beta is None else profile.with_beta(beta, hi - lo)


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
        A record that was sealed elsewhere (`coverslip.seal.seal`), for an instance that is de-identified already: its header is kept.
    spool : Path, optional
        The folder for temporary files that long instances need, two bytes for each pixel; the system's where absent.

    Returns
    -------
    Embedding
        Read back already: what does not come back is never returned.

    Raises
    ------
    AlreadyCarriesError, BurnedInAnnotationError, RecordTooLargeError, NoBodyError, NoCarriersError, DoesNotComeBackError
    """
    if header.read_mark(instance.dataset) is not None:
        raise AlreadyCarriesError(
            "the instance carries a record already; an original was expected: extract it first, or leave the file as it is"
        )
    profile = settle_step(options.profile, options.beta, instance)
    if sealed_frame is None:
        clean, sealed = _sealed_header(instance, recipient, options.allow_burned_in)
    else:
        clean, sealed = copy.deepcopy(instance.dataset), _Sealed(sealed_frame, 0, 0, [])
    planes = engine_planes(instance, options.use_padding)
    paper = profile.scheme is Scheme.PAPER
    embedder = (_PaperEmbedder if paper else _Embedder)(planes, recipient, profile, engine, sealed.frame)
    stego = SpooledFrames(instance.frames.shape, instance.legal, spool)
    frames, tally = SpooledReports(spool), Tally()
    for attempts in embedder.run():
        start = len(frames)
        cover = instance.frames.read(start, start + len(attempts))
        made = _assemble(planes, start, attempts)
        tally.add(cover, made, [a.report.carriers for a in attempts])
        stego.add(made)
        frames.extend(a.report for a in attempts)
    _verify_all(frames, address.slot_count(len(embedder.symbol), len(profile.coefficients)), paper)
    header.mark(clean, profile.name, profile.step, check_value(recipient, str(clean.SOPInstanceUID)))
    report = _report(instance, tally, frames, embedder.symbol, profile, sealed)
    return Embedding(instance.with_dataset(clean), stego, frames, embedder.symbol, report)


def _sealed_header(instance: Instance, recipient: Recipient, allow_burned_in: bool) -> tuple[Dataset, _Sealed]:
    """The de-identified header, and the sealed record of what it lost."""
    clean, record, dropped = header.deidentify(instance.dataset, uid_key(recipient), allow_burned_in=allow_burned_in)
    encoded = records.encode(record)
    return clean, _Sealed(seal(encoded, recipient.public), len(encoded), len(record), dropped)


def _assemble(planes: Planes, start: int, attempts: Sequence[_Attempt]) -> NDArray[np.int32]:
    """The stored stego planes from frame ``start`` on; a frame that carries nothing stays the cover."""
    covers = planes.pixels.read(start, start + len(attempts))
    stego = np.stack([a.stego if a.report.votes is not None else cover for a, cover in zip(attempts, covers, strict=True)])
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


def _candidates(marked: header.Mark | None, profile: Profile | None, instance: Instance) -> Iterator[Profile]:
    """The profiles to try, likeliest first: the one the header names, the caller's, then the rest; the paper's only when named."""
    named = None if marked is None else PROFILES.get(marked.profile)
    if marked is not None and named is not None and profile in (None, named):
        yield replace(named, step=marked.step)
    for candidate in [p for p in PROFILES.values() if p.scheme is Scheme.KEYED] if profile is None else [profile]:
        # The image's range is looked up only where a step depends on it: it takes a pass over every frame.
        yield from candidate.near_span(own_span(instance)) if candidate.span_share else [candidate]
    if marked is not None and named is not None and profile is None and named.scheme is Scheme.KEYED:
        # The mark does not say alpha: where the profile's own finds nothing, those a caller may have chosen are tried last.
        yield from (replace(named, step=marked.step, alpha=alpha) for alpha in _ALPHAS)


def extract(
    instance: Instance,
    identity: Identity,
    engine: Engine | None = None,
    profile: Profile | None = None,
    cropped: bool = False,
) -> Extraction:
    """Read the record that an instance carries.

    Parameters
    ----------
    instance : Instance
    identity : Identity
        Who it was sealed to.
    engine : Engine, optional
        Measures phases and outlines the body, whose blocks then count for less. Reading needs none.
    profile : Profile, optional
        Step and coefficients to read with; every profile is tried where absent.
    cropped : bool
        Rows or columns may have been cut away: search for the place too where nothing is found at the first one. Takes seconds.

    Raises
    ------
    WrongKeyError
        The header says that the record was sealed to somebody else.
    NoMessageError
        Nothing is found, and the header does not say that something is there.
    DamagedMessageError
        Something is there, but cannot be read.
    """
    found = _find(
        instance, identity.recipient, lambda frame: open_frame(frame, identity), engine, profile, cropped
    )
    return Extraction(found.content, found.frame, found.votes, found.profile)


def extract_sealed(
    instance: Instance,
    recipient: Recipient,
    engine: Engine | None = None,
    profile: Profile | None = None,
    cropped: bool = False,
) -> SealedExtraction:
    """Read the sealed record that an instance carries, without the key that opens it.

    Parameters and errors as for `extract`, but for the recipient in place of the identity.
    """
    found = _find(instance, recipient, lambda frame: frame, engine, profile, cropped)
    return SealedExtraction(found.content, found.frame, found.votes, found.profile)


_Content = TypeVar("_Content")


@dataclass(frozen=True)
class _Found(Generic[_Content]):
    """What was made of a sealed frame, and where it was."""

    content: _Content
    frame: int
    votes: Votes
    profile: str


def _find(
    instance: Instance,
    recipient: Recipient,
    take: Callable[[bytes], _Content],
    engine: Engine | None,
    profile: Profile | None,
    cropped: bool,
) -> _Found[_Content]:
    """The first sealed frame that ``take`` does not call damaged."""
    marked = header.read_mark(instance.dataset)
    if marked is not None and not hmac.compare_digest(
        marked.check, check_value(recipient, str(instance.dataset.get("SOPInstanceUID", "")))
    ):
        raise WrongKeyError(
            "the record was sealed to another recipient; this identity cannot read it: use that recipient's identity file"
        )
    planes = engine_planes(instance)
    damaged: CoverslipError | None = None
    for candidate in _candidates(marked, profile, instance):
        try:
            found = _find_frames(planes, recipient, take, engine, candidate, cropped)
        except DamagedMessageError as error:
            damaged = error
            continue
        if found is not None:
            return found
    if damaged is not None:
        raise damaged
    if marked is not None:
        raise DamagedMessageError(
            "the header says that a record is here for this identity, but its pixels carry none: they were changed after "
            "embedding; read it from an undamaged copy"
        )
    raise NoMessageError(
        "no record for this identity was found: either the file carries none, or it was sealed to another recipient; "
        "check both"
    )


def _find_frames(
    planes: Planes,
    recipient: Recipient,
    take: Callable[[bytes], _Content],
    engine: Engine | None,
    profile: Profile,
    cropped: bool,
) -> _Found[_Content] | None:
    damaged: DamagedMessageError | None = None
    for number, pixels in enumerate(planes.pixels):
        votes = _read_frame(pixels, recipient, engine, profile)
        if votes is None and cropped:
            votes = read_cropped(pixels, recipient, profile)
        if votes is None:
            continue
        try:
            return _Found(take(read_votes(votes)), number, votes, profile.name)
        except DamagedMessageError as error:
            damaged = error
    if damaged is not None:
        raise damaged
    return None


def _read_frame(
    pixels: NDArray[np.int32], recipient: Recipient, engine: Engine | None, profile: Profile
) -> Votes | None:
    if profile.scheme is Scheme.PAPER:
        if engine is None:
            raise EngineError("the paper's scheme reads with the network's outline: leave out --no-model, or embed with another profile")
        return _read_paper(pixels, engine, profile)
    if engine is None:
        return read_plane(pixels, recipient, profile)
    measured = engine.extract(pixels[None], np.array([profile.step], dtype=np.float32))
    return read_plane(pixels, recipient, profile, measured.phases[0], measured.mask[0])


def read_votes(votes: Votes) -> bytes:
    """The sealed frame that votes say: by a QR reader as it stands, or after repair where too many modules are doubtful.

    Raises
    ------
    DamagedMessageError
        Too much of it is missing.
    """
    try:
        return symbols.read(votes.symbol())
    except DamagedMessageError:
        repaired = repair(votes)
        if repaired is None:
            raise
        return symbols.read(repaired)


def open_frame(sealed: bytes, identity: Identity) -> records.Record:
    """Open and decode a sealed frame that was found by its identity's own dither.

    Raises
    ------
    DamagedMessageError
        It does not open, although the dither was this identity's.
    """
    try:
        return records.decode(unseal(sealed, identity.secret))
    except WrongKeyError:
        raise DamagedMessageError(
            "a record for this identity was found but does not open: it was altered, or made by something that is not "
            "Coverslip; read it from an undamaged copy"
        ) from None


def restore(instance: Instance, record: records.Record) -> Instance:
    """The instance with its identity back in the header, every recorded attribute as it was; pixels stay as they are."""
    return instance.with_dataset(header.restore(instance.dataset, record))


@dataclass(frozen=True)
class Survey:
    """What there is to work with in an instance, before anything is embedded.

    Attributes
    ----------
    instance : Instance
    mask : uint8 [H, W]
        Body of the first frame.
    allowed : bool [Hb, Wb]
        Blocks of the first frame that may carry.
    recorded, record_bytes, sealed_bytes, modules : int
    """

    instance: Instance
    mask: NDArray[np.uint8]
    allowed: NDArray[np.bool_]
    recorded: int
    record_bytes: int
    sealed_bytes: int
    modules: int

    def summary(self) -> dict[str, object]:
        """The figures, ready for JSON."""
        frames, rows, columns = self.instance.frames.shape
        return {
            "frames": frames,
            "rows": rows,
            "columns": columns,
            "legal": list(self.instance.legal),
            "transfer_syntax": UID(self.instance.transfer_syntax).name,
            "body": float(np.mean(self.mask)),
            "background": float(self.allowed.sum()) * COEFFICIENTS / (rows * columns),
            "recorded": self.recorded,
            "record_bytes": self.record_bytes,
            "sealed_bytes": self.sealed_bytes,
            "modules": self.modules,
            "notes": list(self.instance.notes),
        }


def survey(instance: Instance, recipient: Recipient, engine: Engine, use_padding: bool = False) -> Survey:
    """Outline the first frame's body, count what may carry, and weigh the record; writes nothing."""
    _, record, _ = header.deidentify(instance.dataset, uid_key(recipient), allow_burned_in=True)
    encoded = records.encode(record)
    sealed = seal(encoded, recipient.public)
    planes = engine_planes(instance, use_padding)
    mask = engine.segment(planes.pixels[:1]).mask[0]
    allowed = allowed_blocks(planes.pixels[0], mask, planes.legal, planes.padding, PROFILES["default"].margin)
    side = len(symbols.draw(sealed))
    return Survey(instance, mask, allowed, len(record), len(encoded), len(sealed), side * side)


def would_fit(
    instance: Instance, recipient: Recipient, engine: Engine, profile: Profile, use_padding: bool = False
) -> dict[str, object]:
    """Embed into memory and say how it went: ``fits`` with its figures, or the reason why not."""
    try:
        report = embed(instance, recipient, engine, EmbedOptions(profile, use_padding=use_padding)).report
    except CoverslipError as error:
        return {"fits": False, "code": error.code, "message": str(error)}
    return {
        "fits": True,
        "votes_per_module": report.votes_per_module,
        "module_errors": report.module_errors,
        "carriers": report.carriers,
        "payload": report.payload,
        "psnr": asdict(report.psnr),
    }
