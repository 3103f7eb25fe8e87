"""Moves an instance's identity out of its header, and reads it back before anything is written.

The record goes into the pixels where it is sure that they are air, and into the header alone
everywhere else: when in doubt, the header, since nothing is lost by it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from coverslip import record as records
from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import FrameKind, kind_of, seal
from coverslip.deidentification import header
from coverslip.deidentification.header import Dropped
from coverslip.deidentification.mark import (
    Carried,
    Mark,
    new_mark,
    read_mark,
    write_mark,
    write_sealed_record,
)
from coverslip.dicom.instance import Instance, write_instance
from coverslip.dicom.objects import DicomObject, write_object
from coverslip.eligibility import BurnedIn, Kind, burned_in, describe, judge
from coverslip.engine import Engine
from coverslip.errors import (
    AlreadyCarriesError,
    CoverslipError,
    DoesNotComeBackError,
    HeaderOnlyError,
    LossySourceError,
    NoBodyError,
    NoCarriersError,
    RecordTooLargeError,
)
from coverslip.files import refuse_malformed
from coverslip.pipeline.binding import (
    BindingSeal,
    Brightness,
    bind,
    dark_air,
    measure_brightness,
    pack,
)
from coverslip.pipeline.embedders import Attempt, FrameEmbedder
from coverslip.pipeline.frame_reports import FrameReport, SpooledReports, Tally
from coverslip.pipeline.keyed_embedder import KeyedEmbedder
from coverslip.pipeline.paper_embedder import PaperEmbedder
from coverslip.pipeline.planes import Planes, PlaneWindow, engine_planes, step_choices
from coverslip.pipeline.reading import uid_key
from coverslip.pipeline.refusals import is_disturbed, refuse
from coverslip.pipeline.reports import (
    EmbedReport,
    HeaderReason,
    SealedRecord,
    header_report,
    pixel_report,
)
from coverslip.pipeline.sealed_header import content_binding, seal_header_part
from coverslip.pixels.decoding import not_writable
from coverslip.pixels.frames import Frames, SpooledFrames
from coverslip.qr import symbol as symbols
from coverslip.scheme.profiles import Profile, Scheme

_TO_THE_HEADER = (NoBodyError, NoCarriersError, RecordTooLargeError, DoesNotComeBackError)
"""What sends a record to the header: the image has no room, or not the room the profile needs."""

LEAST_STEPS = 5
"""Steps that the bright end of an image is above its air, at the least. With fewer the air becomes
visibly uneven and hardly differs from tissue. With `default` it sends none of 474 labelled slices
to the header; at 6 steps it would be 3, at 8 steps 9."""

_SILENT = (
    "the header says nothing about burned-in annotation; Coverslip does not look for text in pixels"
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
        Accept an instance that says, or does not deny, that its pixels show identity.
    require_pixels : bool
        Refuse what would be carried in the header.
    allow : frozenset of Kind
        Kinds of image whose pixels may carry all the same, out of
        `coverslip.eligibility.ALLOWABLE`.
    """

    profile: Profile
    beta: float | None = None
    use_padding: bool = False
    allow_burned_in: bool = False
    require_pixels: bool = False
    allow: frozenset[Kind] = frozenset()


@dataclass
class StegoPixels:
    """What embedding made of the pixels.

    Attributes
    ----------
    frames : Frames
        Stored values int32 [F, H, W].
    reports : sequence of FrameReport
    symbol : bool [n, n]
    """

    frames: Frames
    reports: SpooledReports
    symbol: NDArray[np.bool_]


@dataclass
class Embedding:
    """An object that is ready to be written.

    Attributes
    ----------
    source : DicomObject
    header : Dataset
        De-identified, marked.
    pixels : StegoPixels or None
        None where the header carries the record.
    report : EmbedReport
    """

    source: DicomObject
    header: Dataset = field(repr=False)
    pixels: StegoPixels | None = field(repr=False)
    report: EmbedReport

    @property
    def instance(self) -> Instance:
        """The stego header over the cover's frames; for images only."""
        return _image(self.source).with_dataset(self.header)

    @property
    def frames(self) -> Sequence[FrameReport]:
        """What happened to each frame; empty where the header carries the record."""
        return () if self.pixels is None else self.pixels.reports

    @property
    def symbol(self) -> NDArray[np.bool_]:
        """The QR symbol bool [n, n]; of no modules where the header carries the record."""
        return np.empty((0, 0), dtype=bool) if self.pixels is None else self.pixels.symbol

    @property
    def stego_frames(self) -> Frames:
        """Stored stego values; the cover's where the header carries the record."""
        return _image(self.source).frames if self.pixels is None else self.pixels.frames

    @cached_property
    def stego(self) -> NDArray[np.int32]:
        """All stego frames in memory, int32 [F, H, W]."""
        return self.stego_frames.whole()

    def write(self, path: Path, overwrite: bool = False) -> None:
        """Write the file; the report's notes grow by what the transfer syntax needed.

        Raises
        ------
        OutputExistsError
            Something is at ``path``, or it is the source.
        DoesNotComeBackError
            What was written does not decode to the pixels it was made from; nothing stays.
        """
        if self.pixels is None:
            write_object(self.source, self.header, path, overwrite)
            return
        written = write_instance(self.instance, self.pixels.frames, path, overwrite=overwrite)
        self.report.notes.extend(written)


def _image(source: DicomObject) -> Instance:
    assert source.image is not None
    return source.image


@dataclass(frozen=True)
class CleanHeader:
    """A de-identified header, and the record of what it lost.

    Attributes
    ----------
    header : Dataset
        Not marked yet.
    encoded : bytes
        The record; empty where the sealed header part alone will hold it.
    recorded : int
        Attributes in the record.
    dropped : list of Dropped
    sealed_frame : bytes
        A record that the caller sealed in place of all that.
    """

    header: Dataset
    encoded: bytes
    recorded: int
    dropped: list[Dropped]
    sealed_frame: bytes = b""

    def seal(self, recipient: Recipient, binding: BindingSeal | None) -> SealedRecord:
        """Seal the record with a binding; a frame that the caller sealed stays as it is."""
        if self.sealed_frame:
            bound = binding is not None and is_bound_frame(self.sealed_frame)
            return SealedRecord(self.sealed_frame, 0, 0, [], bound)
        frame = b""
        if self.encoded:
            content = pack(binding, self.encoded)
            frame = seal(content, recipient.public, FrameKind.BOUND_RECORD)
        return SealedRecord(
            frame, len(self.encoded), self.recorded, self.dropped, binding is not None
        )


def embed(
    source: DicomObject | Instance,
    recipient: Recipient,
    engine: Engine,
    options: EmbedOptions,
    sealed_frame: bytes | None = None,
    spool: Path | None = None,
) -> Embedding:
    """Move an object's identity from its header into its background, or sealed into its header.

    Parameters
    ----------
    source : DicomObject or Instance
        From `coverslip.dicom.objects.read_object`, or an image of
        `coverslip.dicom.instance.read_instance`.
    recipient : Recipient
        Who will be able to read it.
    engine : Engine
    options : EmbedOptions
    sealed_frame : bytes, optional
        A record that was sealed elsewhere, for an object that is de-identified already: its header
        is kept, and no header part is made.
    spool : Path, optional
        The folder for temporary files that long instances need, two bytes for each pixel; the
        system's where absent.

    Returns
    -------
    Embedding
        Read back already: what cannot be read is never returned.

    Raises
    ------
    AlreadyCarriesError, BurnedInAnnotationError
    HeaderOnlyError
        With ``require_pixels``, an object that only the header can carry.
    EngineError
    """
    source = as_object(source)
    refuse_marked(source)
    clean = clean_header(source, recipient, options, sealed_frame)
    reasons = reasons_against_pixels(_judged_header(source, sealed_frame), source, options)
    if not reasons:
        try:
            return _in_pixels(source, clean, recipient, engine, options, spool)
        except _TO_THE_HEADER as error:
            if options.require_pixels or _is_fault(error, options):
                raise
            reasons = [HeaderReason(error.code, str(error))]
    return embed_in_header(source, clean, recipient, options, reasons)


def refuse_marked(source: DicomObject) -> None:
    """Refuse an object that carries a record.

    Raises
    ------
    AlreadyCarriesError
    """
    if read_mark(source.dataset) is not None:
        raise AlreadyCarriesError(
            "the instance carries a record already; an original was expected: extract it first, "
            "or leave the file as it is"
        )


def as_object(source: DicomObject | Instance) -> DicomObject:
    """An object; an image that was read by itself as one."""
    return source if isinstance(source, DicomObject) else DicomObject.of_image(source)


def _is_fault(error: CoverslipError, options: EmbedOptions) -> bool:
    """Whether an error says that something is broken, and not that there is no room."""
    paper = options.profile.scheme is Scheme.PAPER
    return isinstance(error, DoesNotComeBackError) and (paper or error.is_fault)


def clean_header(
    source: DicomObject,
    recipient: Recipient,
    options: EmbedOptions,
    sealed_frame: bytes | None = None,
) -> CleanHeader:
    """De-identify a header; one that comes with a sealed record is de-identified already.

    Raises
    ------
    BurnedInAnnotationError
    """
    if sealed_frame is not None:
        return CleanHeader(copy.deepcopy(source.dataset), b"", 0, [], sealed_frame)
    clean, record, dropped = header.deidentify(
        source.dataset, uid_key(recipient), allow_burned_in=options.allow_burned_in
    )
    try:
        with refuse_malformed():
            encoded = records.encode(record)
    except RecordTooLargeError:
        encoded = b""  # The sealed header part holds the original header, and so the record.
    return CleanHeader(clean, encoded, len(record), dropped)


def is_bound_frame(sealed_frame: bytes) -> bool:
    """Whether a sealed record says which image it belongs to."""
    return kind_of(sealed_frame) is FrameKind.BOUND_RECORD


def _judged_header(source: DicomObject, sealed_frame: bytes | None) -> Dataset:
    """The header that says whether pixels may carry.

    Whoever seals a bound record has judged the original header. What de-identification wrote does
    not count against the pixels then: DERIVED makes many a term in the Image Type one that rules
    them out.
    """
    if sealed_frame is None or not is_bound_frame(sealed_frame):
        return source.dataset
    return header.restore(source.dataset, records.Record(records.Level(), records.Level()))


def reasons_against_pixels(
    judged: Dataset, source: DicomObject, options: EmbedOptions
) -> list[HeaderReason]:
    """Why the header alone may carry, as far as a header tells; empty where pixels may."""
    if source.image is not None and source.image.is_lossy:
        error = not_writable(source.transfer_syntax)
        return [HeaderReason(error.code, str(error))]
    if isinstance(source.not_image, LossySourceError):
        return [HeaderReason(source.not_image.code, str(source.not_image))]
    excluded = judge(judged, options.allow).excluded_by
    reasons = [HeaderReason(kind.value, describe(kind)) for kind in excluded]
    if source.not_image is not None and not reasons:
        return [HeaderReason(source.not_image.code, str(source.not_image))]
    return reasons


def narrowed_planes(
    instance: Instance, brightness: Brightness, level: int | None, use_padding: bool
) -> Planes:
    """Planes whose legal range keeps bright blocks as they are, and nothing below the minimum."""
    planes = engine_planes(instance, use_padding)
    lo, hi = planes.legal
    planes.legal = (max(lo, brightness.lowest), hi if level is None else min(hi, level - 1))
    return planes


def _check_range(brightness: Brightness, profile: Profile) -> None:
    """Raise NoCarriersError where air and body are not apart, or hardly, for a profile's step."""
    if profile.scheme is Scheme.PAPER:
        return
    if brightness.level is None:
        raise NoCarriersError(
            "nothing stands out of the darkest part of the image, so that nothing tells air from "
            "body; a body brighter than the air around it was expected"
        )
    if profile.span_share:
        return
    own, least = brightness.bright - brightness.air, round(LEAST_STEPS * profile.step)
    if own < least:
        raise NoCarriersError(
            f"the body is only {own} grey levels brighter than the air, where profile "
            f"'{profile.name}' needs {least}: use one with a smaller step"
        )


def _in_pixels(
    source: DicomObject,
    clean: CleanHeader,
    recipient: Recipient,
    engine: Engine,
    options: EmbedOptions,
    spool: Path | None,
) -> Embedding:
    instance = _image(source)
    if not clean.encoded and not clean.sealed_frame:
        largest = symbols.MAX_FRAME_BYTES
        raise RecordTooLargeError(needed=largest + 1, available=largest)
    air = dark_air(instance)
    brightness = measure_brightness(air, instance.legal[0])
    choices = step_choices(options.profile, options.beta, instance)

    _check_range(brightness, choices[0])

    def attempt(profile: Profile) -> _Made:
        # A frame that was sealed elsewhere is bound at the first choice's level.
        level = brightness.level_for(choices[0].step if clean.sealed_frame else profile.step)
        if profile.scheme is Scheme.PAPER:
            level = None
        planes = narrowed_planes(instance, brightness, level, options.use_padding)
        if profile.scheme is Scheme.PAPER:
            planes.legal = instance.legal
        bound = None if level is None else bind(air, level)
        sealed = clean.seal(recipient, bound)
        return _embed_frames(planes, recipient, profile, engine, sealed, spool)

    made = _first_undisturbed(choices, attempt)
    error = refuse(made.reports, made.profile, made.slots_needed)
    if error is not None:
        raise error
    part = b""
    if not clean.sealed_frame:
        part = seal_header_part(source, clean.header, recipient, made.stego)
    mark = new_mark(recipient, made.sealed.frame, made.profile.name, made.profile.step)
    write_mark(clean.header, mark, part)
    report = pixel_report(
        instance.frames.shape,
        instance.legal,
        made.tally,
        made.reports,
        made.symbol,
        made.profile,
        made.sealed,
        len(part),
        notes_of(source),
    )
    return Embedding(
        source, clean.header, StegoPixels(made.stego, made.reports, made.symbol), report
    )


def embed_in_header(
    source: DicomObject,
    clean: CleanHeader,
    recipient: Recipient,
    options: EmbedOptions,
    reasons: list[HeaderReason],
) -> Embedding:
    """Let the header carry the record.

    Raises
    ------
    HeaderOnlyError
        The pixels were asked for.
    """
    if options.require_pixels:
        raise HeaderOnlyError(
            "only the header can carry the record of this object "
            f"({'; '.join(reason.message for reason in reasons)}), and --require-pixels was asked "
            "for: leave it out to have it carried in the header"
        )
    if not clean.sealed_frame:
        header.keep_image_type(clean.header, source.dataset)
    binding = content_binding(source, clean.header)
    sealed = clean.seal(recipient, binding)
    part = b"" if clean.sealed_frame else seal_header_part(source, clean.header, recipient, None)
    mark: Mark = new_mark(recipient, sealed.frame or part, carried=Carried.HEADER)
    write_mark(clean.header, mark, part)
    write_sealed_record(clean.header, sealed.frame)
    frames = len(source.image.frames) if source.image is not None else 0
    report = header_report(frames, reasons, sealed, len(part), notes_of(source))
    return Embedding(source, clean.header, None, report)


def notes_of(source: DicomObject) -> list[str]:
    """What the reader of a report should know before anything was embedded."""
    silent = burned_in(source.dataset) is BurnedIn.SILENT
    return [*source.notes, _SILENT] if silent else list(source.notes)


@dataclass(frozen=True)
class _Made:
    """Every frame of an instance, done with one choice of step and votes."""

    profile: Profile
    sealed: SealedRecord
    symbol: NDArray[np.bool_]
    slots_needed: int
    stego: SpooledFrames
    reports: SpooledReports
    tally: Tally


def _first_undisturbed(choices: Sequence[Profile], attempt: Callable[[Profile], _Made]) -> _Made:
    """What the first choice makes that survives its disturbances, else what the last one makes.

    Only one is held at a time.
    """
    for choice in choices[:-1]:
        made = attempt(choice)
        if not is_disturbed(made.reports):
            return made
        del made
    return attempt(choices[-1])


def _embed_frames(
    planes: Planes,
    recipient: Recipient,
    profile: Profile,
    engine: Engine,
    sealed: SealedRecord,
    spool: Path | None,
) -> _Made:
    embedder: FrameEmbedder
    if profile.scheme is Scheme.PAPER:
        embedder = PaperEmbedder(planes, profile, engine, sealed.frame)
    else:
        embedder = KeyedEmbedder(planes, recipient, profile, engine, sealed.frame)
    instance = planes.instance
    stego = SpooledFrames(instance.frames.shape, instance.legal, spool)
    reports, tally = SpooledReports(spool), Tally()
    for window, attempts in embedder.run():
        made = planes.back(window.stored, _stego_planes(window, attempts))
        tally.add(window.stored, made, [each.report.carriers for each in attempts])
        stego.add(made)
        reports.extend(each.report for each in attempts)
    return _Made(profile, sealed, embedder.symbol, embedder.slots_needed, stego, reports, tally)


def _stego_planes(window: PlaneWindow, attempts: Sequence[Attempt]) -> NDArray[np.int32]:
    """Stego planes of a window; a frame that carries nothing stays the cover."""
    return np.stack(
        [
            cover if attempt.report.votes is None else attempt.stego
            for attempt, cover in zip(attempts, window.planes, strict=True)
        ]
    )
