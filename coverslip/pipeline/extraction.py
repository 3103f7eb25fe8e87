"""Gives the identity back to the holder of the key, or the sealed record to whoever carries it
there.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip.deidentification import header
from coverslip.dicom.instance import Instance
from coverslip.engine import Engine
from coverslip.errors import (
    CoverslipError,
    DamagedMessageError,
    EngineError,
    NoMessageError,
    WrongKeyError,
)
from coverslip.pipeline.planes import Planes, engine_planes, own_span
from coverslip.pipeline.reading import (
    check_value,
    open_frame,
    read_cropped,
    read_paper,
    read_plane,
    read_votes,
)
from coverslip.scheme.profiles import PROFILES, Profile, Scheme, readable
from coverslip.scheme.reader import Votes

_ALPHAS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.35, 0.4, 0.45)


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
        The frame; `coverslip.crypto.seal.unseal` opens it.
    frame, votes, profile
        As in `Extraction`.
    """

    sealed: bytes
    frame: int
    votes: Votes
    profile: str


def _named(marked: header.Mark | None, profile: Profile | None) -> tuple[Profile, ...]:
    """What the header's mark names, where the caller does not want something else."""
    named = None if marked is None else PROFILES.get(marked.profile)
    if marked is None or named is None or profile not in (None, named):
        return ()
    return readable(replace(named, step=marked.step))


def _candidates(
    marked: header.Mark | None, profile: Profile | None, instance: Instance
) -> Iterator[Profile]:
    """The profiles to try, likeliest first: what the header names, the caller's, then the rest; the
    paper's only when named.
    """
    named = _named(marked, profile)
    yield from named
    wanted = (
        [p for p in PROFILES.values() if p.scheme is Scheme.KEYED] if profile is None else [profile]
    )
    for candidate in (version for each in wanted for version in readable(each)):
        # The image's range is looked up only where a step depends on it: it takes a pass over every
        # frame.
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
        Rows or columns may have been cut away: search for the place too where nothing is found at
        the first one. Takes seconds.

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
        instance,
        identity.recipient,
        lambda frame: open_frame(frame, identity),
        engine,
        profile,
        cropped,
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
            "the record was sealed to another recipient; this identity cannot read it: use that "
            "recipient's identity file"
        )
    planes = engine_planes(instance)
    damaged: CoverslipError | None = None
    named = _named(marked, profile)
    for candidate in _once(_candidates(marked, profile, instance)):
        # A search takes seconds: where the mark says what to search with, nothing else is.
        searched = cropped and (not named or candidate in named)
        try:
            found = _find_frames(planes, recipient, take, engine, candidate, searched)
        except DamagedMessageError as error:
            damaged = error
            continue
        if found is not None:
            return found
    if damaged is not None:
        raise damaged
    if marked is not None:
        raise DamagedMessageError(
            "the header says that a record is here for this identity, but its pixels carry none: "
            "they were changed after "
            "embedding; read it from an undamaged copy"
        )
    raise NoMessageError(
        "no record for this identity was found: either the file carries none, or it was sealed "
        "to another recipient; check both"
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
            raise EngineError(
                "the paper's scheme reads with the network's outline: leave out --no-model, or "
                "embed with another profile"
            )
        return read_paper(pixels, engine, profile)
    if engine is None:
        return read_plane(pixels, recipient, profile)
    measured = engine.extract(pixels[None], np.array([profile.step], dtype=np.float32))
    return read_plane(pixels, recipient, profile, measured.phases[0], measured.mask[0])


def restore(instance: Instance, record: records.Record) -> Instance:
    """The instance with its identity back in the header, every recorded attribute as it was; pixels
    stay as they are.
    """
    return instance.with_dataset(header.restore(instance.dataset, record))
