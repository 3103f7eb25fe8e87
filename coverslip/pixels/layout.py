"""The layout of stored pixel values in words, before any rescaling or presentation.

PS3.5 section 8.1.1 (Pixel Cell: Bits Allocated, Bits Stored, High Bit), PS3.3 section C.7.6.3
(Image Pixel module) and C.7.5.1.1.2 (Pixel Padding Value).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian

from coverslip.errors import (
    BinaryPixelsError,
    ColourPixelsError,
    DeepPixelsError,
    FloatPixelsError,
    NotAnImageError,
    UnsupportedPixelsError,
)

Words = NDArray[np.unsignedinteger[Any]]
"""uint8 or uint16, in any byte order."""

_SUPPORTED = "one sample of 2 to 16 bits, MONOCHROME1 or MONOCHROME2, was expected"


@dataclass(frozen=True)
class Layout:
    """The layout of an image's stored values in its pixel data.

    Attributes
    ----------
    frames, rows, cols : int
    allocated : int
        Bits of a word: 8 or 16.
    stored : int
        Bits of a value, 2 to ``allocated``.
    shift : int
        Position of a value's lowest bit: High Bit + 1 - ``stored``.
    signed : bool
    big_endian : bool
        Byte order of native words.
    swapped : bool
        8-bit values in big endian words of 16 bits (VR OW, PS3.5 section A.3)
    """

    frames: int
    rows: int
    cols: int
    allocated: int
    stored: int
    shift: int
    signed: bool
    big_endian: bool = False
    swapped: bool = False

    @property
    def legal(self) -> tuple[int, int]:
        """Lowest and highest value that can be stored, inclusive."""
        span = 1 << self.stored
        return (-(span >> 1), (span >> 1) - 1) if self.signed else (0, span - 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.frames, self.rows, self.cols

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame, without padding."""
        return self.rows * self.cols * self.allocated // 8


def _number(ds: Dataset, keyword: str, default: int | None = None) -> int:
    value = ds.get(keyword)
    if isinstance(value, (int, float)):
        return int(value)
    if default is not None:
        return default
    raise NotAnImageError(
        f"the header has no single value for {keyword}, which is needed to read the pixels; a "
        "complete DICOM image was expected: export it again from its source"
    )


def _check_kind(ds: Dataset) -> None:
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
        raise FloatPixelsError(
            f"the pixels are floating point numbers; {_SUPPORTED}: embed into the images that "
            "this map was computed from"
        )
    samples = _number(ds, "SamplesPerPixel", 1)
    photometric = str(ds.get("PhotometricInterpretation", "MONOCHROME2"))
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ColourPixelsError(
            f"the pixels are in colour or through a palette; {_SUPPORTED}: leave this image out, "
            "it cannot carry a record"
        )


def layout_of(ds: Dataset, transfer_syntax: str) -> Layout:
    """Read the layout of an image's pixel data from its header.

    Parameters
    ----------
    ds : Dataset
    transfer_syntax : str
        UID of the pixel data's encoding.

    Raises
    ------
    NotAnImageError
        A necessary attribute is missing, or contradicts the others.
    FloatPixelsError, ColourPixelsError, BinaryPixelsError, DeepPixelsError, UnsupportedPixelsError
        A kind of pixels that cannot carry a record.
    """
    _check_kind(ds)
    allocated, stored = _bits(ds)
    high = _number(ds, "HighBit", stored - 1)
    # A high bit that leaves no room for the value is an error of the writer; every reader we know
    # takes the lowest bits then.
    shift = high + 1 - stored if stored - 1 <= high < allocated else 0
    frames, rows, cols = (
        _number(ds, "NumberOfFrames", 1) or 1,
        _number(ds, "Rows"),
        _number(ds, "Columns"),
    )
    if min(frames, rows, cols) < 1:
        raise NotAnImageError(
            "the header says that the image has no pixels; an image was expected: export it again"
        )
    big = UID(transfer_syntax) == ExplicitVRBigEndian
    return Layout(
        frames=frames,
        rows=rows,
        cols=cols,
        allocated=allocated,
        stored=stored,
        shift=shift,
        signed=_number(ds, "PixelRepresentation", 0) == 1,
        big_endian=big,
        swapped=big and allocated == 8 and ds["PixelData"].VR == "OW",
    )


def _bits(ds: Dataset) -> tuple[int, int]:
    """Bits Allocated and Bits Stored of pixels that can carry a record."""
    allocated = _number(ds, "BitsAllocated")
    stored = _number(ds, "BitsStored", allocated)
    if allocated == 1 or stored == 1:
        raise BinaryPixelsError(
            f"the pixels have one bit; {_SUPPORTED}: leave this image out, or embed into the "
            "image it was segmented from"
        )
    if allocated > 16:
        raise DeepPixelsError(
            f"the pixels have {allocated} bits; {_SUPPORTED}: leave this image out"
        )
    if allocated not in (8, 16) or not 1 < stored <= allocated:
        raise UnsupportedPixelsError(
            f"the header says {stored} bits stored in {allocated} allocated; {_SUPPORTED}, in "
            "words of 8 or 16 bits: leave this image out, or correct its header"
        )
    return allocated, stored


def values_of(words: Words, layout: Layout) -> NDArray[np.int32]:
    """The values in words: bits outside Bits Stored ignored, sign extended.

    Parameters
    ----------
    words : uint8 or uint16, any shape, any byte order
    layout : Layout

    Returns
    -------
    int32, same shape
    """
    values = words.astype(np.int32)
    if layout.shift:
        values >>= layout.shift
    return keep_stored_bits(values, layout)


def keep_stored_bits(values: NDArray[np.int32], layout: Layout) -> NDArray[np.int32]:
    """Keep the lowest Bits Stored bits and extend their sign, in place."""
    if layout.signed:
        # Shifted up to the sign bit and down again: the arithmetic shift extends the sign.
        up = 32 - layout.stored
        values <<= up
        values >>= up
    else:
        values &= (1 << layout.stored) - 1
    return values


def words_of(values: NDArray[np.int32], layout: Layout, before: Words | None = None) -> Words:
    """Words with some values in them, the inverse of `values_of`.

    Bits outside Bits Stored stay as they were, except an extension of the sign, which follows it.

    Parameters
    ----------
    values : int32, any shape
        Inside the legal range.
    layout : Layout
    before : uint8 or uint16, same shape, optional
        The words to put the values into; by default, zeros with the sign extended.

    Returns
    -------
    uint8 or uint16 in native byte order, same shape
    """
    dtype = np.uint8 if layout.allocated == 8 else np.uint16
    whole = (1 << layout.allocated) - 1
    below = (1 << layout.shift) - 1
    extended = values << layout.shift if layout.shift else values
    if before is None:
        return (extended & whole).astype(dtype)
    if layout.stored == layout.allocated:
        return values.astype(dtype)
    old = before.astype(np.int32)
    field = ((1 << layout.stored) - 1) << layout.shift
    if layout.signed and np.array_equal(
        (values_of(before, layout) << layout.shift) & ~below & whole, old & ~below
    ):
        return ((extended & whole & ~below) | (old & below)).astype(dtype)
    return ((old & ~field) | (extended & field)).astype(dtype)


def word_type(layout: Layout) -> np.dtype[np.unsignedinteger[Any]]:
    """The type of a native word: uint8, or uint16 in the layout's byte order."""
    return np.dtype("u1" if layout.allocated == 8 else ">u2" if layout.big_endian else "<u2")


def padding_of(ds: Dataset, layout: Layout) -> tuple[int, int] | None:
    """The range of values that pad the image.

    Some files have 63536 in a signed image for -2000: the value is read as the pixels' words are
    (PS3.3 section C.7.5.1.1.2).

    Returns
    -------
    (int, int) or None
        Lowest and highest padding value, inclusive; equal without Pixel Padding Range Limit. None
        if the header names no padding.
    """
    ends = [ds.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [_as_pixel(end, layout) for end in ends if isinstance(end, int)]
    if not isinstance(ends[0], int):
        return None
    return min(values), max(values)


def _as_pixel(value: int, layout: Layout) -> int:
    return int(keep_stored_bits(np.array([value], dtype=np.int64).astype(np.int32), layout)[0])
