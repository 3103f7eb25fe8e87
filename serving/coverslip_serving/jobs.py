"""The work on one instance in a file, the same in a thread and in a worker process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message

from coverslip import pipeline
from coverslip.crypto.keys import Identity, Recipient
from coverslip.crypto.seal import OVERHEAD, FrameKind, kind_of
from coverslip.dicom.instance import read_instance
from coverslip.dicom.objects import DicomObject, read_object
from coverslip.engine import Engine
from coverslip.errors import DamagedMessageError
from coverslip.pipeline.surveying import Fit
from coverslip.qr.symbol import MAX_FRAME_BYTES
from coverslip.scheme.profiles import DEFAULT, FAINT, ROBUST, Profile
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import BadRequestError
from coverslip_serving.messages import (
    carried_number,
    extract_message,
    parse_kinds,
    psnr_message,
    reason_messages,
    report_message,
)
from coverslip_serving.status import status_of

_PROFILES: dict[int, Profile] = {
    pb.PROFILE_FAINT: FAINT,
    pb.PROFILE_DEFAULT: DEFAULT,
    pb.PROFILE_ROBUST: ROBUST,
}
_RECORD_KINDS = (FrameKind.RECORD, FrameKind.BOUND_RECORD)
_ENDED = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_SURVEYED = (
    "frames",
    "rows",
    "columns",
    "transfer_syntax",
    "body",
    "background",
    "recorded",
    "record_bytes",
    "sealed_bytes",
    "modules",
    "burned_in",
    "notes",
)
"""Figures of a survey that are the same in the core and in the contract."""
STEGO = "stego.dcm"
"""Name of the stego instance, beside its cover."""
_Options = TypeVar("_Options", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)


@dataclass(frozen=True)
class Job(Generic[_Options, _Answer]):
    """One kind of work.

    Attributes
    ----------
    name : str
        Its key in `JOBS`, by which a worker process finds it.
    run : callable
        Takes an engine, a file and options, and returns the answer.
    options, answer : type
        The contract's messages.
    """

    name: str
    run: Callable[[Engine, Path, _Options], _Answer]
    options: type[_Options]
    answer: type[_Answer]


def parse_recipient(text: str) -> Recipient:
    """The recipient that options name.

    Raises
    ------
    BadRequestError, RecipientError
    """
    if not text:
        raise BadRequestError(
            "options.recipient is empty: expected the recipient that 'coverslip keygen' printed"
        )
    return Recipient.parse(text)


def segment(engine: Engine, path: Path, _: pb.SegmentRequest) -> pb.SegmentResponse:
    """Outline the body."""
    instance = read_instance(path)
    pixels = pipeline.engine_planes(instance).pixels
    response = pb.SegmentResponse(rows=pixels.shape[1], columns=pixels.shape[2])
    for number in range(len(pixels)):
        outlined = engine.segment(pixels[number : number + 1])
        response.outlines.add(
            mask=np.packbits(outlined.mask[0]).tobytes(), score=float(outlined.score[0])
        )
    return response


def embed(engine: Engine, path: Path, options: pb.EmbedOptions) -> pb.EmbedReport:
    """Embed; the stego instance is `STEGO` beside the cover."""
    recipient = parse_recipient(options.recipient)
    if options.HasField("beta") and not (math.isfinite(options.beta) and options.beta > 0):
        raise BadRequestError("options.beta must be a number above 0")
    choices = pipeline.EmbedOptions(
        _parse_profile(options.profile) or DEFAULT,
        beta=options.beta if options.HasField("beta") else None,
        use_padding=options.use_padding,
        allow_burned_in=options.allow_burned_in,
        require_pixels=options.require_pixels,
        allow=parse_kinds(options.allow),
    )
    source = read_object(path)
    if options.sealed:
        _check_sealed(options.sealed, source)
    embedding = pipeline.embed(
        source, recipient, engine, choices, options.sealed or None, spool=path.parent
    )
    embedding.write(path.with_name(STEGO))
    return report_message(embedding.report)


def extract(engine: Engine, path: Path, options: pb.ExtractOptions) -> pb.ExtractResponse:
    """Read the sealed record; it is not opened here."""
    found = pipeline.extract_sealed(
        read_object(path),
        parse_recipient(options.recipient),
        None if options.without_model else engine,
        _parse_profile(options.profile),
        options.cropped,
    )
    return extract_message(found)


def inspect(engine: Engine, path: Path, request: pb.InspectRequest) -> pb.InspectResponse:
    """Find out what fits, as ``coverslip inspect`` does."""
    options = pipeline.EmbedOptions(
        DEFAULT,
        use_padding=request.use_padding,
        allow_burned_in=request.allow_burned_in,
        require_pixels=request.require_pixels,
        allow=parse_kinds(request.allow),
    )
    # Nothing is sealed to anybody: a new key stands for the recipient, and is thrown away.
    recipient = Identity.generate().recipient
    survey = pipeline.survey(read_object(path), recipient, engine, options)
    summary: dict[str, Any] = survey.summary()
    lowest, highest = summary["legal"]
    return pb.InspectResponse(
        lowest=lowest,
        highest=highest,
        carries=None if survey.mark is None else carried_number(survey.mark.carried),
        profiles=[_fit_message(name, fit) for name, fit in survey.fits.items()],
        **{name: summary[name] for name in _SURVEYED},
    )


SEGMENT = Job("segment", segment, pb.SegmentRequest, pb.SegmentResponse)
EMBED = Job("embed", embed, pb.EmbedOptions, pb.EmbedReport)
EXTRACT = Job("extract", extract, pb.ExtractOptions, pb.ExtractResponse)
INSPECT = Job("inspect", inspect, pb.InspectRequest, pb.InspectResponse)
_ALL: tuple[Job[Any, Any], ...] = (SEGMENT, EMBED, EXTRACT, INSPECT)
JOBS = {job.name: job for job in _ALL}


def _fit_message(profile: str, fit: Fit) -> pb.ProfileFit:
    """Whether a record fits with a profile.

    Raises
    ------
    DeadlinePassedError, CancelledError
        The survey was ended: that says nothing about the instance.
    """
    if fit.report is None:
        assert fit.error is not None
        if status_of(fit.error) in _ENDED:
            raise fit.error
        return pb.ProfileFit(profile=profile, code=fit.error.code, message=str(fit.error))
    return pb.ProfileFit(
        profile=profile,
        fits=True,
        votes_per_module=fit.report.votes_per_module,
        psnr=psnr_message(fit.report.psnr),
        carried=carried_number(fit.report.carried),
        header_reasons=reason_messages(fit.report.header_reasons),
    )


def _parse_profile(number: int) -> Profile | None:
    if number == pb.PROFILE_UNSPECIFIED:
        return None
    if number not in _PROFILES:
        raise BadRequestError(
            f"this server has no profile with the number {number} (options.profile): expected one "
            "of the contract's"
        )
    return _PROFILES[number]


def _check_sealed(sealed: bytes, source: DicomObject) -> None:
    try:
        known = kind_of(sealed) in _RECORD_KINDS and len(sealed) <= MAX_FRAME_BYTES
    except DamagedMessageError:
        known = False
    if not known:
        raise BadRequestError(
            f"options.sealed is not a sealed record: expected {OVERHEAD + 1} to {MAX_FRAME_BYTES} "
            f"bytes that begin with version {' or '.join(str(k.value) for k in _RECORD_KINDS)}"
        )
    if source.dataset.get("PatientIdentityRemoved") != "YES":
        raise BadRequestError(
            "options.sealed is for an instance that is de-identified already "
            "(PatientIdentityRemoved YES): de-identify it, or let the server seal"
        )
