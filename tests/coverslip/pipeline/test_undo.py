"""The undo list: what it takes from cover to stego it gives back, and a broken one is an error."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.errors import DamagedMessageError
from coverslip.pipeline.undo import UndoneFrames, redo_frame, undo_frame
from coverslip.pixels.frames import HeldFrames

EXTREMES = (-(2**15), 2**15 - 1, 0, 2**16 - 1)
"""Ends of what 16 bits hold, signed and not."""


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cover and stego int32 [H, W] that differ in full blocks of the grid only."""
    rows, cols = draw(st.integers(1, 23)), draw(st.integers(1, 23))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from(["extremes", "any", "near"]))

    def plane() -> NDArray[np.int32]:
        if values == "extremes":
            return random.choice(np.array(EXTREMES, np.int32), (rows, cols))
        return random.integers(-(2**15), 2**16, (rows, cols), dtype=np.int32)

    cover = plane()
    other = cover + random.integers(-9, 10, cover.shape) if values == "near" else plane()
    changed = random.random((rows // 4, cols // 4)) < draw(st.sampled_from([0, 0.3, 1]))
    inside = np.zeros(cover.shape, dtype=bool)
    inside[: rows // 4 * 4, : cols // 4 * 4] = np.kron(changed, np.ones((4, 4), dtype=bool))
    return cover, np.where(inside, other, cover).astype(np.int32)


@given(pairs())
def test_the_cover_comes_back_from_the_stego_and_its_undo_list(
    pair: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> None:
    cover, stego = pair
    before = stego.copy()
    data = undo_frame(cover, stego)
    undone, end = redo_frame(stego, b"other" + data + b"next", 5)
    assert np.array_equal(undone, cover) and undone.dtype == np.int32
    assert end == 5 + len(data)
    assert np.array_equal(stego, before)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5), st.data())
def test_every_frame_comes_back_in_any_order(seeds: list[int], data: st.DataObject) -> None:
    shape = (len(seeds), 13, 18)
    random = np.random.default_rng(seeds[0])
    covers = random.integers(0, 4096, shape, dtype=np.int32)
    stegos = covers.copy()
    for number, seed in enumerate(seeds):
        if seed % 3:
            stegos[number, 4:8, 8:12] += seed % 7
    undo = b"".join(undo_frame(*pair) for pair in zip(covers, stegos, strict=True))
    undone = UndoneFrames(HeldFrames(stegos), undo)
    start = data.draw(st.integers(0, len(seeds) - 1))
    assert np.array_equal(undone.read(start, len(seeds)), covers[start:])
    assert np.array_equal(undone.whole(), covers)


def test_nothing_changed_takes_next_to_nothing() -> None:
    plane = np.arange(512 * 512, dtype=np.int32).reshape(512, 512)
    assert len(undo_frame(plane, plane)) < 64


STEGO = np.arange(24 * 28, dtype=np.int32).reshape(24, 28)
COVER = STEGO.copy()
COVER[4:12, 8:16] -= 3
UNDO = undo_frame(COVER, STEGO)


def packed(changed: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<2I", changed, len(data) if length is None else length) + data


def refuses(data: bytes, stego: NDArray[np.int32] = STEGO) -> None:
    with pytest.raises(DamagedMessageError, match="undo list"):
        redo_frame(stego, data, 0)
    with pytest.raises(DamagedMessageError, match="undo list"):
        UndoneFrames(HeldFrames(stego[np.newaxis]), data).whole()


@pytest.mark.parametrize("length", range(len(UNDO)))
def test_an_undo_list_that_was_cut_is_an_error(length: int) -> None:
    refuses(UNDO[:length])


@pytest.mark.parametrize(
    "data",
    [
        packed(2**32 - 1, zlib.compress(bytes(8))),
        packed(4, zlib.compress(bytes(8)), 2**32 - 1),
        packed(0, b""),
        packed(0, zlib.compress(b"")),
        packed(0, zlib.compress(bytes(5))),
        packed(0, zlib.compress(bytes(7))),
        packed(1, zlib.compress(bytes(6 + 64))),
        packed(1, zlib.compress(b"\xff" * 6 + bytes(64))),
        packed(0, b"no deflate at all"),
        packed(0, zlib.compress(bytes(6))[:-6]),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_an_undo_list_that_contradicts_itself_is_an_error(data: bytes) -> None:
    refuses(data)


def test_an_undo_list_of_another_size_is_an_error() -> None:
    refuses(undo_frame(COVER[:20], STEGO[:20]))
    refuses(UNDO, STEGO[:20])
    refuses(UNDO, STEGO[:3])


@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda data: packed(1, data)))
@settings(max_examples=200)
def test_any_bytes_undo_something_or_are_an_error(data: bytes) -> None:
    try:
        undone, end = redo_frame(STEGO, data, 0)
    except DamagedMessageError:
        return
    assert undone.shape == STEGO.shape and end <= len(data)


@given(st.integers(8, len(UNDO) - 1), st.integers(1, 255))
def test_an_undo_list_with_a_changed_byte_gives_a_plane_or_is_an_error(
    place: int, change: int
) -> None:
    """Whether it is the cover's is for the digest of the original pixels to say."""
    data = bytearray(UNDO)
    data[place] ^= change
    try:
        undone, _ = redo_frame(STEGO, bytes(data), 0)
    except DamagedMessageError:
        return
    assert undone.shape == STEGO.shape


def test_what_inflates_without_end_is_refused_at_once_and_in_little_memory() -> None:
    deflater = zlib.compressobj(9)
    part = bytes(1 << 20)
    bomb = b"".join(deflater.compress(part) for _ in range(1024)) + deflater.flush()
    assert len(bomb) < 2 << 20, "1 GiB of zeros"
    tracemalloc.start()
    began = time.perf_counter()
    refuses(packed(4, bomb))
    spent, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 1 and peak < 4 * len(bomb)
