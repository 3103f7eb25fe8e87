"""Paths of files that tests read: the project's own, and pydicom's test files."""

from __future__ import annotations

from pathlib import Path

from pydicom.data import get_testdata_file

ROOT = Path(__file__).resolve().parent.parent


def pydicom_file(name: str) -> Path:
    """A test file that comes with pydicom."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"pydicom has no {name}"
    return Path(path)
