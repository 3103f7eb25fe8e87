"""What is sealed into the header: the original header, the undo list, and what to check them by.

The part that pixels have no room for. Losing it costs what it holds and nothing else; the record in
the pixels still opens. Its content is a row of fields, each a byte that names it, its length as
four bytes, and its value.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, fields

from coverslip.errors import DamagedMessageError
from coverslip.pixels.frames import Frames

_FIELD = struct.Struct("<BI")
_LARGEST_HEADER = 256 << 20
"""Bytes to which a header may inflate; real headers of enhanced multi-frame images reach tens of
megabytes."""
_COMPRESSED = ("head", "tail")


@dataclass(frozen=True, repr=False)
class HeaderPart:
    """The content of a sealed header part; every field may be empty.

    Attributes
    ----------
    record : bytes
        The encoded record, where the header alone carries it.
    head : bytes
        The original file up to the value of its pixel data; the whole file where it has none.
    tail : bytes
        The original file after its pixel data.
    undo : bytes
        Undo lists of all frames (`coverslip.pipeline.undo`); empty where no pixel was changed.
    original_pixels, stego_pixels : bytes
        Digests of stored values (`digest_of`), or of the encoded pixel data where they cannot be
        read; empty where there are none.
    original_file : bytes
        SHA-256 of the original file.
    content : bytes
        Digest of what stays of the data set (`coverslip.pipeline.sealed_header.content_digest`).
    """

    record: bytes = b""
    head: bytes = b""
    tail: bytes = b""
    undo: bytes = b""
    original_pixels: bytes = b""
    stego_pixels: bytes = b""
    original_file: bytes = b""
    content: bytes = b""


_NAMES = tuple(field.name for field in fields(HeaderPart))
"""A field's number is its place here, from 1; new ones go last."""


def encode_header_part(part: HeaderPart) -> bytes:
    """Encode a header part for `coverslip.crypto.seal.seal`."""
    pieces = []
    for number, name in enumerate(_NAMES, 1):
        value = getattr(part, name)
        if value:
            value = zlib.compress(value, 6) if name in _COMPRESSED else value
            pieces.append(_FIELD.pack(number, len(value)) + value)
    return b"".join(pieces)


def decode_header_part(content: bytes) -> HeaderPart:
    """The inverse of `encode_header_part`; fields of later releases are left out.

    Raises
    ------
    DamagedMessageError
        It is not of that form, or would inflate without end.
    """
    values: dict[str, bytes] = {}
    at = 0
    while at < len(content):
        if at + _FIELD.size > len(content):
            raise _no_header_part()
        number, length = _FIELD.unpack_from(content, at)
        at += _FIELD.size
        if at + length > len(content):
            raise _no_header_part()
        if 1 <= number <= len(_NAMES):
            name = _NAMES[number - 1]
            if name in values:
                raise _no_header_part()
            value = content[at : at + length]
            values[name] = _inflated(value) if name in _COMPRESSED else value
        at += length
    return HeaderPart(**values)


def _inflated(value: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(value, _LARGEST_HEADER)
    except zlib.error:
        raise _no_header_part() from None
    if not inflater.eof:
        raise _no_header_part()
    return plain


def _no_header_part() -> DamagedMessageError:
    return DamagedMessageError(
        "the sealed header part is not of the form that this release knows: use a newer release, "
        "or an undamaged copy of the file; the identity in the pixels can be read without it"
    )


def digest_of(frames: Frames) -> bytes:
    """SHA-256 over the shape and the stored values of all frames, int32 [F, H, W]."""
    hashed = hashlib.sha256(b"coverslip pixels v1" + struct.pack("<3i", *frames.shape))
    for _, window in frames.windows():
        hashed.update(window.astype("<i4").tobytes())
    return hashed.digest()
