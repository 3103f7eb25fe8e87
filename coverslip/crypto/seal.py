"""Seals a record to its recipient with HPKE (RFC 9180).

Base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305. A sealed frame is one version byte, the 32-byte
encapsulated key, the ciphertext and its 16-byte tag: 49 bytes more than the record. Anyone with the
public key can seal; base mode does not say who did.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from coverslip.errors import DamagedMessageError, WrongKeyError

FRAME_VERSION = 1
OVERHEAD = 1 + 32 + 16
"""Bytes by which a sealed frame is longer than its record."""

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_INFO = b"coverslip record v1"


def seal(record: bytes, recipient: bytes) -> bytes:
    """Seal a record to a recipient.

    Parameters
    ----------
    record : bytes
        The encoded record.
    recipient : bytes
        Raw X25519 public key, 32 bytes.

    Returns
    -------
    bytes
        The frame, ``len(record) + OVERHEAD`` bytes, different on every call.
    """
    sealed = _SUITE.encrypt(record, X25519PublicKey.from_public_bytes(recipient), info=_INFO)
    return bytes([FRAME_VERSION]) + sealed


def unseal(frame: bytes, secret: bytes) -> bytes:
    """Open a sealed frame.

    Parameters
    ----------
    frame : bytes
        From `seal`.
    secret : bytes
        Raw X25519 private key, 32 bytes.

    Raises
    ------
    DamagedMessageError
        The frame is too short, or of a version unknown to this release.
    WrongKeyError
        The frame does not open with this key.
    """
    if len(frame) <= OVERHEAD:
        raise DamagedMessageError(
            f"the sealed frame has {len(frame)} bytes; at least {OVERHEAD + 1} were expected: "
            "the message was cut short, read it from an undamaged copy"
        )
    if frame[0] != FRAME_VERSION:
        raise DamagedMessageError(
            f"the sealed frame says version {frame[0]}; this release reads version "
            f"{FRAME_VERSION}: use a newer release"
        )
    try:
        return _SUITE.decrypt(frame[1:], X25519PrivateKey.from_private_bytes(secret), info=_INFO)
    except InvalidTag:
        # Neither the library's error nor its context may show the content of the frame.
        raise WrongKeyError(
            "the sealed record does not open with this identity; it was sealed to another "
            "recipient: use that recipient's identity file"
        ) from None
