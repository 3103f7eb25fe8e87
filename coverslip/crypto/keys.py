"""Identities (private keys) and recipients (public keys): files and printable forms.

A recipient is ``cs1`` and 56 base32 letters: the raw X25519 public key and three bytes of its
SHA-256, which catch a copying error. An identity file holds ``CS-IDENTITY-1`` and the private key
in the same form, mode 0600.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coverslip.errors import KeyFileError, OutputExistsError, RecipientError
from coverslip.files import write_bytes_atomically

RECIPIENT_PREFIX = "cs1"
IDENTITY_PREFIX = "CS-IDENTITY-1"
_KEY_BYTES = 32
_CHECK_BYTES = 3
_LETTERS = (_KEY_BYTES + _CHECK_BYTES) * 8 // 5


def _check(label: str, key: bytes) -> bytes:
    return hashlib.sha256(label.encode() + key).digest()[:_CHECK_BYTES]


def _encode(label: str, key: bytes) -> str:
    return base64.b32encode(key + _check(label, key)).decode()


def _decode(label: str, text: str) -> bytes | None:
    try:
        raw = base64.b32decode(text.upper())
    except binascii.Error:
        return None
    key, check = raw[:_KEY_BYTES], raw[_KEY_BYTES:]
    return key if len(raw) == _KEY_BYTES + _CHECK_BYTES and check == _check(label, key) else None


@dataclass(frozen=True)
class Recipient:
    """A public key to seal to.

    Attributes
    ----------
    public : bytes
        Raw X25519 public key, 32 bytes.
    """

    public: bytes

    def __str__(self) -> str:
        return RECIPIENT_PREFIX + _encode(RECIPIENT_PREFIX, self.public).lower()

    @classmethod
    def parse(cls, text: str) -> Recipient:
        """Read a recipient's printable form.

        Raises
        ------
        RecipientError
            The text has another form, or its check does not match.
        """
        text = text.strip()
        key = (
            _decode(RECIPIENT_PREFIX, text[len(RECIPIENT_PREFIX) :])
            if text.startswith(RECIPIENT_PREFIX)
            else None
        )
        if key is None:
            raise RecipientError(
                f"this is no recipient: expected '{RECIPIENT_PREFIX}' and {_LETTERS} letters or "
                "digits that pass their check; copy it again from the output of 'coverslip keygen'"
            )
        return cls(key)


@dataclass(frozen=True)
class Identity:
    """A private key that opens records sealed to its recipient. Never printed.

    Attributes
    ----------
    secret : bytes
        Raw X25519 private key, 32 bytes.
    """

    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Identity:
        """A new random identity."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        return Recipient(
            X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw()
        )

    def write(self, path: Path) -> None:
        """Write the identity file, mode 0600.

        Raises
        ------
        OutputExistsError
            There is a file at ``path``; a key is never overwritten.
        """
        text = (
            "# Coverslip identity: whoever holds this file can read records sealed to the "
            "recipient below.\n"
            f"# recipient: {self.recipient}\n"
            f"{IDENTITY_PREFIX}{_encode(IDENTITY_PREFIX, self.secret)}\n"
        )
        try:
            write_bytes_atomically(path, text.encode("ascii"), mode=stat.S_IRUSR | stat.S_IWUSR)
        except OutputExistsError:
            raise OutputExistsError(
                "the identity file exists already and is never overwritten: choose another name "
                "or move it away"
            ) from None

    @classmethod
    def read(cls, path: Path) -> Identity:
        """Read an identity file.

        Raises
        ------
        KeyFileError
            The file is missing, cannot be read, is readable by others, or holds no identity.
        """
        try:
            text = path.read_text(encoding="ascii")
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(
                f"the identity file cannot be read ({type(error).__name__}): expected a file "
                "written by 'coverslip keygen'"
            ) from None
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(
                f"the identity file may be read by others (mode {stat.S_IMODE(mode):04o}); "
                "expected 0600: run 'chmod 600' on it, and make a new identity if others had access"
            )
        for line in text.splitlines():
            if line.startswith(IDENTITY_PREFIX):
                key = _decode(IDENTITY_PREFIX, line[len(IDENTITY_PREFIX) :].strip())
                if key is not None:
                    return cls(key)
        raise KeyFileError(
            f"the file holds no identity: expected a line '{IDENTITY_PREFIX}' with {_LETTERS} "
            "letters or digits that pass their check, as 'coverslip keygen' writes it"
        )
