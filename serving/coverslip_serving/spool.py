"""Instances on their way through: files that only this process reads, gone as soon as they are
answered.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from coverslip.parallel import CONCURRENT_IMAGES
from coverslip.pixels.frames import WINDOW
from coverslip.pixels.scratch import HELD_BYTES
from coverslip_serving.errors import BadRequestError, SpoolFullError, TooLargeError
from coverslip_serving.limits import MIB

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BYTES_PER_PIXEL_AT_WORK = 120
"""For each pixel of frames that are embedded or read back at the same time. Measured for a single
one: 128 and 118 in LiteRT, 2048 x 2048 and 4096 x 4096; 89 in TensorFlow, 4096 x 4096."""
_BYTES_PER_PIXEL = 16
"""Planes, stego planes, masks and phases of all frames of a window, for each pixel."""
_BYTES_PER_HELD_PIXEL = 4
"""Planes of all frames, where a file does not give them one by one."""
_COPIES = 4
"""Copies of the file's own bytes: as read, parsed, to be written, as sent."""
_HEADER_TAGS = ("Rows", "Columns", "NumberOfFrames")


@contextmanager
def spooling() -> Iterator[None]:
    """Tell a full folder apart from other trouble.

    Raises
    ------
    SpoolFullError
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise SpoolFullError(
            "the server has no room left for instances under way: try again in a moment"
        ) from None


class Spool:
    """Makes folders, mode 0700, each for one instance.

    Parameters
    ----------
    folder : Path, optional
        Where; the system's folder for temporary files where absent.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A folder that is gone afterwards, with everything in it."""
        with spooling(), tempfile.TemporaryDirectory(prefix="coverslip-", dir=self._folder) as made:
            yield Path(made)


class Incoming:
    """An instance that arrives in chunks.

    Parameters
    ----------
    file : BinaryIO
        Open for writing.
    largest : int
        Bytes that it may have.
    """

    def __init__(self, file: BinaryIO, largest: int) -> None:
        self._file = file
        self._largest = largest
        self._digest = hashlib.sha256()
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take a chunk; one too many is counted and not kept."""
        self.size += len(chunk)
        if self.size > self._largest:
            return
        self._digest.update(chunk)
        with spooling():
            self._file.write(chunk)

    def finish(self, sha256: bytes) -> None:
        """It is complete.

        Raises
        ------
        TooLargeError, BadRequestError
        """
        if self.size > self._largest:
            raise TooLargeError(
                f"the instance has {self.size // MIB} MiB where this server takes "
                f"{self._largest // MIB} MiB: split it, or ask the "
                "operator for more"
            )
        if sha256 and sha256 != self._digest.digest():
            raise BadRequestError(
                "the instance's bytes do not have the SHA-256 that was sent with them: send it "
                "again"
            )
        with spooling():
            self._file.flush()


def memory_for(path: Path) -> int:
    """Bytes that work on an instance needs, estimated from what its header says; a few bytes may
    say a thousand frames.

    Frames are worked on `WINDOW` at a time, and long native pixel data stay in their file.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(_HEADER_TAGS)
            )
            element = file.read(12)
        rows, columns, frames = (max(int(header.get(tag) or 1), 1) for tag in _HEADER_TAGS)
        in_file = _native_bytes(header.file_meta.TransferSyntaxUID, element)
    except Exception:
        # Whatever it is, it is no image, and whoever reads it says so properly.
        rows = columns = frames = 1
        in_file = 0
    plane = rows * columns
    at_work, window = min(frames, CONCURRENT_IMAGES), min(frames, WINDOW)
    under_work = plane * (_BYTES_PER_PIXEL_AT_WORK * at_work + _BYTES_PER_PIXEL * window)
    if in_file:
        # Whatever else is in the file, and be it long, is read.
        return _COPIES * min(size, max(size - in_file, 0) + HELD_BYTES) + under_work
    # Where the frames of compressed pixel data begin is not always said; then they are decoded at
    # once.
    return _COPIES * size + under_work + _BYTES_PER_HELD_PIXEL * plane * frames


def _native_bytes(transfer_syntax: str, element: bytes) -> int:
    """Bytes of native pixel data that stay in their file, by the first 12 bytes of their element; 0
    for others, which may not.
    """
    place = {ExplicitVRLittleEndian: 8, ImplicitVRLittleEndian: 4}.get(UID(transfer_syntax))
    if place is None or len(element) < 12 or element[:4] != b"\xe0\x7f\x10\x00":
        return 0
    return int.from_bytes(element[place : place + 4], "little")
