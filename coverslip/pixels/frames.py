"""Frames that are read when they are wanted and spooled as they are made, so that a long instance
is never in memory as a whole.
"""

from __future__ import annotations

import struct
import tempfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import SEEK_CUR, SEEK_END, SEEK_SET, BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import overload

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from coverslip.errors import TruncatedFileError, UnreadableFileError
from coverslip.pixels import layout as pixels

WINDOW = 8
"""Frames in memory at the same time."""
HELD = 16 << 20
"""Bytes that are kept in memory; what is larger stays in its file."""
_PART = 1 << 20
_ITEM = 0xFFFEE000


class Frames(ABC):
    """Planes int32 [frames, rows, cols] that are made when they are asked for.

    Parameters
    ----------
    shape : (int, int, int)
        Frames, rows, columns.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """Frames ``start`` to ``stop``, exclusive: int32 [stop - start, rows, cols]."""

    @property
    def size(self) -> int:
        """Pixels of all frames."""
        frames, rows, cols = self.shape
        return frames * rows * cols

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int32]: ...

    @overload
    def __getitem__(self, index: slice) -> NDArray[np.int32]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.int32]:
        wanted = range(len(self))[index]
        if isinstance(wanted, int):
            plane: NDArray[np.int32] = self.read(wanted, wanted + 1)[0]
            return plane
        if wanted.step != 1:
            raise ValueError("frames are given in order: leave the slice's step out")
        return self.read(wanted.start, max(wanted.start, wanted.stop))

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        for number in range(len(self)):
            yield self[number]

    def windows(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """All frames in order, `WINDOW` at a time, each with the number of its first."""
        for start in range(0, len(self), WINDOW):
            yield start, self.read(start, min(start + WINDOW, len(self)))

    def extremes(self) -> tuple[int, int]:
        """Lowest and highest value of all frames; takes a pass over them."""
        ends = [(int(window.min()), int(window.max())) for _, window in self.windows()]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def whole(self) -> NDArray[np.int32]:
        """All frames in memory."""
        return self.read(0, len(self))


class HeldFrames(Frames):
    """Frames of an array int32 [frames, rows, cols] in memory."""

    def __init__(self, array: NDArray[np.int32]) -> None:
        frames, rows, cols = array.shape
        super().__init__((frames, rows, cols))
        self._array = array

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`; a view."""
        return self._array[start:stop]


class TurnedFrames(Frames):
    """Frames with something done to each of their values.

    Parameters
    ----------
    frames : Frames
    turn : callable
        int32 [n, rows, cols] to the same.
    """

    def __init__(
        self, frames: Frames, turn: Callable[[NDArray[np.int32]], NDArray[np.int32]]
    ) -> None:
        super().__init__(frames.shape)
        self._frames = frames
        self._turn = turn

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        return self._turn(self._frames.read(start, stop))


class Stored:
    """The value of a pixel data element where it lies in its file.

    Parameters
    ----------
    path : Path
    offset : int
        Where the value begins.
    length : int or None
        Bytes; None for encapsulated pixel data, which end with a delimiter.
    """

    def __init__(self, path: Path, offset: int, length: int | None) -> None:
        self._path = path
        self._offset = offset
        self._stamp = self._look()
        present = max(self._stamp[0] - offset, 0)
        self.length = present if length is None else min(length, present)

    def _look(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise UnreadableFileError(
                f"the file cannot be read any more ({type(error).__name__}); leave it where it "
                "is while it is worked on"
            ) from None
        return found.st_size, found.st_mtime_ns

    def read(self, at: int, count: int) -> bytes:
        """``count`` bytes from ``at``, fewer at the end.

        Raises
        ------
        UnreadableFileError
            The file changed since it was opened.
        """
        if self._look() != self._stamp:
            raise UnreadableFileError(
                "the file was changed while it was worked on; leave it alone meanwhile, and "
                "begin again"
            )
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._offset + at)
            return file.read(max(min(count, self.length - at), 0))


class NativeFrames(Frames):
    """Frames of native pixel data in a file.

    Raises
    ------
    TruncatedFileError
        The pixel data end before the last frame does.
    """

    def __init__(self, stored: Stored, layout: pixels.Layout) -> None:
        super().__init__(layout.shape)
        self._stored = stored
        self._layout = layout
        if stored.length < layout.frames * layout.frame_bytes:
            raise pixels.cut_short(stored.length, layout)

    @property
    def length(self) -> int:
        """Bytes of all pixel data, those after the last frame among them."""
        return self._stored.length

    def words(self, start: int, stop: int) -> pixels.Words:
        """The words of frames, bits outside Bits Stored included: [n, rows, cols]."""
        length = self._layout.frame_bytes
        data = self._stored.read(start * length, (stop - start) * length)
        if len(data) < (stop - start) * length:
            raise pixels.cut_short(start * length + len(data), self._layout)
        return np.frombuffer(data, dtype=pixels.word_type(self._layout)).reshape(
            stop - start, *self.shape[1:]
        )

    def rest(self) -> bytes:
        """What lies after the last frame."""
        end = self._layout.frames * self._layout.frame_bytes
        return self._stored.read(end, self._stored.length - end)

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        return pixels.values_of(self.words(start, stop), self._layout)


class EncapsulatedFrames(Frames):
    """Frames of encapsulated pixel data in a file, each found by where its fragments lie.

    Parameters
    ----------
    stored : Stored
    ds : Dataset
        The header.
    layout : Layout
    transfer_syntax : str
    fragments : list of list of (int, int)
        From `find_fragments`.
    """

    def __init__(
        self,
        stored: Stored,
        ds: Dataset,
        layout: pixels.Layout,
        transfer_syntax: str,
        fragments: list[list[tuple[int, int]]],
    ) -> None:
        super().__init__(layout.shape)
        self._stored = stored
        self._layout = layout
        self._one = replace(layout, frames=1)
        self._syntax = transfer_syntax
        self._fragments = fragments
        self._header = pixels.pixel_header(ds, transfer_syntax)

    def _single(self, number: int) -> Dataset:
        """A data set of one frame alone."""
        data = b"".join(self._stored.read(at, length) for at, length in self._fragments[number])
        return pixels.single_frame(self._header, encapsulate([data]))

    def rle_words(self, number: int) -> pixels.Words:
        """One frame's words of RLE pixel data, bits outside Bits Stored included: [rows, cols]."""
        return next(pixels.rle_words(self._single(number), self._one))

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`.

        Raises
        ------
        TruncatedFileError
            A frame does not decode.
        """
        found = np.empty((stop - start, *self.shape[1:]), dtype=np.int32)
        for number in range(start, stop):
            try:
                found[number - start] = next(
                    pixels.iter_planes(self._single(number), self._one, self._syntax)
                )
            except TruncatedFileError:
                raise pixels.undecodable(number, self._layout) from None
        return found


def end_of_fragments(read: Callable[[int, int], bytes]) -> int:
    """Where the items of encapsulated pixel data end (PS3.5 section A.4), without the delimiter.

    Parameters
    ----------
    read : callable
        Bytes at a place, and so many of them, of the pixel data.
    """
    at = 0
    while len(header := read(at, 8)) == 8:
        group, element, length = struct.unpack("<HHI", header)
        if (group << 16 | element) != _ITEM:
            break
        at += 8 + length
    return at


def find_fragments(stored: Stored, frames: int) -> list[list[tuple[int, int]]] | None:
    """Where the fragments of each frame lie in encapsulated pixel data (PS3.5 section A.4): a pass
    over their item tags.

    Returns
    -------
    list of list of (int, int), or None
        Place and bytes of each frame's fragments; None where only decoding tells which fragment
        belongs to which frame.
    """
    items: list[tuple[int, int]] = []
    at = 0
    while len(header := stored.read(at, 8)) == 8:
        group, element, length = struct.unpack("<HHI", header)
        if (group << 16 | element) != _ITEM:
            break
        items.append((at + 8, length))
        at += 8 + length
    if len(items) < 2:
        return None
    table, fragments = items[0], items[1:]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    if frames == 1:
        return [fragments]
    starts = np.frombuffer(stored.read(*table), dtype="<u4", count=table[1] // 4).tolist()
    if len(starts) != frames or starts != sorted(set(starts)):
        return None
    first = fragments[0][0]
    grouped: list[list[tuple[int, int]]] = [[] for _ in starts]
    for fragment in fragments:
        grouped[bisect_right(starts, fragment[0] - first) - 1].append(fragment)
    return grouped if all(grouped) else None


class Spool:
    """A temporary file without a name, in memory while it is short; gone when it is closed.

    Parameters
    ----------
    folder : Path, optional
        Where it goes when it is long; the system's folder for temporary files where absent.
    """

    def __init__(self, folder: Path | None = None) -> None:
        where = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=HELD, dir=where)  # noqa: SIM115
        self.length = 0

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give it up."""
        self._file.close()

    def add(self, data: bytes) -> int:
        """Put bytes behind what is there; where they begin."""
        at = self.length
        self._file.seek(at)
        self._file.write(data)
        self.length += len(data)
        return at

    def put(self, at: int, data: bytes) -> None:
        """Put bytes over what is there."""
        self._file.seek(at)
        self._file.write(data)

    def get(self, at: int, count: int) -> bytes:
        """``count`` bytes from ``at``, fewer at the end."""
        self._file.seek(at)
        return self._file.read(count)

    def parts(self, start: int) -> Callable[[], Iterator[bytes]]:
        """What makes everything from ``start`` on, in parts."""

        def parts() -> Iterator[bytes]:
            at = start
            while part := self.get(at, _PART):
                yield part
                at += len(part)

        return parts


class Parts(BufferedIOBase):
    """A file to be read from its beginning to its end that is made in parts as it is read.

    Parameters
    ----------
    make : callable
        Makes the parts, once for each time that the file is read.
    length : int
        Bytes of all of them.
    """

    def __init__(self, make: Callable[[], Iterator[bytes]], length: int) -> None:
        self._make = make
        self._length = length
        self._at = 0
        self._parts: Iterator[bytes] | None = None
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """To its beginning, and to its end to see how long it is."""
        return True

    def tell(self) -> int:
        """Bytes from the beginning."""
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Go to a place; reading goes on only from the beginning or from where it was."""
        at = offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._length}[whence]
        if at != self._at:
            self._at, self._parts, self._left = at, None, memoryview(b"")
        return at

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes.

        Raises
        ------
        ValueError
            It was put in the middle.
        """
        if self._at >= self._length:
            return b""
        if self._parts is None:
            if self._at:
                raise ValueError("what is made as it is read can be read from its beginning only")
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


class SpooledFrames(Frames):
    """Frames that are added one window after the other, two bytes a pixel.

    Parameters
    ----------
    shape : (int, int, int)
        What they will be when all are there.
    legal : (int, int)
        Lowest and highest value, inclusive; at most 16 bits apart.
    folder : Path, optional
        As for `Spool`.
    """

    def __init__(
        self, shape: tuple[int, int, int], legal: tuple[int, int], folder: Path | None = None
    ) -> None:
        super().__init__(shape)
        self._legal = legal
        self._spool = Spool(folder)

    def add(self, planes: NDArray[np.int32]) -> None:
        """Take the next frames, int32 [n, rows, cols].

        Raises
        ------
        ValueError
            A value is outside the legal range.
        """
        low, high = self._legal
        if int(planes.min()) < low or int(planes.max()) > high:
            raise ValueError("planes must stay inside the legal range")
        self._spool.add((planes - low).astype(np.uint16).tobytes())

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        length = self.shape[1] * self.shape[2] * 2
        data = self._spool.get(start * length, (stop - start) * length)
        return np.frombuffer(data, dtype=np.uint16).reshape(stop - start, *self.shape[1:]).astype(
            np.int32
        ) + np.int32(self._legal[0])
