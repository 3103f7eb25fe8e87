"""Decodes pixel data to the values of each frame."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

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

from coverslip.errors import DecoderMissingError, LossySourceError, TruncatedFileError
from coverslip.pixels.layout import Layout, Words, keep_stored_bits, values_of, word_type

PIXEL_DATA = 0x7FE00010

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
"""Transfer syntaxes that lose, or may, and that can be decoded: read, and never written."""
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression: lossless, but pydicom has no decoder for it."""

_DECODING_ATTRIBUTES = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


def check_syntax(transfer_syntax: str) -> None:
    """Refuse a transfer syntax that this package does not decode.

    Raises
    ------
    LossySourceError, DecoderMissingError
    """
    if transfer_syntax in NATIVE | LOSSLESS | LOSSY:
        return
    name = UID(transfer_syntax).name
    # JPEG, JPEG-LS, JPEG 2000, MPEG and the like: those not in the lists above are or may be lossy.
    if transfer_syntax.startswith("1.2.840.10008.1.2.4."):
        raise not_readable(transfer_syntax)
    hint = "deflated frames" if transfer_syntax == _DEFLATED_FRAMES else name
    raise DecoderMissingError(
        f"nothing installed decodes this transfer syntax ({hint}); a native or lossless one was "
        "expected: convert the file first"
    )


def not_readable(transfer_syntax: str) -> LossySourceError:
    """The error for lossy pixel data that do not decode here."""
    return LossySourceError(
        f"the pixels are in a lossy transfer syntax ({UID(transfer_syntax).name}) and do not "
        "decode here; a lossless one was expected: use the original"
    )


def not_writable(transfer_syntax: str) -> LossySourceError:
    """The error for pixels that were compressed with loss, and so are not written again."""
    return LossySourceError(
        f"the pixels are in a lossy transfer syntax ({UID(transfer_syntax).name}); they can be "
        "read, but writing them again would change those of the body: embed into the original if "
        "its pixels are to carry the record"
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
            "plugins was expected: install 'coverslip' again with its dependencies"
        )


def native_words(data: bytes, layout: Layout, frame: int) -> Words:
    """One frame's words as a view of native pixel data: [rows, cols].

    Raises
    ------
    TruncatedFileError
        The pixel data end before the frame does.
    """
    count = layout.rows * layout.cols
    if len(data) < (frame + 1) * layout.frame_bytes:
        raise cut_short(len(data), layout)
    if layout.swapped:
        # Bytes are swapped in pairs across the whole element: a frame of odd length starts in the
        # middle of a pair.
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


def cut_short(present: int, layout: Layout) -> TruncatedFileError:
    """The error for native pixel data of only ``present`` bytes."""
    return TruncatedFileError(
        f"the pixel data have {present} bytes where {layout.frames * layout.frame_bytes} were "
        "expected; the file was cut: get a whole copy"
    )


def pixel_header(ds: Dataset, transfer_syntax: str) -> Dataset:
    """A data set of one frame with only the attributes that a decoder needs, no pixel data."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = UID(transfer_syntax)
    for keyword in _DECODING_ATTRIBUTES:
        if keyword in ds:
            header[keyword] = ds[keyword]
    header.NumberOfFrames = 1
    return header


def single_frame(header: Dataset, data: bytes) -> Dataset:
    """A data set of one frame from `pixel_header` and its encapsulated pixel data."""
    single = copy.deepcopy(header)
    element = DataElement(PIXEL_DATA, "OB", data)
    element.is_undefined_length = True
    single[PIXEL_DATA] = element
    return single


def rle_words(ds: Dataset, layout: Layout) -> Iterator[Words]:
    """The words of each frame of RLE pixel data, bits outside Bits Stored included."""
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
        # The codec's own precision may differ from Bits Stored; the header decides.
        yield keep_stored_bits(frame.astype(np.int32), layout)


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
    decoded = 0
    try:
        for plane in _encapsulated(ds, layout, transfer_syntax):
            if decoded == layout.frames:
                break
            yield plane
            decoded += 1
    except (RuntimeError, ValueError, EOFError, AttributeError, IndexError, TypeError):
        # pydicom's message may quote the data; ours only says where decoding stopped.
        raise undecodable(decoded, layout) from None
    except BaseException as error:
        # pylibjpeg's RLE decoder is in Rust, and panics where pixel data end early.
        if type(error).__name__ != "PanicException":
            raise
        raise undecodable(decoded, layout) from None
    if decoded < layout.frames:
        raise undecodable(decoded, layout)


def undecodable(decoded: int, layout: Layout) -> TruncatedFileError:
    """The error for encapsulated pixel data that decode only as far as ``decoded`` frames."""
    return TruncatedFileError(
        f"frame {decoded + 1} of {layout.frames} does not decode; complete compressed pixel data "
        "were expected: the file was cut or damaged, get a whole copy"
    )
