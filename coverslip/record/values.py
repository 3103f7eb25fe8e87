"""Values of attributes as the coder treats them: their form, their padding, their contexts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import IntEnum

from coverslip.record.coder import CodingError
from coverslip.record.model import Inside, Level

COPIES = 32
"""Earlier values of the same VR that a value can repeat."""

UID_LETTERS = b"0123456789."

_PADS = {"UI": 0, **dict.fromkeys(("OB", "UN", "OW", "OD", "OF", "OL", "OV"), -1)}
"""Padding byte of a VR; a space for others, -1 for none."""

EntryValue = bytes | tuple[Level, ...] | list[Inside] | None
"""A value, a sequence's items, changes inside its items, or None for an attribute to remove."""


class Form(IntEnum):
    """How a value is coded; belongs to version 1. ``COPY + n`` repeats the nth latest value."""

    LITERAL = 0
    UNPADDED = 1
    ITEMS = 2
    GONE = 3
    INSIDE = 4
    AS_UID = 5
    COPY = 6


FORMS = Form.COPY + COPIES
"""Number of forms, copies included."""


def form_of(value: EntryValue, vr: str, recent: Sequence[bytes]) -> int:
    """The form to code a value in, given the recent values of its VR, latest first."""
    if not isinstance(value, bytes):
        if value is None:
            return Form.GONE
        return Form.INSIDE if isinstance(value, list) else Form.ITEMS
    if value in recent[:COPIES]:
        return Form.COPY + recent.index(value)
    if len(value) % 2:
        return Form.UNPADDED
    core = unpadded(value, vr)
    # Restored by padding to an even length: other values would be ambiguous.
    if vr == "UI" and core and len(core) <= 128 and not core.strip(UID_LETTERS):
        return Form.AS_UID
    return Form.LITERAL


def _pad(vr: str) -> int:
    return _PADS.get(vr, 32)


def unpadded(value: bytes, vr: str) -> bytes:
    """A value of even length without its padding byte, if it has one: odd length says so."""
    return value[:-1] if value and len(value) % 2 == 0 and value[-1] == _pad(vr) else value


def padded(value: bytes, vr: str) -> bytes:
    """The inverse of `unpadded`.

    Raises
    ------
    CodingError
        The value is of odd length and its VR is not padded.
    """
    if len(value) % 2 == 0:
        return value
    if _pad(vr) < 0:
        raise CodingError
    return value + bytes([_pad(vr)])


def shared_prefix(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two values."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


_OWN_KIND = ("PN", "DA", "TM", "DT", "UI", "AS", "DS", "IS")
_BINARY = "OB OW OD OF OL OV UN US SS UL SL FL FD AT SV UV"
_KINDS = {vr: vr for vr in _OWN_KIND} | dict.fromkeys(_BINARY.split(), "B")
"""Kind of text of a VR; "T" for others."""
_NO_DIGITS = bytes.maketrans(b"0123456789", b"0" * 10)


def _letter_class(octet: int) -> int:
    """The class of a byte: digit, capital, small letter, space, other ASCII or the rest."""
    for first, last in (b"09", b"AZ", b"az", b"  "):
        if first <= octet <= last:
            return first
    return ord(".") if octet < 128 else 200


_CLASSES = bytes(_letter_class(octet) for octet in range(256))


def text_contexts(tag: int, vr: str, coded: bytearray) -> list[Hashable]:
    """The contexts of the next byte of a value, shortest first.

    The value of a digit seldom predicts the next byte, so most contexts only know that there was
    one.
    """
    kind = _KINDS.get(vr, "T")
    tail = bytes(coded[-6:]).translate(_NO_DIGITS)
    orders: list[Hashable] = [("v",), ("v", kind)]
    if kind in ("DA", "TM", "DT"):
        orders.append(("v", kind, len(coded)))
    orders.append(("c", kind, bytes(coded[-3:]).translate(_CLASSES)))
    orders += [
        ("1", kind, tail[-1:]),
        ("2", tail[-2:]),
        ("4", tail[-4:]),
        ("6", tail),
        ("v", tag, bytes(coded)),
    ]
    return orders
