"""Files that appear at once and whole, and never in place of the input."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydicom.dataset import Dataset

from coverslip.errors import OutputExistsError


def check_target(path: Path, source: Path | None, overwrite: bool) -> None:
    """Refuse a target that is the input, or that exists and may not be replaced.

    Raises
    ------
    OutputExistsError
    """
    if not path.exists():
        return
    if source is not None and source.exists() and path.samefile(source):
        raise OutputExistsError(
            "the output is the input, which is never overwritten: choose another folder or name"
        )
    if not overwrite:
        raise OutputExistsError(
            "there is a file where the output should go: choose another folder, or say --overwrite"
        )


def write_dataset(ds: Dataset, path: Path, overwrite: bool, check: Callable[[Path], None]) -> None:
    """Write a data set in the DICOM file format (PS3.10), check what was written, and only then
    give it its name.

    Parameters
    ----------
    ds : Dataset
        With file meta information.
    path : Path
    overwrite : bool
        Replace what is there.
    check : callable
        Gets the file that was written; raises where it is wrong.

    Raises
    ------
    OutputExistsError
        Something is at ``path``.
    """
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
    try:
        # Not tempfile: its mode 0600 would stay on the finished file, which others are meant to
        # read.
        descriptor = os.open(
            temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
        )
        with os.fdopen(descriptor, "w+b") as file:
            ds.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        check(temporary)
        _give_name(temporary, path, overwrite)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A link fails where a file appeared meanwhile; a rename would replace it.
        path.hardlink_to(temporary)
    except FileExistsError:
        raise OutputExistsError(
            "a file appeared where the output should go: choose another folder, or say --overwrite"
        ) from None
    except OSError:
        # No hard links on this file system.
        check_target(path, None, overwrite=False)
        temporary.replace(path)
