"""A client's choices as the contract's messages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from coverslip.crypto.keys import Recipient
from coverslip.eligibility import Kind
from coverslip.pipeline import EmbedOptions
from coverslip.scheme.profiles import DEFAULT, PROFILES
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import UnknownProfileError
from coverslip_serving.messages import parse_kinds
from coverslip_serving.status import REQUEST_ID

_PROFILES = {
    "faint": pb.PROFILE_FAINT,
    "default": pb.PROFILE_DEFAULT,
    "robust": pb.PROFILE_ROBUST,
}


@dataclass(frozen=True)
class EmbedChoices:
    """A caller's choices of an embedding, checked before anything is sent.

    Attributes
    ----------
    profile : str
        ``faint``, ``default`` or ``robust``; the gateway's default if empty.
    beta, use_padding, allow_burned_in, require_pixels
        As in `coverslip.pipeline.EmbedOptions`.
    allow : collection of Kind or str
        As there; names of kinds will do.
    """

    profile: str = ""
    beta: float | None = None
    use_padding: bool = False
    allow_burned_in: bool = False
    require_pixels: bool = False
    allow: Collection[Kind | str] = ()

    def message(self, recipient: Recipient) -> pb.EmbedOptions:
        """The choices for a gateway.

        Raises
        ------
        UnknownProfileError, BadRequestError
        """
        options = pb.EmbedOptions(
            recipient=str(recipient),
            profile=_profile(self.profile),
            use_padding=self.use_padding,
            allow_burned_in=self.allow_burned_in,
            require_pixels=self.require_pixels,
            allow=sorted(kind.value for kind in parse_kinds(self.allow)),
        )
        if self.beta is not None:
            options.beta = self.beta
        return options

    def core_options(self) -> EmbedOptions:
        """The choices for an embedding in this process.

        Raises
        ------
        UnknownProfileError, BadRequestError
        """
        _profile(self.profile)
        return EmbedOptions(
            PROFILES[self.profile or DEFAULT.name],
            beta=self.beta,
            use_padding=self.use_padding,
            allow_burned_in=self.allow_burned_in,
            require_pixels=self.require_pixels,
            allow=parse_kinds(self.allow),
        )


def extract_options(
    recipient: Recipient, profile: str, without_model: bool, cropped: bool
) -> pb.ExtractOptions:
    """Choices of an extraction whose record the client opens.

    Raises
    ------
    UnknownProfileError
    """
    return pb.ExtractOptions(
        recipient=str(recipient),
        profile=_profile(profile),
        without_model=without_model,
        cropped=cropped,
    )


def open_options(
    recipient: Recipient, profile: str, restore: bool, even_if_changed: bool
) -> pb.ExtractOptions:
    """Choices of an extraction whose record the gateway opens.

    Raises
    ------
    UnknownProfileError
    """
    return pb.ExtractOptions(
        recipient=str(recipient),
        profile=_profile(profile),
        open=True,
        restore=restore,
        even_if_changed=even_if_changed,
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
