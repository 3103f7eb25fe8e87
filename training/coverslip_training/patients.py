"""Decides which split a patient belongs to, and gives patients pseudonyms.

No patient may be in two splits. The split is a keyed hash of the patient alone, compared with the
requested shares, so a patient's later images go where the earlier ones went.
"""

from __future__ import annotations

import csv
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from coverslip.dicom.instance import Instance
from coverslip_training.errors import TrainingTableError

KEY_BYTES = 32
SPLITS = ("train", "val", "test")


def split_of(key: bytes, patient: str, shares: Mapping[str, float]) -> str:
    """Choose the split of a patient.

    Parameters
    ----------
    key : bytes
    patient : str
    shares : mapping
        Share of each split except ``train``, which gets the rest; 0 to 1 in total.

    Returns
    -------
    str
        The first split whose cumulative share exceeds the patient's HMAC-SHA-256 (RFC 2104) as a
        fraction of 1.
    """
    digest = hmac.digest(key, b"split " + patient.encode(), "sha256")
    fraction = int.from_bytes(digest[:8], "big") / 2.0**64
    cumulative = 0.0
    for split, share in shares.items():
        cumulative += share
        if fraction < cumulative:
            return split
    return "train"


def pseudonym(key: bytes, patient: str) -> str:
    """Give a patient a pseudonym of 64 bits that only the holder of the key can reproduce."""
    return hmac.digest(key, b"patient " + patient.encode(), "sha256")[:8].hex()


def read_key(path: Path) -> bytes:
    """Read the key of the split; create it, readable by its owner only, if it does not exist.

    Raises
    ------
    TrainingTableError
        The file does not hold a key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        try:
            key = bytes.fromhex(path.read_text().strip())
        except ValueError:
            key = b""
        if len(key) < KEY_BYTES // 2:
            raise TrainingTableError(
                f"{path} holds no key; {KEY_BYTES} bytes as hexadecimal digits were expected: "
                "give another file"
            ) from None
        return key
    with os.fdopen(descriptor, "w") as file:
        key = secrets.token_bytes(KEY_BYTES)
        file.write(key.hex() + "\n")
    return key


class PatientTable:
    """A CSV file with the patient of each file and, optionally, the patient's split.

    Parameters
    ----------
    path : Path
    file_column, patient_column : str
        File paths are relative to the table's folder.
    split_column : str, optional

    Raises
    ------
    TrainingTableError
        A column is missing, a split is unknown, or a patient is in two splits.
    """

    def __init__(
        self, path: Path, file_column: str, patient_column: str, split_column: str | None = None
    ) -> None:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error):
            raise TrainingTableError(
                f"{path} cannot be read as CSV with a first line of column names"
            ) from None
        columns = [file_column, patient_column, *([split_column] if split_column else [])]
        missing = [column for column in columns if not rows or column not in rows[0]]
        if missing:
            raise TrainingTableError(
                f"{path} has no column {missing[0]!r} or no rows: name the column to use"
            )
        self._patients = {
            (path.parent / row[file_column]).resolve(): (row[patient_column] or "").strip()
            for row in rows
        }
        self._splits = (
            self._read_splits(path, rows, patient_column, split_column) if split_column else {}
        )

    @staticmethod
    def _read_splits(
        path: Path, rows: Sequence[Mapping[str, str]], patient_column: str, split_column: str
    ) -> dict[str, str]:
        splits: dict[str, str] = {}
        for number, row in enumerate(rows, start=2):
            patient, split = (row[patient_column] or "").strip(), (row[split_column] or "").strip()
            if split not in SPLITS:
                raise TrainingTableError(
                    f"{path}, line {number}: {split!r} is not a split; one of {', '.join(SPLITS)} "
                    "was expected"
                )
            if splits.setdefault(patient, split) != split:
                raise TrainingTableError(
                    f"{path}, line {number}: its patient is in another split above; split by "
                    "patient"
                )
        return splits

    @property
    def splits(self) -> list[str]:
        """Splits that the table names, in the order of `SPLITS`."""
        return [split for split in SPLITS if split in self._splits.values()]

    def patient(self, path: Path) -> str:
        """Patient of a file; empty if the table does not name one."""
        return self._patients.get(path.resolve(), "")

    def split(self, patient: str) -> str | None:
        """Split of a patient; None if the table does not name one."""
        return self._splits.get(patient)


def header_patient(instance: Instance) -> str:
    """Patient ID with its issuer (PS3.3 section C.2.2); empty if there is no Patient ID."""
    number = str(instance.dataset.get("PatientID") or "").strip()
    return f"{instance.dataset.get('IssuerOfPatientID') or ''}\\{number}" if number else ""
