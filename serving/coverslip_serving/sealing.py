"""De-identifying and sealing at the client, so that a gateway sees no identity."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Recipient
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance


def seal_instance(
    instance: Path | bytes, recipient: Recipient, allow_burned_in: bool = False
) -> tuple[bytes, bytes]:
    """A de-identified copy of a DICOM file, and the sealed record of what was removed.

    Raises
    ------
    ValueError
        ``instance`` is not a Path.
    """
    if not isinstance(instance, Path):
        raise ValueError("sealing here needs the instance's file, not its bytes: give a Path")
    original = read_instance(instance).dataset
    clean, record, _ = header.deidentify(
        original, pipeline.uid_key(recipient), allow_burned_in=allow_burned_in
    )
    buffer = BytesIO()
    clean.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), seal(records.encode(record), recipient.public)
