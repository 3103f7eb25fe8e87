"""Opens records on the server, with keys from its operator, for certificates with that right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity, Recipient
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.dicom.record_views import as_json
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import CannotOpenError
from coverslip_serving.jobs import parse_recipient


@dataclass(frozen=True)
class Opener:
    """Holds the keys that an operator gave to the server.

    Attributes
    ----------
    identities : mapping
        Identity by its recipient's public key, 32 bytes; empty if nothing is opened on this server.
        Never shown.
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
        """The identity that opens records for a recipient.

        Raises
        ------
        CannotOpenError
            The server does not have it.
        """
        identity = self.identities.get(recipient.public)
        if identity is None:
            raise CannotOpenError(
                "this server holds no key that opens records for this recipient: leave out "
                "options.open and open the sealed record yourself"
            )
        return identity

    def open(self, sealed: bytes, recipient: Recipient) -> records.Record:
        """Open a sealed record.

        Raises
        ------
        CannotOpenError
            The server has no key for it.
        DamagedMessageError
            It was altered.
        """
        return pipeline.open_frame(sealed, self.identity(recipient))

    def complete(self, answer: pb.ExtractResponse, path: Path, options: pb.ExtractOptions) -> None:
        """Add the opened record, and the restored instance if it was asked for, to an answer.

        Parameters
        ----------
        answer : ExtractResponse
            With the sealed record.
        path : Path
            The instance that it was read from. The restored one is written beside it.
        options : ExtractOptions

        Raises
        ------
        CannotOpenError, DamagedMessageError
        """
        record = self.open(answer.sealed, parse_recipient(options.recipient))
        answer.record = json.dumps(as_json(record))
        if options.restore:
            target = path.with_name("restored.dcm")
            restored = pipeline.restore(read_instance(path), record)
            write_instance(restored, restored.frames, target)
            answer.restored = target.read_bytes()
