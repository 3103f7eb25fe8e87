"""A client's choices as the contract's messages."""

from __future__ import annotations

from pathlib import Path

from coverslip.crypto.keys import Identity, Recipient
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import UnknownProfileError
from coverslip_serving.status import REQUEST_ID

_PROFILES = {
    "faint": pb.PROFILE_FAINT,
    "default": pb.PROFILE_DEFAULT,
    "robust": pb.PROFILE_ROBUST,
}


def embed_options(
    recipient: Recipient, profile: str, beta: float | None, use_padding: bool, allow_burned_in: bool
) -> pb.EmbedOptions:
    """Choices of an embedding.

    Raises
    ------
    UnknownProfileError
    """
    options = pb.EmbedOptions(
        recipient=str(recipient),
        profile=_profile(profile),
        use_padding=use_padding,
        allow_burned_in=allow_burned_in,
    )
    if beta is not None:
        options.beta = beta
    return options


def extract_options(
    identity: Identity, profile: str, without_model: bool, cropped: bool
) -> pb.ExtractOptions:
    """Choices of an extraction whose record the client opens.

    Raises
    ------
    UnknownProfileError
    """
    return pb.ExtractOptions(
        recipient=str(identity.recipient),
        profile=_profile(profile),
        without_model=without_model,
        cropped=cropped,
    )


def open_options(recipient: Recipient, profile: str, restore: bool) -> pb.ExtractOptions:
    """Choices of an extraction whose record the gateway opens.

    Raises
    ------
    UnknownProfileError
    """
    return pb.ExtractOptions(
        recipient=str(recipient), profile=_profile(profile), open=True, restore=restore
    )


def content_of(instance: Path | bytes) -> bytes:
    """Bytes of a DICOM file."""
    return instance.read_bytes() if isinstance(instance, Path) else instance


def metadata_of(request_id: str) -> list[tuple[str, str]]:
    """The call's metadata; the gateway makes a request id where it is empty."""
    return [(REQUEST_ID, request_id)] if request_id else []


def _profile(name: str) -> pb.Profile:
    if not name:
        return pb.PROFILE_UNSPECIFIED
    try:
        return _PROFILES[name]
    except KeyError:
        raise UnknownProfileError(name, tuple(_PROFILES)) from None
