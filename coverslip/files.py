"""Files that appear whole or not at all, and never in place of the input."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from coverslip.errors import CannotWriteError, CoverslipError, OutputExistsError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


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


def write_dataset(
    ds: Dataset,
    path: Path,
    overwrite: bool,
    check: Callable[[Path], object] | None = None,
    mode: int = 0o666,
) -> None:
    """Write a data set in the DICOM file format (PS3.10), check the file, then give it its name.

    Parameters
    ----------
    ds : Dataset
        With file meta information.
    path : Path
    overwrite : bool
        Replace an existing file.
    check : callable, optional
        Gets the path of the written file; raises if the file is wrong.
    mode : int
        Permissions of the file, before the process's umask.

    Raises
    ------
    OutputExistsError
        There is a file at ``path``.
    CannotWriteError
        The data set has no form as a file, such as for want of a SOP Instance UID.
    """
    write_atomically(
        path,
        lambda file: save_dataset(ds, file),
        overwrite=overwrite,
        mode=mode,
        check=check,
    )


def save_dataset(ds: Dataset, file: BinaryIO) -> None:
    """Write a data set in the DICOM file format (PS3.10) into an open file.

    Raises
    ------
    CannotWriteError
        The data set has no form as a file, such as for want of a SOP Instance UID.
    """
    with refuse_malformed():
        ds.save_as(file, enforce_file_format=True)


@contextmanager
def refuse_malformed() -> Iterator[None]:
    """Turn what pydicom raises for malformed values into one error.

    Raises
    ------
    CannotWriteError
    """
    try:
        yield
    except (CoverslipError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The system's; pydicom has OSErrors of its own.
        # A parser of arbitrary bytes fails in arbitrary ways; its message may quote values.
        raise CannotWriteError(
            "the data set cannot be written as a DICOM file: a SOP Class UID, a SOP Instance "
            "UID, a known transfer syntax and values that fit their VR were expected; export "
            "it again from its source"
        ) from None


def write_bytes_atomically(
    path: Path, content: bytes, *, overwrite: bool = False, mode: int = 0o666
) -> None:
    """Write a file that appears at once and whole; see `write_atomically`."""
    write_atomically(path, lambda file: file.write(content), overwrite=overwrite, mode=mode)


def write_atomically(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    overwrite: bool = False,
    mode: int = 0o666,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a file under a temporary name, flush it to disk, then give it its name.

    After a failure or a crash, ``path`` holds what it held before.

    Parameters
    ----------
    path : Path
        In an existing folder.
    write : callable
        Writes the content to an open binary file, which can be sought and read too.
    overwrite : bool
        Replace an existing file.
    mode : int
        Permissions of the file, before the process's umask.
    check : callable, optional
        Gets the path of the written file before it has its name; raises if the file is wrong.

    Raises
    ------
    OutputExistsError
        There is a file at ``path``.
    """
    # Neither the output's name, which may be an identity and as long as a name can be, nor
    # tempfile, whose mode 0600 would stay on a finished file that others are meant to read.
    temporary = path.with_name(f".coverslip-{secrets.token_hex(8)}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, mode), "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        _give_name(temporary, path, overwrite)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    _sync_folder(path.parent)


def _give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        # A link fails if a file has appeared meanwhile; a rename would replace that file.
        path.hardlink_to(temporary)
    except FileExistsError:
        raise _appeared() from None
    except OSError:
        # No hard links on this file system: an empty file reserves the name.
        _reserve(path)
        try:
            temporary.replace(path)
        except OSError:
            path.unlink()
            raise


def _reserve(path: Path) -> None:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise _appeared() from None


def _appeared() -> OutputExistsError:
    return OutputExistsError(
        "a file appeared where the output should go: choose another folder, or say --overwrite"
    )


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a new name survives a loss of power."""
    if os.name != "posix":
        return  # Windows opens no folder; NTFS journals names itself.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems do not sync folders; the file itself is on disk by now.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
