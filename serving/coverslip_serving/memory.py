"""The memory that work on an instance needs, estimated from its header alone."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from coverslip.parallel import CONCURRENT_IMAGES
from coverslip.pixels.frames import WINDOW
from coverslip.pixels.scratch import HELD_BYTES

_BYTES_PER_PIXEL_AT_WORK = 120
"""For each pixel of frames that are embedded or read back at the same time. Measured for a single
frame: 128 and 118 in LiteRT, 2048 x 2048 and 4096 x 4096; 89 in TensorFlow, 4096 x 4096."""
_BYTES_PER_PIXEL = 16
"""Planes, stego planes, masks and phases of all frames of a window, for each pixel."""
_BYTES_PER_HELD_PIXEL = 4
"""Planes of all frames, if a file does not give its frames one by one."""
_COPIES = 4
"""Copies of the file's own bytes: as read, as parsed, as written, as sent."""
_COPIES_WITHOUT_PIXELS = 11
"""The same for an object without pixel data, all of which goes into the sealed header part and out
of it again. Measured on an encapsulated document of 64 MiB that does not compress: 5.1 to embed,
10.3 to open and restore."""
_HEADER_TAGS = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")


def estimate_memory(path: Path) -> int:
    """Bytes that work on an instance needs.

    A file of a few bytes may claim a thousand frames, so the header counts and not the size.
    Frames are worked on `WINDOW` at a time, and long native pixel data stay in their file. What is
    in colour is carried in the header, and its pixels are never decoded; inflating a deflated data
    set does take the room.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            header = dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(_HEADER_TAGS)
            )
            element = file.read(12)
        rows, columns, frames, samples = (max(int(header.get(tag) or 1), 1) for tag in _HEADER_TAGS)
        has_pixels = "Rows" in header
        syntax = header.file_meta.TransferSyntaxUID
        deflated = syntax == DeflatedExplicitVRLittleEndian
        in_file = _native_bytes(syntax, element)
    except Exception:
        # Not a readable image: the reader refuses it later with the proper error.
        rows = columns = frames = samples = 1
        has_pixels, deflated, in_file = True, False, 0
    if not has_pixels:
        return _COPIES_WITHOUT_PIXELS * size
    if samples > 1 and not deflated:
        return _COPIES * size
    plane = rows * columns
    at_work, window = min(frames, CONCURRENT_IMAGES), min(frames, WINDOW)
    frame_bytes = plane * (_BYTES_PER_PIXEL_AT_WORK * at_work + _BYTES_PER_PIXEL * window)
    if in_file:
        # Everything else in the file is read into memory, however long it is.
        return _COPIES * min(size, max(size - in_file, 0) + HELD_BYTES) + frame_bytes
    # Compressed files do not always say where their frames begin; those are decoded all at once.
    return _COPIES * size + frame_bytes + _BYTES_PER_HELD_PIXEL * plane * frames


def _native_bytes(transfer_syntax: str, element: bytes) -> int:
    """Bytes of native pixel data that stay in their file; 0 for pixel data that do not.

    Parameters
    ----------
    transfer_syntax : str
    element : bytes
        The first 12 bytes of the pixel data's element.
    """
    place = {ExplicitVRLittleEndian: 8, ImplicitVRLittleEndian: 4}.get(UID(transfer_syntax))
    if place is None or len(element) < 12 or element[:4] != b"\xe0\x7f\x10\x00":
        return 0
    return int.from_bytes(element[place : place + 4], "little")
