"""Stored pixel values in and out of pixel data: what the bits mean, before any rescaling or
presentation.

PS3.5 section 8.1.1 (Pixel Cell: Bits Allocated, Bits Stored, High Bit), PS3.3 section C.7.6.3
(Image Pixel module) and C.7.5.1.1.2 (Pixel Padding Value).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UncompressedTransferSyntaxes,
)

from coverslip.errors import (
    BinaryPixelsError,
    ColourPixelsError,
    DecoderMissingError,
    DeepPixelsError,
    FloatPixelsError,
    LossySourceError,
    NotAnImageError,
    TruncatedFileError,
    UnsupportedPixelsError,
)

Words = NDArray[np.unsignedinteger[Any]]
"""uint8 or uint16, in any byte order."""

NATIVE = frozenset(str(uid) for uid in UncompressedTransferSyntaxes)
LOSSLESS = frozenset(
    str(uid)
    for uid in (
        RLELossless,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        HTJ2KLosslessRPCL,
    )
)
LOSSY = frozenset(
    str(uid) for uid in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
)
"""Transfer syntaxes that lose, or may, and that can be decoded: their pixels are read and never
written.
"""
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression: lossless, but pydicom has no decoder for it."""

_DECODING = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)

_SUPPORTED = "one sample of 2 to 16 bits, MONOCHROME1 or MONOCHROME2, was expected"


@dataclass(frozen=True)
class Layout:
    """How the stored values of an image lie in its pixel data.

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
        8-bit values in big endian words of 16 bits (VR OW, PS3.5 section A.3).
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
        f"the header has no single value for {keyword}, without which its pixels cannot be read; "
        "a complete DICOM image was expected: export it again from its source"
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
        UID in which the pixel data are encoded.

    Raises
    ------
    NotAnImageError
        An attribute without which nothing can be read is missing, or contradicts the others.
    FloatPixelsError, ColourPixelsError, BinaryPixelsError, DeepPixelsError, UnsupportedPixelsError
        A kind of pixels that cannot carry a record.
    """
    _check_kind(ds)
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
            "words of 8 or 16 bits: "
            "leave this image out, or correct its header"
        )
    high = _number(ds, "HighBit", stored - 1)
    # A high bit that leaves no room for the value is a slip of the writer; every reader we know
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
    big = UID(transfer_syntax) == "1.2.840.10008.1.2.2"
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


def check_syntax(transfer_syntax: str) -> None:
    """Refuse a transfer syntax that nothing installed decodes.

    Raises
    ------
    LossySourceError, DecoderMissingError
    """
    if transfer_syntax in NATIVE | LOSSLESS | LOSSY:
        return
    name = UID(transfer_syntax).name
    # JPEG, JPEG-LS, JPEG 2000, MPEG and their like: what is not in the lists above loses, or may.
    if transfer_syntax.startswith("1.2.840.10008.1.2.4."):
        raise not_readable(transfer_syntax)
    hint = "deflated frames" if transfer_syntax == _DEFLATED_FRAMES else name
    raise DecoderMissingError(
        f"nothing installed decodes this transfer syntax ({hint}); a native or lossless one was "
        "expected: convert the file first"
    )


def not_readable(transfer_syntax: str) -> LossySourceError:
    """The error that says that lossy pixel data do not decode here."""
    return LossySourceError(
        f"the pixels are in a lossy transfer syntax ({UID(transfer_syntax).name}) and do not "
        "decode here; a lossless one was expected: use the original"
    )


def not_writable(transfer_syntax: str) -> LossySourceError:
    """The error that says that pixels were lossily compressed, and so are not written again."""
    return LossySourceError(
        f"the pixels are in a lossy transfer syntax ({UID(transfer_syntax).name}); they can be "
        "read, but writing them again would change those of the body: embed into the original if "
        "its pixels are to carry the record"
    )


def values_of(words: Words, layout: Layout) -> NDArray[np.int32]:
    """The values that words hold: bits outside Bits Stored ignored, sign extended.

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
    return _settle(values, layout)


def _settle(values: NDArray[np.int32], layout: Layout) -> NDArray[np.int32]:
    """Keep the lowest Bits Stored bits and extend their sign, in place."""
    if layout.signed:
        # Up against the sign bit and back down again: the arithmetic shift extends the sign.
        up = 32 - layout.stored
        values <<= up
        values >>= up
    else:
        values &= (1 << layout.stored) - 1
    return values


def words_of(values: NDArray[np.int32], layout: Layout, before: Words | None = None) -> Words:
    """Words that hold values, the inverse of `values_of`.

    Bits outside Bits Stored stay what they were, except where they are the extension of the sign
    and must follow it.

    Parameters
    ----------
    values : int32, any shape
        Inside the legal range.
    layout : Layout
    before : uint8 or uint16, same shape, optional
        The words to put the values into; without them bits outside are zero, or the sign above.

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


def native_words(data: bytes, layout: Layout, frame: int) -> Words:
    """One frame's words as a view on native pixel data, [rows, cols].

    Raises
    ------
    TruncatedFileError
        The pixel data end before the frame does.
    """
    count = layout.rows * layout.cols
    if len(data) < (frame + 1) * layout.frame_bytes:
        raise cut_short(len(data), layout)
    if layout.swapped:
        # Bytes are swapped in pairs across the whole element, so that a frame of odd length starts
        # in the middle of a pair.
        pairs = (
            np.frombuffer(data, dtype=np.uint8, count=len(data) // 2 * 2)
            .reshape(-1, 2)[:, ::-1]
            .reshape(-1)
        )
        return pairs[frame * count : (frame + 1) * count].reshape(layout.rows, layout.cols)
    dtype = word_type(layout)
    return np.frombuffer(data, dtype=dtype, count=count, offset=frame * layout.frame_bytes).reshape(
        layout.rows, layout.cols
    )


def check_decoder(transfer_syntax: str) -> None:
    """Refuse an encapsulated transfer syntax for which no decoder is installed.

    Raises
    ------
    DecoderMissingError
    """
    if not get_decoder(transfer_syntax).is_available:
        raise DecoderMissingError(
            f"no decoder for {UID(transfer_syntax).name} is installed; pylibjpeg with its "
            "plugins was expected: "
            "install 'coverslip' again with its dependencies"
        )


def cut_short(found: int, layout: Layout) -> TruncatedFileError:
    """The error that says that native pixel data have only ``found`` bytes."""
    return TruncatedFileError(
        f"the pixel data have {found} bytes where {layout.frames * layout.frame_bytes} were "
        "expected; "
        "the file was cut: get a whole copy"
    )


def pixel_header(ds: Dataset, transfer_syntax: str) -> Dataset:
    """A data set of only what a decoder asks for, of one frame and without pixel data."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    for keyword in _DECODING:
        if keyword in ds:
            header[keyword] = ds[keyword]
    header.NumberOfFrames = 1
    return header


def single_frame(header: Dataset, data: bytes) -> Dataset:
    """A data set of one frame out of `pixel_header` and its encapsulated pixel data."""
    single = copy.deepcopy(header)
    element = DataElement(0x7FE00010, "OB", data)
    element.is_undefined_length = True
    single[0x7FE00010] = element
    return single


def rle_words(ds: Dataset, layout: Layout) -> Iterator[Words]:
    """Each frame's words of RLE pixel data, bits outside Bits Stored included."""
    dtype = word_type(replace(layout, big_endian=False))
    for frame, _ in get_decoder(RLELossless).iter_buffer(ds):
        yield np.frombuffer(frame, dtype=dtype, count=layout.rows * layout.cols).reshape(
            layout.rows, layout.cols
        )


def _encapsulated(ds: Dataset, layout: Layout, transfer_syntax: str) -> Iterator[NDArray[np.int32]]:
    if transfer_syntax == RLELossless:
        for words in rle_words(ds, layout):
            yield values_of(words, layout)
        return
    for frame, _ in get_decoder(transfer_syntax).iter_array(ds, raw=True):
        # The codec's own precision may differ from Bits Stored; the header says what the bits mean.
        yield _settle(frame.astype(np.int32), layout)


def iter_planes(ds: Dataset, layout: Layout, transfer_syntax: str) -> Iterator[NDArray[np.int32]]:
    """Decode the stored values frame by frame.

    Yields
    ------
    int32 [rows, cols]

    Raises
    ------
    DecoderMissingError
        No decoder for the transfer syntax is installed.
    TruncatedFileError
        A frame is missing or does not decode.
    """
    if transfer_syntax in NATIVE:
        data = ds.PixelData
        for frame in range(layout.frames):
            yield values_of(native_words(data, layout, frame), layout)
        return
    check_decoder(transfer_syntax)
    found = 0
    try:
        for plane in _encapsulated(ds, layout, transfer_syntax):
            if found == layout.frames:
                break
            yield plane
            found += 1
    except (RuntimeError, ValueError, EOFError, AttributeError, IndexError, TypeError):
        # pydicom's message may quote the data; ours says only where it stopped.
        raise undecodable(found, layout) from None
    if found < layout.frames:
        raise undecodable(found, layout)


def undecodable(found: int, layout: Layout) -> TruncatedFileError:
    """The error that says that encapsulated pixel data end, or make no sense, after ``found``
    frames.
    """
    return TruncatedFileError(
        f"frame {found + 1} of {layout.frames} does not decode; complete compressed pixel data "
        "were expected: "
        "the file was cut or damaged, get a whole copy"
    )


def padding_of(ds: Dataset, layout: Layout) -> tuple[int, int] | None:
    """The range of values that pad the image; None where the header names none.

    Files in the wild carry 63536 in a signed image for -2000: the word is taken, and read as the
    pixels are (PS3.3 section C.7.5.1.1.2).

    Returns
    -------
    (int, int) or None
        Lowest and highest padding value, inclusive; equal unless Pixel Padding Range Limit is
        there.
    """
    ends = [ds.get(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    found = [_as_pixel(end, layout) for end in ends if isinstance(end, int)]
    if not isinstance(ends[0], int):
        return None
    return min(found), max(found)


def _as_pixel(value: int, layout: Layout) -> int:
    return int(_settle(np.array([value], dtype=np.int64).astype(np.int32), layout)[0])
