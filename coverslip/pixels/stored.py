"""Frames that stay in their file until they are wanted."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from coverslip.errors import TruncatedFileError, UnreadableFileError
from coverslip.pixels.decoding import (
    cut_short,
    iter_planes,
    pixel_header,
    rle_words,
    single_frame,
    undecodable,
)
from coverslip.pixels.frames import Frames
from coverslip.pixels.layout import Layout, Words, values_of, word_type

_ITEM = 0xFFFEE000


class StoredValue:
    """The value of a pixel data element, in its file.

    Parameters
    ----------
    path : Path
    offset : int
        Position of the value's first byte.
    length : int or None
        Bytes; None for encapsulated pixel data, which end with a delimiter.
    """

    def __init__(self, path: Path, offset: int, length: int | None) -> None:
        self._path = path
        self._offset = offset
        self._stamp = self._size_and_time()
        present = max(self._stamp[0] - offset, 0)
        self.length = present if length is None else min(length, present)

    def _size_and_time(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise UnreadableFileError(
                f"the file cannot be read any more ({type(error).__name__}); leave it in its place "
                "until the work on it is done"
            ) from None
        return status.st_size, status.st_mtime_ns

    def read(self, at: int, count: int) -> bytes:
        """Read ``count`` bytes from position ``at`` of the value, fewer at the end.

        Raises
        ------
        UnreadableFileError
            The file changed since it was opened.
        """
        if self._size_and_time() != self._stamp:
            raise UnreadableFileError(
                "the file was changed while it was being read; begin again, and leave it unchanged "
                "until the work on it is done"
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

    def __init__(self, stored: StoredValue, layout: Layout) -> None:
        super().__init__(layout.shape)
        self._stored = stored
        self._layout = layout
        if stored.length < layout.frames * layout.frame_bytes:
            raise cut_short(stored.length, layout)

    @property
    def length(self) -> int:
        """Bytes of the pixel data, including those after the last frame."""
        return self._stored.length

    def words(self, start: int, stop: int) -> Words:
        """The words of some frames, bits outside Bits Stored included: [n, rows, cols]."""
        length = self._layout.frame_bytes
        data = self._stored.read(start * length, (stop - start) * length)
        if len(data) < (stop - start) * length:
            raise cut_short(start * length + len(data), self._layout)
        return np.frombuffer(data, dtype=word_type(self._layout)).reshape(
            stop - start, *self.shape[1:]
        )

    def rest(self) -> bytes:
        """The bytes after the last frame."""
        end = self._layout.frames * self._layout.frame_bytes
        return self._stored.read(end, self._stored.length - end)

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`."""
        return values_of(self.words(start, stop), self._layout)


class EncapsulatedFrames(Frames):
    """Frames of encapsulated pixel data in a file, read by the positions of their fragments.

    Parameters
    ----------
    stored : StoredValue
    ds : Dataset
        The header.
    layout : Layout
    transfer_syntax : str
    fragments : list of list of (int, int)
        From `find_fragments`.
    """

    def __init__(
        self,
        stored: StoredValue,
        ds: Dataset,
        layout: Layout,
        transfer_syntax: str,
        fragments: list[list[tuple[int, int]]],
    ) -> None:
        super().__init__(layout.shape)
        self._stored = stored
        self._layout = layout
        self._one = replace(layout, frames=1)
        self._syntax = transfer_syntax
        self._fragments = fragments
        self._header = pixel_header(ds, transfer_syntax)

    def _single(self, number: int) -> Dataset:
        """A data set of one frame."""
        data = b"".join(self._stored.read(at, length) for at, length in self._fragments[number])
        return single_frame(self._header, encapsulate([data]))

    def rle_words(self, number: int) -> Words:
        """The words of one frame of RLE pixel data, with all their bits: [rows, cols]."""
        return next(rle_words(self._single(number), self._one))

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`.

        Raises
        ------
        TruncatedFileError
            A frame does not decode.
        """
        planes = np.empty((stop - start, *self.shape[1:]), dtype=np.int32)
        for number in range(start, stop):
            try:
                planes[number - start] = next(
                    iter_planes(self._single(number), self._one, self._syntax)
                )
            except TruncatedFileError:
                raise undecodable(number, self._layout) from None
        return planes


def end_of_fragments(read: Callable[[int, int], bytes]) -> int:
    """Where the items of encapsulated pixel data end, without the delimiter (PS3.5 section A.4).

    Parameters
    ----------
    read : callable
        Bytes of the pixel data: from a position, a number of them.
    """
    at = 0
    while len(header := read(at, 8)) == 8:
        group, element, length = struct.unpack("<HHI", header)
        if (group << 16 | element) != _ITEM:
            break
        at += 8 + length
    return at


def find_fragments(stored: StoredValue, frames: int) -> list[list[tuple[int, int]]] | None:
    """Find the fragments of each frame in encapsulated pixel data (PS3.5 section A.4).

    Reads only the items' tags and lengths, and the basic offset table.

    Returns
    -------
    list of list of (int, int), or None
        Position and length of each frame's fragments; None if only decoding can assign fragments to
        frames.
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
