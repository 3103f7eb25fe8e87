"""Temporary storage for pixel data: a scratch file, and a stream of bytes made as they are read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedIOBase
from pathlib import Path
from types import TracebackType

HELD_BYTES = 16 << 20
"""Most bytes of pixel data to keep in memory; longer data stay in a file."""

_PART = 1 << 20


class ScratchFile:
    """A temporary file without a name, in memory while it is short; gone when it is closed.

    Parameters
    ----------
    folder : Path, optional
        Folder for a long file; by default the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=HELD_BYTES, dir=place)  # noqa: SIM115
        self.length = 0

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> ScratchFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()

    def add(self, data: bytes) -> int:
        """Append bytes; returns the position of the first."""
        at = self.length
        self._file.seek(at)
        self._file.write(data)
        self.length += len(data)
        return at

    def put(self, at: int, data: bytes) -> None:
        """Overwrite bytes from position ``at``."""
        self._file.seek(at)
        self._file.write(data)

    def get(self, at: int, count: int) -> bytes:
        """Read ``count`` bytes from position ``at``, fewer at the end."""
        self._file.seek(at)
        return self._file.read(count)

    def parts(self, start: int) -> Callable[[], Iterator[bytes]]:
        """A function that reads everything from ``start`` on, in parts."""

        def parts() -> Iterator[bytes]:
            at = start
            while part := self.get(at, _PART):
                yield part
                at += len(part)

        return parts


class PartStream(BufferedIOBase):
    """A stream whose bytes are made in parts as it is read from beginning to end.

    Parameters
    ----------
    make : callable
        Makes the parts, once for each time that the stream is read.
    length : int
        Bytes of all parts.
    """

    def __init__(self, make: Callable[[], Iterator[bytes]], length: int) -> None:
        self._make = make
        self._length = length
        self._at = 0
        self._parts: Iterator[bytes] | None = None
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true; see `seek`."""
        return True

    def tell(self) -> int:
        """The position, in bytes from the beginning."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move to a position; only the beginning and the current position can be read from."""
        at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._length}[whence]
        if at != self._at:
            self._at, self._parts, self._left = at, None, memoryview(b"")
        return at

    def read(self, size: int | None = -1) -> bytes:
        """Read the next bytes.

        Raises
        ------
        ValueError
            After a seek to the middle.
        """
        if self._at >= self._length:
            return b""
        if self._parts is None:
            if self._at:
                raise ValueError("bytes made as they are read come from the beginning only")
            self._parts = self._make()
        wanted = self._length - self._at if size is None or size < 0 else size
        pieces = []
        while wanted:
            self._left = self._left or memoryview(next(self._parts, b""))
            if not self._left:
                break
            pieces.append(bytes(self._left[:wanted]))
            self._left = self._left[wanted:]
            wanted -= len(pieces[-1])
        data = b"".join(pieces)
        self._at += len(data)
        return data
