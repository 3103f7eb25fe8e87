"""Puts frames into a data set as pixel data, in the transfer syntax of the instance if possible."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from coverslip.dicom.parsing import Instance, raw_element
from coverslip.errors import DoesNotComeBackError, TruncatedFileError
from coverslip.pixels.decoding import (
    NATIVE,
    PIXEL_DATA,
    iter_planes,
    pixel_header,
    rle_words,
    single_frame,
)
from coverslip.pixels.frames import Frames
from coverslip.pixels.layout import Layout, Words, word_type, words_of
from coverslip.pixels.scratch import PartStream, ScratchFile
from coverslip.pixels.stored import EncapsulatedFrames, NativeFrames

_LARGEST_OFFSET_TABLE = 0xFFFFFFFE
"""Largest offset of the basic offset table, which has 32 bits; beyond it the extended table is
needed (PS3.3 section C.7.6.3.1.8).
"""
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"
"""Ends encapsulated pixel data (PS3.5 section A.4)."""
_ENCODABLE = (str(RLELossless), str(JPEGLSLossless), str(JPEG2000Lossless))


def put_frames(instance: Instance, frames: Frames, out: Dataset, scratch: ScratchFile) -> list[str]:
    """Replace the pixel data of ``out``, keeping the transfer syntax if an encoder for it exists.

    Parameters
    ----------
    instance : Instance
        The source of the header and of the bits outside Bits Stored.
    frames : Frames
    out : Dataset
        Changed in place.
    scratch : ScratchFile
        Storage for encoded frames; must stay open until ``out`` is written.

    Returns
    -------
    list of str
        A note if the transfer syntax changed.
    """
    syntax, source = instance.transfer_syntax, instance.frames
    if isinstance(source, NativeFrames):
        stream = PartStream(lambda: _native_parts(frames, source, instance.layout), source.length)
        vr = raw_element(instance.dataset, PIXEL_DATA).VR
        out[PIXEL_DATA] = DataElement(PIXEL_DATA, "OB" if vr == "OB" else "OW", stream)
        return []
    if syntax in NATIVE:
        data = _native_data(instance, frames.whole())
        out[PIXEL_DATA] = DataElement(PIXEL_DATA, instance.dataset["PixelData"].VR, data)
        return []
    reason = "nothing installed encodes it"
    if syntax in _ENCODABLE and get_encoder(UID(syntax)).is_available:
        try:
            encoded = _checked(_encode_frames(instance, frames), instance)
            _put_encapsulated(out, encoded, len(frames), scratch)
        except (RuntimeError, ValueError, DoesNotComeBackError, TruncatedFileError):
            reason = "its encoder does not give these pixels back"
        else:
            return []
    _put_explicit(instance, frames, out)
    return [
        f"written as {ExplicitVRLittleEndian.name}: the source is {UID(syntax).name}, and {reason}"
    ]


def encoded_value(instance: Instance, frames: Frames, source: Instance) -> Iterator[bytes]:
    """The value of pixel data in an instance's transfer syntax, delimiter and padding included.

    Parameters
    ----------
    instance : Instance
        Gives header and transfer syntax.
    frames : Frames
        Stored values int32 [F, H, W].
    source : Instance
        What ``frames`` were read from: where it is in the same transfer syntax, its bits outside
        Bits Stored and what follows the last frame stay as they are.

    Raises
    ------
    ValueError
        Nothing installed encodes the transfer syntax.
    """
    syntax, layout = instance.transfer_syntax, instance.layout
    if syntax in NATIVE and syntax == source.transfer_syntax:
        if isinstance(source.frames, NativeFrames):
            yield from _native_parts(frames, source.frames, layout)
        else:
            yield _native_data(source, frames.whole())
    elif syntax in NATIVE:
        yield from _fresh_parts(frames, layout)
    elif syntax in _ENCODABLE and syntax == source.transfer_syntax:
        out = Dataset()
        with ScratchFile() as scratch:
            encoded = (frame for _, frame in _encode_frames(source, frames))
            _put_encapsulated(out, encoded, len(frames), scratch)
            yield out[PIXEL_DATA].value.read()
        yield _DELIMITER
    else:
        raise ValueError(f"nothing installed encodes {UID(syntax).name}")


def _fresh_parts(frames: Frames, layout: Layout) -> Iterator[bytes]:
    """Native pixel data made of values alone, padded to an even length."""
    dtype = word_type(layout)
    for plane in frames:
        yield words_of(plane, layout).astype(dtype, copy=False).tobytes()
    yield b"\0" * (layout.frames * layout.frame_bytes % 2)


def _native_data(instance: Instance, planes: NDArray[np.int32]) -> bytes:
    """The native pixel data with new values.

    Bits outside Bits Stored, and bytes after the last frame, stay as they were.
    """
    layout = instance.layout
    data = bytearray(instance.dataset.PixelData)
    dtype = word_type(layout)
    count = layout.rows * layout.cols
    if layout.swapped:
        pairs = np.frombuffer(data, dtype=np.uint8, count=len(data) // 2 * 2).reshape(-1, 2)
        flat = pairs[:, ::-1].reshape(-1)
        for number in range(layout.frames):
            frame = slice(number * count, (number + 1) * count)
            flat[frame] = words_of(planes[number].ravel(), layout, flat[frame])
        pairs[:] = flat.reshape(-1, 2)[:, ::-1]
    else:
        for number in range(layout.frames):
            view = np.frombuffer(data, dtype=dtype, count=count, offset=number * layout.frame_bytes)
            view[:] = words_of(planes[number].ravel(), layout, view)
    return bytes(data)


def _native_parts(frames: Frames, source: NativeFrames, layout: Layout) -> Iterator[bytes]:
    """As `_native_data`, in parts, for pixel data in their file."""
    dtype = word_type(layout)
    for start, window in frames.windows():
        before = source.words(start, start + len(window))
        for plane, old in zip(window, before, strict=True):
            yield words_of(plane, layout, old).astype(dtype, copy=False).tobytes()
    yield source.rest()


class _EncoderOptions(TypedDict):
    rows: int
    columns: int
    samples_per_pixel: int
    number_of_frames: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    pixel_representation: int


def _encode_frames(instance: Instance, frames: Frames) -> Iterator[tuple[NDArray[np.int32], bytes]]:
    """Encode each frame in the instance's own transfer syntax: the plane and its encoding."""
    layout, syntax = instance.layout, instance.transfer_syntax
    encoder = get_encoder(UID(syntax))
    rle = syntax == RLELossless
    options: _EncoderOptions = {
        "rows": layout.rows,
        "columns": layout.cols,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "photometric_interpretation": instance.photometric,
        "bits_allocated": layout.allocated,
        # RLE packs whole words, bits outside Bits Stored included; the others encode values.
        "bits_stored": layout.allocated if rle else layout.stored,
        "pixel_representation": 0 if rle else int(layout.signed),
    }
    before = _rle_words(instance) if rle else None
    for plane in frames:
        words = words_of(plane, layout, None if before is None else next(before))
        source = words if rle or not layout.signed else words.view(f"i{words.itemsize}")
        yield plane, bytes(encoder.encode(source, **options))


def _rle_words(instance: Instance) -> Iterator[Words]:
    """The words of each frame of the instance."""
    frames = instance.frames
    if isinstance(frames, EncapsulatedFrames):
        return (frames.rle_words(number) for number in range(len(frames)))
    return rle_words(instance.dataset, instance.layout)


def _checked(
    encoded: Iterator[tuple[NDArray[np.int32], bytes]], instance: Instance
) -> Iterator[bytes]:
    """Encoded frames, each yielded only after it was decoded again."""
    layout = replace(instance.layout, frames=1)
    header = pixel_header(instance.dataset, instance.transfer_syntax)
    for plane, frame in encoded:
        single = single_frame(header, encapsulate([frame]))
        decoded = next(iter_planes(single, layout, instance.transfer_syntax))
        if not np.array_equal(decoded, plane):
            raise DoesNotComeBackError("the encoder does not give a frame back")
        yield frame


def _item(length: int) -> bytes:
    """The tag and length of an item of encapsulated pixel data."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, length)


def _put_encapsulated(
    out: Dataset, encoded: Iterator[bytes], count: int, scratch: ScratchFile
) -> None:
    """Store encoded frames in ``scratch`` as encapsulated pixel data of ``out`` (PS3.5 A.4)."""
    offsets, lengths = [], []
    scratch.add(b"\0" * (8 + 4 * count))
    first = scratch.length
    for frame in encoded:
        data = frame + b"\0" * (len(frame) % 2)
        offsets.append(scratch.add(_item(len(data)) + data) - first)
        lengths.append(len(data))
    if "ExtendedOffsetTable" in out or scratch.length - first > _LARGEST_OFFSET_TABLE:
        out.ExtendedOffsetTable = struct.pack(f"<{count}Q", *offsets)
        out.ExtendedOffsetTableLengths = struct.pack(f"<{count}Q", *lengths)
        # The basic table is empty then, and the space reserved for it is skipped.
        start, table = first - 8, _item(0)
    else:
        start, table = 0, _item(4 * count) + struct.pack(f"<{count}I", *offsets)
    scratch.put(start, table)
    stream = PartStream(scratch.parts(start), scratch.length - start)
    element = DataElement(PIXEL_DATA, "OB", stream)
    element.is_undefined_length = True
    out[PIXEL_DATA] = element


def _put_explicit(instance: Instance, frames: Frames, out: Dataset) -> None:
    """Put native pixel data into ``out`` and make it explicit little endian."""
    layout = replace(instance.layout, big_endian=False, swapped=False)
    length = layout.frames * layout.frame_bytes
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in out:
            del out[keyword]
    stream = PartStream(lambda: _fresh_parts(frames, layout), length + length % 2)
    out[PIXEL_DATA] = DataElement(PIXEL_DATA, "OW", stream)
