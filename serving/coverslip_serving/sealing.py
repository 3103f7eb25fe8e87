"""De-identifying and sealing at the client, so that a gateway sees no identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coverslip import pipeline
from coverslip.crypto.keys import Recipient
from coverslip.dicom.objects import object_bytes, read_object
from coverslip.errors import ProfileError
from coverslip.pipeline import Embedding, EmbedOptions
from coverslip.scheme.profiles import PROFILES
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.messages import report_message
from coverslip_serving.results import EmbedResult


def seal_instance(
    instance: Path | bytes,
    recipient: Recipient,
    allow_burned_in: bool = False,
    profile: str = "default",
    beta: float | None = None,
) -> tuple[bytes, bytes]:
    """A de-identified copy of a DICOM image, and the sealed record of what was removed.

    Parameters
    ----------
    instance : Path or bytes
        A DICOM file.
    recipient : Recipient
    allow_burned_in : bool
        Accept an image that says, or does not deny, that its pixels show identity.
    profile : str
    beta : float, optional
        With the profile, those of the embedding: the record is bound to its image by them.

    Raises
    ------
    HeaderOnlyError, RecordTooLargeError
        Only the header can carry the record, for which no gateway is needed.
    AlreadyCarriesError, BurnedInAnnotationError, ProfileError
    """
    if profile not in PROFILES:
        raise ProfileError(
            f"there is no profile '{profile}': expected one of {', '.join(PROFILES)}; choose one "
            "of these"
        )
    options = EmbedOptions(
        PROFILES[profile], beta=beta, allow_burned_in=allow_burned_in, require_pixels=True
    )
    apart = pipeline.seal_apart(read_object(instance), recipient, options)
    assert isinstance(apart, pipeline.SealedApart), "pixels were required"
    return apart.clean_file(), apart.sealed.frame


def embed_sealed(
    instance: Path | bytes,
    recipient: Recipient,
    options: EmbedOptions,
    embed: Callable[[bytes, bytes], EmbedResult],
) -> EmbedResult:
    """De-identify and seal an instance here, and let a gateway embed where pixels may carry.

    Parameters
    ----------
    instance : Path or bytes
        A DICOM file.
    recipient : Recipient
    options : EmbedOptions
        Those that the gateway gets.
    embed : callable
        Asks the gateway to embed: takes a de-identified file and a sealed record. Not called where
        the header alone may carry.

    Raises
    ------
    CoverslipError
    """
    apart = pipeline.seal_apart(read_object(instance), recipient, options)
    if isinstance(apart, Embedding):
        content = object_bytes(apart.source, apart.header)
        return EmbedResult("", content, report_message(apart.report))
    answer = embed(apart.clean_file(), apart.sealed.frame)
    completed = pipeline.add_header_part(apart, read_object(answer.instance), recipient)
    report = pb.EmbedReport()
    report.CopyFrom(answer.report)
    report.recorded, report.record_bytes = apart.sealed.recorded, apart.sealed.record_bytes
    report.bound, report.header_bytes = apart.sealed.bound, completed.header_bytes
    report.dropped[:] = [str(item) for item in apart.sealed.dropped]
    report.notes[:] = [*apart.notes, *(n for n in answer.report.notes if n not in apart.notes)]
    return EmbedResult("", completed.content, report)
