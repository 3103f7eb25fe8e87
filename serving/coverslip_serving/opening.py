"""Records opened on the server: only where an operator gave it keys, and only for certificates that
may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip_serving.errors import CannotOpenError


@dataclass(frozen=True)
class Opener:
    """Holds the keys that an operator gave to the server.

    Attributes
    ----------
    identities : mapping
        Identity by its recipient's public key, 32 bytes; empty where nothing is opened here. Never
        shown.
    """

    identities: Mapping[bytes, Identity] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Opener:
        """Read identity files.

        Raises
        ------
        KeyFileError
        """
        identities = [Identity.read(path) for path in paths]
        return cls({identity.recipient.public: identity for identity in identities})

    def identity(self, recipient: Recipient) -> Identity:
        """Who opens what was sealed to a recipient.

        Raises
        ------
        CannotOpenError
            Nobody here.
        """
        found = self.identities.get(recipient.public)
        if found is None:
            raise CannotOpenError(
                "this server holds no key that opens records for this recipient: leave out "
                "options.open and open the sealed record "
                "yourself"
            )
        return found

    def open(self, sealed: bytes, recipient: Recipient) -> records.Record:
        """Open a sealed record.

        Raises
        ------
        CannotOpenError
            There is no key for it here.
        DamagedMessageError
            It was altered.
        """
        return pipeline.open_frame(sealed, self.identity(recipient))
