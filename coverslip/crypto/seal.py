"""Sealing to a recipient: HPKE (RFC 9180) in base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305.

A sealed frame is one version byte, the 32-byte encapsulated key, the ciphertext and its 16-byte
tag: 49 bytes more than its content. Anyone with the public key can seal; base mode does not say
who did.

What a frame holds, and how it is carried, is bound to the seal through HPKE's ``info``: a frame
that was made for the header does not open as one from the pixels.
"""

from __future__ import annotations

from enum import Enum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from coverslip.errors import DamagedMessageError, WrongKeyError

OVERHEAD = 1 + 32 + 16
"""Bytes that a sealed frame is longer than its content."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class FrameKind(Enum):
    """What a sealed frame holds; the value is its version byte."""

    RECORD = 1
    """A record without a binding, carried in pixels; what releases up to 0.1 wrote."""

    BOUND_RECORD = 2
    """A binding and a record, carried in pixels."""

    HEADER_PART = 3
    """What is sealed into the header."""


_INFO = {
    FrameKind.RECORD: b"coverslip record v1",
    FrameKind.BOUND_RECORD: b"coverslip record v2 pixels",
    FrameKind.HEADER_PART: b"coverslip header part v1",
}


def seal(content: bytes, recipient: bytes, kind: FrameKind = FrameKind.RECORD) -> bytes:
    """Seal content to a recipient.

    Parameters
    ----------
    content : bytes
    recipient : bytes
        Raw X25519 public key, 32 bytes.
    kind : FrameKind

    Returns
    -------
    bytes
        The frame, ``len(content) + OVERHEAD`` bytes, different at each call.
    """
    public = X25519PublicKey.from_public_bytes(recipient)
    return bytes([kind.value]) + _SUITE.encrypt(content, public, info=_INFO[kind])


def kind_of(frame: bytes) -> FrameKind:
    """What a sealed frame says that it holds.

    Raises
    ------
    DamagedMessageError
        The frame is too short, or of a version that this release does not know.
    """
    if len(frame) <= OVERHEAD:
        raise DamagedMessageError(
            f"the sealed frame has {len(frame)} bytes; at least {OVERHEAD + 1} were expected: "
            "the message was cut, read it from an undamaged copy"
        )
    try:
        return FrameKind(frame[0])
    except ValueError:
        known = ", ".join(str(kind.value) for kind in FrameKind)
        raise DamagedMessageError(
            f"the sealed frame says version {frame[0]}; this release reads versions {known}: "
            "use a newer release"
        ) from None


def unseal(frame: bytes, secret: bytes) -> bytes:
    """Open a sealed frame of any kind; `kind_of` tells what its content is.

    Parameters
    ----------
    frame : bytes
        From `seal`.
    secret : bytes
        Raw X25519 private key, 32 bytes.

    Raises
    ------
    DamagedMessageError
        The frame is too short or of a version that this release does not know.
    WrongKeyError
        The frame does not open with this key.
    """
    kind = kind_of(frame)
    try:
        return _SUITE.decrypt(
            frame[1:], X25519PrivateKey.from_private_bytes(secret), info=_INFO[kind]
        )
    except InvalidTag:
        # Neither the library's error nor its context may show what was being opened.
        raise WrongKeyError(
            "the sealed record does not open with this identity; it was sealed to another "
            "recipient: use that one's identity file"
        ) from None
