from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from coverslip.errors import (
    BinaryPixelsError,
    ColourPixelsError,
    DeepPixelsError,
    TruncatedFileError,
    UnsupportedPixelsError,
)
from coverslip.pixels.decoding import native_words
from coverslip.pixels.layout import Layout, Words, layout_of, padding_of, values_of, words_of

LITTLE = "1.2.840.10008.1.2.1"
BIG = "1.2.840.10008.1.2.2"


PLAIN = Layout(frames=1, rows=2, cols=3, allocated=16, stored=12, shift=0, signed=False)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    allocated = draw(st.sampled_from([8, 16]))
    stored = draw(st.integers(2, allocated))
    return replace(
        PLAIN,
        allocated=allocated,
        stored=stored,
        shift=draw(st.integers(0, allocated - stored)),
        signed=draw(st.booleans()),
    )


def words_from(raw: list[int], form: Layout) -> Words:
    """Some numbers as words of a layout."""
    return np.array(raw, dtype=np.uint16).astype(np.uint8 if form.allocated == 8 else np.uint16)


def reference(word: int, form: Layout) -> int:
    """PS3.5 section 8.1.1, bit by bit."""
    bits = [word >> (form.shift + place) & 1 for place in range(form.stored)]
    value = sum(bit << place for place, bit in enumerate(bits))
    return value - (1 << form.stored) if form.signed and bits[-1] else value


@given(layouts(), st.lists(st.integers(0, 65535), min_size=6, max_size=6))
def test_values_follow_the_standard_bit_by_bit(form: Layout, raw: list[int]) -> None:
    words = words_from(raw, form)
    assert values_of(words, form).tolist() == [reference(int(word), form) for word in words]


@given(layouts(), st.lists(st.integers(0, 65535), min_size=6, max_size=6), st.randoms())
@settings(max_examples=200)
def test_new_values_come_back_and_what_did_not_change_keeps_every_bit(
    form: Layout, raw: list[int], random: Random
) -> None:
    before = words_from(raw, form)
    values = values_of(before, form)
    changed = np.array([random.random() < 0.5 for _ in raw])
    lo, hi = form.legal
    wanted = np.where(changed, [random.randint(lo, hi) for _ in raw], values).astype(np.int32)
    after = words_of(wanted, form, before)
    assert values_of(after, form).tolist() == wanted.tolist()
    assert (after[wanted == values] == before[wanted == values]).all()


def test_an_overlay_in_the_high_bits_survives() -> None:
    before = np.array([0xF005, 0x0FFF, 0xA123], dtype=np.uint16)
    after = words_of(np.array([6, 0, 0x124], dtype=np.int32), PLAIN, before)
    assert [hex(word) for word in after] == ["0xf006", "0x0", "0xa124"]


def test_an_extended_sign_follows_the_value() -> None:
    before = np.array([0x0001, 0xFFFF, 0x0005], dtype=np.uint16)
    after = words_of(np.array([-1, 1, 5], dtype=np.int32), replace(PLAIN, signed=True), before)
    assert [hex(word) for word in after] == ["0xffff", "0x1", "0x5"]


def test_bytes_swapped_in_pairs_are_put_right_across_frames_of_odd_length() -> None:
    form = replace(
        PLAIN, frames=2, rows=1, cols=3, allocated=8, stored=8, big_endian=True, swapped=True
    )
    data = bytes([2, 1, 4, 3, 6, 5])
    assert native_words(data, form, 0).tolist() == [[1, 2, 3]]
    assert native_words(data, form, 1).tolist() == [[4, 5, 6]]


def test_missing_bytes_are_a_truncated_file() -> None:
    with pytest.raises(TruncatedFileError, match="11 bytes where 12"):
        native_words(bytes(11), PLAIN, 0)


def header(**changes: object) -> Dataset:
    ds = Dataset()
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", 2, 3
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes(12)
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, BinaryPixelsError),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, ColourPixelsError),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ColourPixelsError),
        ({"BitsAllocated": 32, "BitsStored": 32}, DeepPixelsError),
        ({"BitsAllocated": 12}, UnsupportedPixelsError),
        ({"BitsStored": 17}, UnsupportedPixelsError),
    ],
)
def test_each_kind_that_cannot_carry_has_its_error(
    changes: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        layout_of(header(**changes), LITTLE)
    assert type(caught.value) is error


def test_a_high_bit_without_room_counts_as_the_lowest_bits() -> None:
    assert layout_of(header(HighBit=7), LITTLE).shift == 0
    assert layout_of(header(HighBit=15), LITTLE).shift == 4


@pytest.mark.parametrize(
    ("stored", "signed", "value", "limit", "wanted"),
    [
        (16, 1, 63536, None, (-2000, -2000)),
        (16, 1, -2000, None, (-2000, -2000)),
        (12, 0, 0, None, (0, 0)),
        (12, 1, 63536, None, (-2000, -2000)),
        (16, 1, 63536, 63546, (-2000, -1990)),
        (12, 0, 4095, 4000, (4000, 4095)),
        (12, 0, None, None, None),
    ],
)
def test_padding_is_read_as_the_pixels_are(
    stored: int, signed: int, value: int | None, limit: int | None, wanted: tuple[int, int] | None
) -> None:
    ds = header(BitsStored=stored, HighBit=stored - 1, PixelRepresentation=signed)
    for tag, number in ((0x00280120, value), (0x00280121, limit)):
        if number is not None:
            ds.add_new(tag, "SS" if number < 0 else "US", number)
    assert padding_of(ds, layout_of(ds, LITTLE)) == wanted
