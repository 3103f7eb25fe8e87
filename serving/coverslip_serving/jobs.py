"""What a gateway does with one instance in a file: the same in a thread of its own process and in a
worker process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from coverslip import pipeline
from coverslip.crypto.keys import Identity, Recipient
from coverslip.crypto.seal import FRAME_VERSION, OVERHEAD
from coverslip.dicom.instance import Instance, read_instance
from coverslip.engine import Embedded, EmbedRequest, Engine, Measured, Segmented
from coverslip.errors import CoverslipError, EngineError
from coverslip.metrics import Psnr
from coverslip.qr.symbol import MAX_FRAME_BYTES
from coverslip.scheme.profiles import DEFAULT, FAINT, PROFILES, ROBUST, Profile, Scheme
from coverslip_serving import deadline
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import BadRequestError
from coverslip_serving.status import status_of

_PROFILES: dict[int, Profile] = {
    pb.PROFILE_FAINT: FAINT,
    pb.PROFILE_DEFAULT: DEFAULT,
    pb.PROFILE_ROBUST: ROBUST,
}
STEGO = "stego.dcm"
"""Beside the instance that was embedded into."""
_Answer = TypeVar("_Answer")


class WatchedEngine:
    """An engine that stops for callers who are gone or late, and whose time is taken.

    Parameters
    ----------
    engine : Engine
    observe : callable
        Told a signature and its seconds.
    """

    def __init__(self, engine: Engine, observe: Callable[[str, float], None]) -> None:
        self._engine = engine
        self._observe = observe
        self.name = engine.name

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body in pixels int32 [B, H, W]."""
        return self._timed("segment", lambda: self._engine.segment(pixels))

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane into each image."""
        return self._timed("embed", lambda: self._engine.embed(request))

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure the phases of pixels int32 [B, H, W] at step float32 [B]."""
        return self._timed("extract", lambda: self._engine.extract(pixels, step))

    def _timed(self, signature: str, run: Callable[[], _Answer]) -> _Answer:
        working_for = deadline.current()
        if working_for is not None:
            working_for.check()
        began = time.monotonic()
        try:
            return run()
        finally:
            self._observe(signature, time.monotonic() - began)


def recipient_of(text: str) -> Recipient:
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
        found = engine.segment(pixels[number : number + 1])
        response.outlines.add(
            mask=np.packbits(found.mask[0]).tobytes(), score=float(found.score[0])
        )
    return response


def embed(engine: Engine, path: Path, options: pb.EmbedOptions) -> pb.EmbedReport:
    """Embed; the stego instance is `STEGO` beside the cover."""
    recipient = recipient_of(options.recipient)
    if options.HasField("beta") and not (math.isfinite(options.beta) and options.beta > 0):
        raise BadRequestError("options.beta must be a number above 0")
    choices = pipeline.EmbedOptions(
        _profile(options.profile) or DEFAULT,
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
    return _report(embedding.report)


def extract(engine: Engine, path: Path, options: pb.ExtractOptions) -> pb.ExtractResponse:
    """Find the sealed record; whether it is opened is another's business."""
    recipient = recipient_of(options.recipient)
    model = None if options.without_model else engine
    found = pipeline.extract_sealed(
        read_instance(path), recipient, model, _profile(options.profile), options.cropped
    )
    return pb.ExtractResponse(
        sealed=found.sealed,
        frame=found.frame,
        profile=found.profile,
        agreement=found.votes.agreement,
    )


def inspect(engine: Engine, path: Path, request: pb.InspectRequest) -> pb.InspectResponse:
    """Say what fits."""
    instance = read_instance(path)
    # Nothing is sealed to anybody: a key made for this call and thrown away stands for the
    # recipient.
    recipient = Identity.generate().recipient
    seen = pipeline.survey(instance, recipient, engine, request.use_padding)
    summary = seen.summary()
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
    response.sealed_bytes, response.modules = seen.sealed_bytes, seen.modules
    response.notes.extend(instance.notes)
    for profile in PROFILES.values():
        if profile.scheme is Scheme.KEYED:
            response.profiles.append(
                _fit(engine, instance, recipient, profile, request.use_padding)
            )
    return response


def _fit(
    engine: Engine, instance: Instance, recipient: Recipient, profile: Profile, use_padding: bool
) -> pb.ProfileFit:
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
        psnr=_psnr(report.psnr),
    )


@dataclass(frozen=True)
class Job:
    """One kind of work.

    Attributes
    ----------
    run : callable
        Of an engine, a file and options.
    options, answer : type
        Messages.
    """

    run: Callable[[Engine, Path, Any], Any]
    options: Any
    answer: Any


JOBS = {
    "segment": Job(segment, pb.SegmentRequest, pb.SegmentResponse),
    "embed": Job(embed, pb.EmbedOptions, pb.EmbedReport),
    "extract": Job(extract, pb.ExtractOptions, pb.ExtractResponse),
    "inspect": Job(inspect, pb.InspectRequest, pb.InspectResponse),
}


def _profile(number: int) -> Profile | None:
    if number == pb.PROFILE_UNSPECIFIED:
        return None
    if number not in _PROFILES:
        raise BadRequestError(
            f"options.profile {number} is not known here: expected one of the contract's"
        )
    return _PROFILES[number]


def _check_sealed(sealed: bytes, instance: Instance) -> None:
    if not OVERHEAD < len(sealed) <= MAX_FRAME_BYTES or sealed[0] != FRAME_VERSION:
        raise BadRequestError(
            f"options.sealed is no sealed frame: expected {OVERHEAD + 1} to {MAX_FRAME_BYTES} "
            f"bytes that begin with version {FRAME_VERSION}"
        )
    if instance.dataset.get("PatientIdentityRemoved") != "YES":
        raise BadRequestError(
            "options.sealed is for an instance that is de-identified already "
            "(PatientIdentityRemoved YES): de-identify it, or let the "
            "server seal"
        )


def _psnr(psnr: Psnr) -> pb.Psnr:
    return pb.Psnr(stored=psnr.stored, sixteen_bit=psnr.sixteen_bit, paper=psnr.paper)


def _report(report: pipeline.EmbedReport) -> pb.EmbedReport:
    fields = {
        name: value
        for name, value in vars(report).items()
        if name not in ("psnr", "changed_outside")
    }
    return pb.EmbedReport(psnr=_psnr(report.psnr), **fields)
