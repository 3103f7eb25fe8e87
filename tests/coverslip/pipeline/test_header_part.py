"""The content of the sealed header part: any bytes are one, or are refused in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coverslip.errors import DamagedMessageError
from coverslip.pipeline import header_part
from coverslip.pipeline.header_part import (
    HeaderPart,
    decode_header_part,
    digest_of,
    encode_header_part,
)
from coverslip.pixels.frames import HeldFrames

NAMES = [field.name for field in fields(HeaderPart)]
PARTS = st.builds(HeaderPart, **{name: st.binary(max_size=300) for name in NAMES})


def row(number: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<BI", number, len(value) if length is None else length) + value


@given(PARTS)
def test_every_field_comes_back(part: HeaderPart) -> None:
    assert decode_header_part(encode_header_part(part)) == part


def test_a_header_of_some_megabytes_comes_back_and_is_small() -> None:
    part = HeaderPart(head=b"\x18\x00\x50\x00DS\x04\x003.0 " * 500_000, tail=bytes(1 << 20))
    encoded = encode_header_part(part)
    assert decode_header_part(encoded) == part
    assert len(encoded) < len(part.head) / 100


def test_the_numbers_of_the_fields_stay_as_they_were_released() -> None:
    assert NAMES[:8] == [
        "record",
        "head",
        "tail",
        "undo",
        "original_pixels",
        "stego_pixels",
        "original_file",
        "content",
    ]
    assert encode_header_part(HeaderPart(content=b"c")) == row(8, b"c")


@given(PARTS, st.integers(len(NAMES) + 1, 255), st.binary(max_size=40))
def test_fields_of_later_releases_are_left_out(part: HeaderPart, number: int, value: bytes) -> None:
    later = row(number, value)
    assert decode_header_part(later + encode_header_part(part) + later) == part


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_any_bytes_are_a_header_part_or_an_error(content: bytes) -> None:
    try:
        part = decode_header_part(content)
    except DamagedMessageError:
        return
    assert isinstance(part, HeaderPart)


@given(PARTS, st.data())
def test_a_header_part_with_any_byte_changed_or_cut_is_one_or_an_error(
    part: HeaderPart, data: st.DataObject
) -> None:
    encoded = bytearray(encode_header_part(part))
    if encoded:
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] ^= data.draw(st.integers(0, 255))
        del encoded[data.draw(st.integers(0, len(encoded))) :]
    with suppress(DamagedMessageError):
        assert isinstance(decode_header_part(bytes(encoded)), HeaderPart)


@pytest.mark.parametrize(
    "content",
    [
        row(8, b"one") + row(8, b"two"),
        row(2, zlib.compress(b"one")) + row(2, zlib.compress(b"two")),
        row(8, b"", 1),
        row(8, b"digest", 2**32 - 1),
        row(8, b"digest")[:4],
        row(2, b"no deflate"),
        row(2, b""),
        row(2, zlib.compress(b"header")[:-3]),
        row(3, zlib.compress(b"what follows the pixels" * 9)[:12]),
    ],
    ids=lambda content: content[:12].hex(),
)
def test_what_contradicts_itself_is_damaged(content: bytes) -> None:
    with pytest.raises(DamagedMessageError, match="header part"):
        decode_header_part(content)


@pytest.mark.parametrize("field", [2, 3], ids=["head", "tail"])
def test_what_inflates_without_end_is_refused_in_bounded_memory(
    field: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20
    assert header_part._LARGEST_HEADER == 256 << 20
    monkeypatch.setattr(header_part, "_LARGEST_HEADER", limit)
    bomb = row(field, zlib.compress(bytes(64 * limit), 9))
    tracemalloc.start()
    with pytest.raises(DamagedMessageError):
        decode_header_part(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * limit
    exactly = bytes(limit)
    assert decode_header_part(row(2, zlib.compress(exactly))).head == exactly


def test_pixels_have_one_digest_whatever_the_window_and_another_in_another_shape() -> None:
    planes = np.random.default_rng(1).integers(-9, 9, (20, 6, 8), dtype=np.int32)
    digest = digest_of(HeldFrames(planes))
    assert digest == digest_of(HeldFrames(planes.copy()))
    others = [planes.reshape(20, 8, 6), planes.reshape(10, 12, 8), planes[:19], planes[::-1]]
    changed = planes.copy()
    changed[19, 5, 7] += 1
    for other in (*others, changed):
        assert digest_of(HeldFrames(np.ascontiguousarray(other))) != digest
