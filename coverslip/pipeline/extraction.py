"""Gives the record back to the holder of the key, or the sealed record to whoever carries it there.

A mark is a hint: whatever it says, the pixels are read before anything is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip.crypto.seal import FrameKind, kind_of, unseal
from coverslip.deidentification import header
from coverslip.deidentification.mark import (
    Carried,
    Mark,
    read_mark,
    read_sealed_part,
    read_sealed_record,
)
from coverslip.dicom.instance import Instance
from coverslip.dicom.objects import DicomObject
from coverslip.engine import Engine
from coverslip.errors import (
    CannotWriteError,
    CoverslipError,
    DamagedMessageError,
    EngineError,
    NoMessageError,
    WrongKeyError,
)
from coverslip.pipeline.binding import Binding, BindingSeal, Change, dark_air, matches
from coverslip.pipeline.embedding import as_object
from coverslip.pipeline.header_part import HeaderPart, decode_header_part
from coverslip.pipeline.planes import Planes, engine_planes, own_span
from coverslip.pipeline.reading import (
    OpenedFrame,
    open_frame,
    read_cropped,
    read_paper,
    read_plane,
    read_votes,
    uid_key,
)
from coverslip.pipeline.sealed_header import (
    content_digest,
    has_pixels_of,
    is_bound_to,
    sealed_original,
)
from coverslip.scheme.profiles import PROFILES, Profile, Scheme, readable
from coverslip.scheme.reader import Votes

_ALPHAS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.45)


@dataclass(frozen=True)
class SealedExtraction:
    """A sealed record that was found.

    Attributes
    ----------
    sealed : bytes
        The frame; empty where the sealed header part alone holds the record.
    carried : Carried
    frame : int
        The image frame it was read from, from 0; 0 where the header carries it.
    votes : Votes or None
        None where the header carries it, or where a server read it.
    profile : str
        The profile whose step and coefficients it was read with; empty where the header carries
        it.
    agreement : float
        How far the symbol's known modules stand out of chance, in standard deviations; 0 where the
        header carries the record.
    """

    sealed: bytes
    carried: Carried
    frame: int = 0
    votes: Votes | None = None
    profile: str = ""
    agreement: float = 0.0


@dataclass(frozen=True)
class Extraction:
    """A record that was read back.

    Attributes
    ----------
    record : Record
    found : SealedExtraction
    binding : Binding
        Whether the record belongs to this image.
    changes : tuple of Change
        What shows that the file is not as embedding left it. A new SOP Instance UID alone does not
        speak against a record whose image is verified.
    part : HeaderPart or None
        The sealed header part; None where there is none that opens.
    part_error : CoverslipError or None
        Why a header part that is there does not open. It costs what it held, and nothing else.
    bound_to : BindingSeal or None
        What the record says of its image; None where it says nothing.
    """

    record: records.Record
    found: SealedExtraction
    binding: Binding
    changes: tuple[Change, ...] = ()
    part: HeaderPart | None = field(default=None, repr=False)
    part_error: CoverslipError | None = None
    bound_to: BindingSeal | None = field(default=None, repr=False)

    @property
    def carried(self) -> Carried:
        """Where the record was found."""
        return self.found.carried

    @property
    def frame(self) -> int:
        """The image frame it was read from, from 0."""
        return self.found.frame

    @property
    def votes(self) -> Votes | None:
        """What the pixels say; None where the header carries the record."""
        return self.found.votes

    @property
    def profile(self) -> str:
        """The profile it was read with; empty where the header carries it."""
        return self.found.profile

    @property
    def is_changed(self) -> bool:
        """Whether something says that the record may not belong to this image."""
        return self.binding is Binding.CHANGED


def extract(
    source: DicomObject | Instance,
    identity: Identity,
    engine: Engine | None = None,
    profile: Profile | None = None,
    cropped: bool = False,
) -> Extraction:
    """Read the record that an object carries, and say whether it belongs to it.

    Parameters
    ----------
    source : DicomObject or Instance
    identity : Identity
        Who it was sealed to.
    engine : Engine, optional
        Measures phases and outlines the body, whose blocks then count for less. Reading needs none.
    profile : Profile, optional
        Step and coefficients to read with; every profile is tried where absent.
    cropped : bool
        Rows or columns may have been cut away: search for the place too where nothing is found at
        the first one. Takes seconds.

    Raises
    ------
    WrongKeyError
        The header says that the record was sealed to somebody else, and the pixels hold none for
        this identity.
    NoMessageError
        Nothing is found, and the header does not say that something is there.
    DamagedMessageError
        Something is there, but cannot be read.
    """
    source = as_object(source)
    search = _Search(source, identity.recipient, engine, profile, cropped)
    part, part_error = _open_part(source, identity)
    try:
        found = search.run(lambda frame: (frame, open_frame(frame, identity)))
    except CoverslipError as error:
        # An engine's trouble says nothing about the file.
        if isinstance(error, EngineError) or part is None or not part.head:
            raise
        return _from_part(source, identity, part)
    sealed, opened = found.content
    return _judged(source, identity, opened, replace(found.place, sealed=sealed), part, part_error)


def open_sealed(
    source: DicomObject | Instance, found: SealedExtraction, identity: Identity
) -> Extraction:
    """Open what `extract_sealed` found, here or on a server, and say whether it belongs here.

    Raises
    ------
    WrongKeyError, DamagedMessageError
    """
    source = as_object(source)
    part, part_error = _open_part(source, identity)
    if not found.sealed:
        if part is None or not part.head:
            raise part_error or DamagedMessageError(
                "the sealed header part alone held the record, and is not there any more: read it "
                "from an undamaged copy"
            )
        return _from_part(source, identity, part)
    opened = open_frame(found.sealed, identity)
    return _judged(source, identity, opened, found, part, part_error)


def extract_sealed(
    source: DicomObject | Instance,
    recipient: Recipient,
    engine: Engine | None = None,
    profile: Profile | None = None,
    cropped: bool = False,
) -> SealedExtraction:
    """Read the sealed record that an object carries, without the key that opens it.

    Parameters and errors as for `extract`, but for the recipient in place of the identity. Where
    the sealed header part alone may hold the record, the result's frame is empty: whether the part
    opens shows with the key.
    """
    source = as_object(source)
    search = _Search(source, recipient, engine, profile, cropped)
    try:
        found = search.run(lambda frame: frame)
    except (WrongKeyError, NoMessageError, DamagedMessageError):
        if not search.is_ours or not read_sealed_part(source.dataset):
            raise
        return SealedExtraction(b"", Carried.HEADER)
    return replace(found.place, sealed=found.content)


def _open_part(
    source: DicomObject, identity: Identity
) -> tuple[HeaderPart | None, CoverslipError | None]:
    sealed = read_sealed_part(source.dataset)
    if not sealed:
        return None, None
    try:
        if kind_of(sealed) is not FrameKind.HEADER_PART:
            raise DamagedMessageError(
                "the sealed header part holds something else: use an undamaged copy of the file"
            )
        return decode_header_part(unseal(sealed, identity.secret)), None
    except (WrongKeyError, DamagedMessageError) as error:
        return None, error


def _from_part(source: DicomObject, identity: Identity, part: HeaderPart) -> Extraction:
    """The record that the original header in a sealed part implies.

    Raises
    ------
    DamagedMessageError
        What is in the part is not a header.
    """
    head, _ = sealed_original(part)
    try:
        _, record, _ = header.deidentify(head, uid_key(identity.recipient), allow_burned_in=True)
    except CannotWriteError:
        raise DamagedMessageError(
            "the sealed header part holds a header that cannot be read: use an undamaged copy of "
            "the file"
        ) from None
    opened = OpenedFrame(record, None)
    return _judged(source, identity, opened, SealedExtraction(b"", Carried.HEADER), part, None)


def _judged(
    source: DicomObject,
    identity: Identity,
    opened: OpenedFrame,
    found: SealedExtraction,
    part: HeaderPart | None,
    part_error: CoverslipError | None,
) -> Extraction:
    changes = []
    bound = _is_bound(source, opened.binding, part, found)
    if bound is False:
        changes.append(Change.BODY_PIXELS if found.carried is Carried.PIXELS else Change.CONTENT)
    if part is not None and part.stego_pixels and not has_pixels_of(source, part.stego_pixels):
        changes.append(Change.PIXELS)
    implied = header.implied_uid(opened.record, uid_key(identity.recipient))
    if implied is not None and implied != str(source.dataset.get("SOPInstanceUID", "")):
        changes.append(Change.SOP_INSTANCE_UID)
    binding = _verdict(bound, changes)
    return Extraction(
        opened.record, found, binding, tuple(changes), part, part_error, opened.binding
    )


def _verdict(bound: bool | None, changes: list[Change]) -> Binding:
    """What the binding and the changes say together.

    A record that names no image is as good as its SOP Instance UID: an archive may have given a new
    one, but so does a record that was moved into another image.
    """
    if bound is None:
        return Binding.CHANGED if changes else Binding.NOT_BOUND
    if not bound or Change.PIXELS in changes:
        return Binding.CHANGED
    return Binding.VERIFIED


def _is_bound(
    source: DicomObject,
    binding: BindingSeal | None,
    part: HeaderPart | None,
    found: SealedExtraction,
) -> bool | None:
    """Whether the image is the one that a record names; None where it names none."""
    if binding is not None and binding.level is not None:
        return source.image is not None and matches(dark_air(source.image), binding)
    if binding is not None:
        return is_bound_to(source, binding)
    if found.carried is Carried.HEADER and part is not None and part.content:
        return content_digest(source, source.dataset) == part.content
    return None


_Content = TypeVar("_Content")


@dataclass(frozen=True)
class _Found(Generic[_Content]):
    """What was made of a sealed frame, and where it was."""

    content: _Content
    place: SealedExtraction


class _Search:
    """Looks for sealed frames in an object, the likeliest place first."""

    def __init__(
        self,
        source: DicomObject,
        recipient: Recipient,
        engine: Engine | None,
        profile: Profile | None,
        cropped: bool,
    ) -> None:
        self._source = source
        self._recipient = recipient
        self._engine = engine
        self._profile = profile
        self._cropped = cropped
        self._mark = read_mark(source.dataset)
        uid = str(source.dataset.get("SOPInstanceUID", ""))
        self.is_ours = self._mark is not None and self._mark.is_for(recipient, uid)

    def run(self, take: Callable[[bytes], _Content]) -> _Found[_Content]:
        """The first sealed frame that ``take`` does not call damaged.

        Raises
        ------
        WrongKeyError, NoMessageError, DamagedMessageError
        """
        damaged: DamagedMessageError | None = None
        in_header = read_sealed_record(self._source.dataset)
        if in_header and self.is_ours:
            try:
                return _Found(take(in_header), SealedExtraction(in_header, Carried.HEADER))
            except DamagedMessageError as error:
                damaged = error
        found = None
        if self._source.image is not None and not self._says_header:
            found, error_here = self._in_pixels(self._source.image, take)
            damaged = damaged or error_here
        if found is not None:
            return found
        if damaged is not None:
            raise damaged
        raise self._nothing()

    @property
    def _says_header(self) -> bool:
        """Whether the header carries the record, and somebody else can read it."""
        mark = self._mark
        return mark is not None and mark.carried is Carried.HEADER and not mark.profile

    def _nothing(self) -> CoverslipError:
        if self._mark is None:
            return NoMessageError(
                "no record for this identity was found: either the file carries none, or it was "
                "sealed to another recipient; check both"
            )
        if not self.is_ours:
            return WrongKeyError(
                "the record was sealed to another recipient; this identity cannot read it: use "
                "that recipient's identity file"
            )
        return DamagedMessageError(
            "the header says that a record is here for this identity, but none can be read: the "
            "file was changed after embedding; read it from an undamaged copy"
        )

    def _in_pixels(
        self, instance: Instance, take: Callable[[bytes], _Content]
    ) -> tuple[_Found[_Content] | None, DamagedMessageError | None]:
        planes = engine_planes(instance)
        damaged: DamagedMessageError | None = None
        named = _named(self._mark, self._profile)
        candidates = _candidates(self._mark, self._profile, instance)
        if self._mark is not None and not self.is_ours and named:
            # Most likely somebody else's: what the mark names is tried, and nothing else.
            candidates = iter(named)
        for candidate in _once(candidates):
            # A search takes seconds: where the mark says what to search with, nothing else is.
            searched = self._cropped and (not named or candidate in named)
            try:
                found = self._with(planes, take, candidate, searched)
            except DamagedMessageError as error:
                damaged = error
                continue
            if found is not None:
                return found, None
        return None, damaged

    def _with(
        self,
        planes: Planes,
        take: Callable[[bytes], _Content],
        profile: Profile,
        cropped: bool,
    ) -> _Found[_Content] | None:
        damaged: DamagedMessageError | None = None
        for number, pixels in enumerate(planes.pixels):
            votes = _read_frame(pixels, self._recipient, self._engine, profile)
            if votes is None and cropped:
                votes = read_cropped(pixels, self._recipient, profile)
            if votes is None:
                continue
            place = SealedExtraction(
                b"", Carried.PIXELS, number, votes, profile.name, votes.agreement
            )
            try:
                return _Found(take(read_votes(votes)), place)
            except DamagedMessageError as error:
                damaged = error
        if damaged is not None:
            raise damaged
        return None


def _named(marked: Mark | None, profile: Profile | None) -> tuple[Profile, ...]:
    """What the header's mark names, where the caller does not want something else."""
    named = None if marked is None else PROFILES.get(marked.profile)
    if marked is None or named is None or not marked.step or profile not in (None, named):
        return ()
    return readable(replace(named, step=marked.step))


def _candidates(
    marked: Mark | None, profile: Profile | None, instance: Instance
) -> Iterator[Profile]:
    """The profiles to try, likeliest first.

    What the header names, the caller's, then the rest; the paper's only when named.
    """
    named = _named(marked, profile)
    yield from named
    keyed = [p for p in PROFILES.values() if p.scheme is Scheme.KEYED]
    wanted = keyed if profile is None else [profile]
    for candidate in (version for each in wanted for version in readable(each)):
        # The image's range is looked up only where a step depends on it: it takes a pass over
        # every frame.
        yield from candidate.near_span(own_span(instance)) if candidate.span_share else [candidate]
    if named and profile is None and named[0].scheme is Scheme.KEYED:
        # The mark does not say alpha: where the profile's own finds nothing, those a caller may
        # have chosen are tried last.
        yield from (replace(named[0], alpha=alpha) for alpha in _ALPHAS)


def _once(profiles: Iterator[Profile]) -> Iterator[Profile]:
    """Each of them, the first time it comes."""
    seen = set()
    for profile in profiles:
        if profile not in seen:
            seen.add(profile)
            yield profile


def _read_frame(
    pixels: NDArray[np.int32], recipient: Recipient, engine: Engine | None, profile: Profile
) -> Votes | None:
    if profile.scheme is Scheme.PAPER:
        if engine is None:
            raise EngineError(
                "the paper's scheme reads with the network's outline: leave out --no-model, or "
                "embed with another profile"
            )
        return read_paper(pixels, engine, profile)
    if engine is None:
        return read_plane(pixels, recipient, profile)
    measured = engine.extract(pixels[None], np.array([profile.step], dtype=np.float32))
    return read_plane(pixels, recipient, profile, measured.phases[0], measured.mask[0])
