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
from coverslip.crypto.seal import FRAME_VERSION, OVERHEAD
from coverslip.dicom.instance import Instance, read_instance
from coverslip.engine import Engine
from coverslip.errors import CoverslipError, EngineError
from coverslip.metrics import Psnr
from coverslip.qr.symbol import MAX_FRAME_BYTES
from coverslip.scheme.profiles import DEFAULT, FAINT, PROFILES, ROBUST, Profile, Scheme
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import BadRequestError
from coverslip_serving.status import status_of

_PROFILES: dict[int, Profile] = {
    pb.PROFILE_FAINT: FAINT,
    pb.PROFILE_DEFAULT: DEFAULT,
    pb.PROFILE_ROBUST: ROBUST,
}
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
    )
    instance = read_instance(path)
    if options.sealed:
        _check_sealed(options.sealed, instance)
    embedding = pipeline.embed(
        instance, recipient, engine, choices, options.sealed or None, spool=path.parent
    )
    embedding.write(path.with_name(STEGO))
    return _report_message(embedding.report)


def extract(engine: Engine, path: Path, options: pb.ExtractOptions) -> pb.ExtractResponse:
    """Read the sealed record; it is not opened here."""
    extraction = pipeline.extract_sealed(
        read_instance(path),
        parse_recipient(options.recipient),
        None if options.without_model else engine,
        _parse_profile(options.profile),
        options.cropped,
    )
    return pb.ExtractResponse(
        sealed=extraction.sealed,
        frame=extraction.frame,
        profile=extraction.profile,
        agreement=extraction.votes.agreement,
    )


def inspect(engine: Engine, path: Path, request: pb.InspectRequest) -> pb.InspectResponse:
    """Find out what fits."""
    instance = read_instance(path)
    # Nothing is sealed to anybody: a new key stands for the recipient, and is thrown away.
    recipient = Identity.generate().recipient
    survey = pipeline.survey(instance, recipient, engine, request.use_padding)
    summary = survey.summary()
    lowest, highest = instance.legal
    response = pb.InspectResponse(lowest=lowest, highest=highest)
    for name in (
        "frames",
        "rows",
        "columns",
        "transfer_syntax",
        "body",
        "background",
        "recorded",
        "record_bytes",
    ):
        setattr(response, name, summary[name])
    response.sealed_bytes, response.modules = survey.sealed_bytes, survey.modules
    response.notes.extend(instance.notes)
    for profile in PROFILES.values():
        if profile.scheme is Scheme.KEYED:
            response.profiles.append(
                _try_profile(engine, instance, recipient, profile, request.use_padding)
            )
    return response


SEGMENT = Job("segment", segment, pb.SegmentRequest, pb.SegmentResponse)
EMBED = Job("embed", embed, pb.EmbedOptions, pb.EmbedReport)
EXTRACT = Job("extract", extract, pb.ExtractOptions, pb.ExtractResponse)
INSPECT = Job("inspect", inspect, pb.InspectRequest, pb.InspectResponse)
_ALL: tuple[Job[Any, Any], ...] = (SEGMENT, EMBED, EXTRACT, INSPECT)
JOBS = {job.name: job for job in _ALL}


def _try_profile(
    engine: Engine, instance: Instance, recipient: Recipient, profile: Profile, use_padding: bool
) -> pb.ProfileFit:
    """Whether a record fits with a profile."""
    try:
        options = pipeline.EmbedOptions(profile, use_padding=use_padding, allow_burned_in=True)
        report = pipeline.embed(instance, recipient, engine, options).report
    except EngineError:
        # The server's trouble says nothing about the image.
        raise
    except CoverslipError as error:
        if status_of(error) in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            raise
        return pb.ProfileFit(profile=profile.name, code=error.code, message=str(error))
    return pb.ProfileFit(
        profile=profile.name,
        fits=True,
        votes_per_module=report.votes_per_module,
        psnr=_psnr_message(report.psnr),
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


def _check_sealed(sealed: bytes, instance: Instance) -> None:
    if not OVERHEAD < len(sealed) <= MAX_FRAME_BYTES or sealed[0] != FRAME_VERSION:
        raise BadRequestError(
            f"options.sealed is not a sealed frame: expected {OVERHEAD + 1} to {MAX_FRAME_BYTES} "
            f"bytes that begin with version {FRAME_VERSION}"
        )
    if instance.dataset.get("PatientIdentityRemoved") != "YES":
        raise BadRequestError(
            "options.sealed is for an instance that is de-identified already "
            "(PatientIdentityRemoved YES): de-identify it, or let the server seal"
        )


def _psnr_message(psnr: Psnr) -> pb.Psnr:
    return pb.Psnr(stored=psnr.stored, sixteen_bit=psnr.sixteen_bit, paper=psnr.paper)


def _report_message(report: pipeline.EmbedReport) -> pb.EmbedReport:
    fields = {
        name: value
        for name, value in vars(report).items()
        if name not in ("psnr", "changed_outside")
    }
    return pb.EmbedReport(psnr=_psnr_message(report.psnr), **fields)
