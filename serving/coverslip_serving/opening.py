"""Opens records on the server, with keys from its operator, for certificates with that right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coverslip import pipeline
from coverslip.crypto.keys import Identity, Recipient
from coverslip.dicom.objects import read_object
from coverslip.dicom.record_views import as_json
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import CannotOpenError
from coverslip_serving.jobs import parse_recipient
from coverslip_serving.messages import add_restoration, add_verdict, parse_extraction


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

    def complete(
        self, answer: pb.ExtractResponse, path: Path, options: pb.ExtractOptions
    ) -> pipeline.Binding:
        """Add the opened record, and the restored instance if it was asked for, to an answer.

        Parameters
        ----------
        answer : ExtractResponse
            With the sealed record.
        path : Path
            The instance that it was read from. The restored one is written beside it, and deleted.
        options : ExtractOptions

        Returns
        -------
        Binding
            Whether the record belongs to the instance.

        Raises
        ------
        CannotOpenError, WrongKeyError, DamagedMessageError
        ChangedError
            It may not belong to it, and was to be restored.
        """
        identity = self.identity(parse_recipient(options.recipient))
        source = read_object(path)
        extraction = pipeline.open_sealed(source, parse_extraction(answer), identity)
        answer.record = json.dumps(as_json(extraction.record))
        add_verdict(answer, extraction)
        if options.restore:
            restoration = pipeline.restore(
                source,
                extraction,
                identity.recipient,
                even_if_changed=options.even_if_changed,
            )
            add_restoration(answer, restoration)
            answer.restored = _file_of(restoration, path.with_name("restored.dcm"))
        return extraction.binding


def _file_of(restoration: pipeline.Restoration, path: Path) -> bytes:
    """The bytes of the restored file, which lies at ``path`` no longer than needed."""
    try:
        restoration.write(path)
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)
