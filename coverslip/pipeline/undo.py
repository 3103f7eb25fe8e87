"""The undo list: what to add to stego pixels to get the cover's back.

A flag for each block of 4 x 4 that embedding changed, then the cover minus the stego at the blocks
flagged. Measured on 79 slices with profile ``default``: 620 carriers, 4.7 kB compressed on CT and
4.9 kB on MR.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import DamagedMessageError
from coverslip.pixels.frames import Frames
from coverslip.scheme.dct import COEFFICIENTS, block_view, to_blocks

_HEADER = struct.Struct("<2I")
"""Blocks changed and bytes of the compressed part, of one frame."""


def _compressed(flags: NDArray[np.bool_], differences: NDArray[np.int32]) -> bytes:
    # The sign goes last and the bytes of a word apart: the upper ones are all 0 then.
    folded = (differences << 1) ^ (differences >> 31)
    words = folded.astype("<i4").view(np.uint8).reshape(-1, 4)
    return zlib.compress(np.packbits(flags).tobytes() + words.T.tobytes(), 6)


def undo_frame(cover: NDArray[np.int32], stego: NDArray[np.int32]) -> bytes:
    """The undo list of one frame.

    Parameters
    ----------
    cover, stego : int32 [H, W]
        Stored values; they differ in full blocks of the grid only.
    """
    difference = to_blocks(cover - stego)
    flags = difference.any(axis=-1)
    data = _compressed(flags, difference[flags])
    return _HEADER.pack(int(flags.sum()), len(data)) + data


def redo_frame(stego: NDArray[np.int32], data: bytes, at: int) -> tuple[NDArray[np.int32], int]:
    """The cover of one frame, and where the next frame's undo list begins.

    Parameters
    ----------
    stego : int32 [H, W]
        Stored values.
    data : bytes
        Undo lists of all frames, one after the other.
    at : int
        Where this frame's begins.

    Raises
    ------
    DamagedMessageError
        The undo list is not one of an image of this size.
    """
    cover = stego.copy()
    blocks = block_view(cover)
    count = blocks.shape[0] * blocks.shape[1]
    flag_bytes = -(-count // 8)
    try:
        changed, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if changed > count or at + length > len(data):
            raise _no_undo_list()
        expected = flag_bytes + 4 * COEFFICIENTS * changed
        inflater = zlib.decompressobj()
        plain = inflater.decompress(data[at : at + length], expected + 1)
    except (struct.error, zlib.error):
        raise _no_undo_list() from None
    flags = np.unpackbits(np.frombuffer(plain[:flag_bytes], np.uint8), count=count).astype(bool)
    if len(plain) != expected or int(flags.sum()) != changed:
        raise _no_undo_list()
    words = np.frombuffer(plain, np.uint8, offset=flag_bytes).reshape(4, -1).T
    folded = np.ascontiguousarray(words).view("<u4").reshape(-1, *blocks.shape[2:])
    differences = (folded >> 1).astype(np.int32) ^ -(folded & 1).astype(np.int32)
    blocks[flags.reshape(blocks.shape[:2])] += differences
    return cover, at + length


def _no_undo_list() -> DamagedMessageError:
    return DamagedMessageError(
        "the sealed header part holds no undo list for an image of this size: use an undamaged "
        "copy of the file; the identity can be read without it"
    )


class UndoneFrames(Frames):
    """The cover's frames, made of stego frames and their undo lists.

    Parameters
    ----------
    stego : Frames
        Stored values, int32 [F, H, W].
    data : bytes
        Undo lists of all frames, one after the other.
    """

    def __init__(self, stego: Frames, data: bytes) -> None:
        super().__init__(stego.shape)
        self._stego = stego
        self._data = data
        self._starts = [0]

    def _start_of(self, number: int) -> int:
        while len(self._starts) <= number:
            at = self._starts[-1]
            if at + _HEADER.size > len(self._data):
                raise _no_undo_list()
            self._starts.append(at + _HEADER.size + _HEADER.unpack_from(self._data, at)[1])
        return self._starts[number]

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """As `Frames.read`.

        Raises
        ------
        DamagedMessageError
            The undo list is not one of these frames.
        """
        planes = self._stego.read(start, stop)
        return np.stack(
            [
                redo_frame(plane, self._data, self._start_of(number))[0]
                for number, plane in enumerate(planes, start)
            ]
        )
