"""A record as a sequence of symbols: the next attribute, the form of its value, the value's bytes.

A UID is coded as the prefix that it shares with an earlier one, and its other digits, all of them
equally likely.
"""

from __future__ import annotations

import numpy as np

from coverslip.record.coder import Coder, CodingError
from coverslip.record.model import Element, Inside, Level, Record
from coverslip.record.primer import ROOTS, TAGS
from coverslip.record.values import (
    FORMS,
    UID_LETTERS,
    EntryValue,
    Form,
    form_of,
    padded,
    shared_prefix,
    text_contexts,
    unpadded,
)

_VR_TABLE = """
AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH
SL SQ SS ST SV TM UC UI UL UN UR US UT UV
"""
_VRS = tuple(_VR_TABLE.split())
"""Value representations (PS3.5 section 6.2)."""
_INDEX = {pair: number for number, pair in enumerate(TAGS)}
_NO_MORE, _OTHER = len(TAGS), len(TAGS) + 1

_MOST_DEPTH = 32
_END = 256
_UID_END = len(UID_LETTERS)
_UID_WEIGHTS = np.array([4] * 10 + [1, 1], dtype=np.int64)
"""Eleven letters and the end: in a UID of 60 letters about 50 are digits."""
_RECENT_UIDS = 16
"""Earlier UIDs whose prefix a UID can share; `ROOTS` follow them."""
_LONGEST_PREFIX = 128


class RecordWalk:
    """Takes a record through a coder; when decoding, every argument to be coded is ignored."""

    def __init__(self, coder: Coder) -> None:
        self._coder = coder
        self._recent: dict[str, list[bytes]] = {}
        self._depth = 0
        self._form = 0

    def record(self, record: Record = Record(Level())) -> Record:  # noqa: B008 - immutable
        """Code a record.

        Raises
        ------
        CodingError
        """
        level = self._level(0, record.level)
        meta = self._level(2, record.meta)
        return Record(level, meta)

    def _level(self, parent: int, level: Level = Level()) -> Level:  # noqa: B008 - immutable
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise CodingError
        entries = _entries(level)
        elements: list[Element] = []
        gone: list[int] = []
        insides: list[Inside] = []
        before = (_NO_MORE, _NO_MORE)
        for number in range(self._coder.most_symbols):
            entry = entries[number] if number < len(entries) else None
            attribute = self._attribute(parent, before, entry and (entry[0], entry[1]))
            if attribute is None:
                break
            tag, vr, symbol = attribute
            before = (symbol, before[0])
            value = self._value(tag, vr, None if entry is None else entry[2])
            if value is None:
                gone.append(tag)
            elif isinstance(value, list):
                insides.extend(value)
            else:
                elements.append(Element(tag, vr, value))
        self._depth -= 1
        return Level(tuple(elements), tuple(gone), tuple(insides))

    def _attribute(
        self, parent: int, before: tuple[int, int], pair: tuple[int, str] | None
    ) -> tuple[int, str, int] | None:
        """Code tag and VR, or None for the end of a level; with the symbol that stands for them."""
        symbol = _NO_MORE if pair is None else _INDEX.get(pair, _OTHER)
        contexts = [("t",), ("t", parent), ("t", parent, before[0]), ("t", parent, *before)]
        symbol = self._coder.symbol(contexts, len(TAGS) + 2, symbol)
        if symbol == _NO_MORE:
            return None
        if symbol != _OTHER:
            return (*TAGS[symbol], symbol)
        tag, vr = pair or (0, "UN")
        octets = [
            self._coder.symbol([("o", place)], 256, octet)
            for place, octet in enumerate(tag.to_bytes(4, "big"))
        ]
        vr = _VRS[self._coder.symbol([("vr",)], len(_VRS), _VRS.index(vr))]
        return int.from_bytes(bytes(octets), "big"), vr, _OTHER

    def _value(self, tag: int, vr: str, value: EntryValue) -> EntryValue:
        recent = self._recent.setdefault(vr, [])
        contexts = [("h",), ("h", vr), ("h", tag), ("h", tag, self._form)]
        form = self._coder.symbol(contexts, FORMS, form_of(value, vr, recent))
        self._form = form
        if form == Form.GONE:
            return None
        if form == Form.INSIDE:
            return self._insides(tag, value if isinstance(value, list) else [])
        if form == Form.ITEMS:
            levels = value if isinstance(value, tuple) else ()
            count = self._number("items", len(levels))
            return tuple(
                self._level(tag, levels[i] if i < len(levels) else Level()) for i in range(count)
            )
        return self._octets(tag, vr, form, value if isinstance(value, bytes) else b"", recent)

    def _insides(self, tag: int, insides: list[Inside]) -> list[Inside]:
        count = self._number("insides", len(insides))
        coded: list[Inside] = []
        last = -1
        for number in range(count):
            inside = insides[number] if number < len(insides) else Inside(tag, last + 1, Level())
            last += 1 + self._number("item", inside.item - last - 1)
            coded.append(Inside(tag, last, self._level(tag, inside.level)))
        return coded

    def _number(self, name: str, value: int) -> int:
        """A number of any size, 7 bits at a time, lowest first."""
        number = shift = 0
        while True:
            more = 128 if value >> 7 else 0
            symbol = self._coder.symbol([("n", name, shift)], 256, value & 127 | more)
            number |= (symbol & 127) << shift
            if symbol < 128:
                return number
            if number > self._coder.most_symbols:
                raise CodingError
            value >>= 7
            shift += 7

    def _octets(self, tag: int, vr: str, form: int, value: bytes, recent: list[bytes]) -> bytes:
        if form >= Form.COPY:
            if form - Form.COPY >= len(recent):
                raise CodingError
            octets = recent.pop(form - Form.COPY)
        elif form == Form.AS_UID:
            if vr != "UI":
                raise CodingError
            octets = padded(self._uid(unpadded(value, vr)), vr)
        elif form == Form.UNPADDED:
            octets = self._text(tag, vr, value)
        else:
            octets = padded(self._text(tag, vr, unpadded(value, vr)), vr)
        if octets:
            if octets in recent:
                recent.remove(octets)
            recent.insert(0, octets)
        return octets

    def _text(self, tag: int, vr: str, value: bytes) -> bytes:
        coded = bytearray()
        while len(coded) < self._coder.most_symbols:
            octet = value[len(coded)] if len(coded) < len(value) else _END
            octet = self._coder.symbol(text_contexts(tag, vr, coded), 257, octet)
            if octet == _END:
                return bytes(coded)
            coded.append(octet)
        raise CodingError

    def _uid(self, value: bytes) -> bytes:
        known = [unpadded(uid, "UI") for uid in self._recent["UI"][:_RECENT_UIDS]]
        known += [b""] * (_RECENT_UIDS - len(known))
        known += ROOTS
        shared = [shared_prefix(value, uid) for uid in known]
        best = max(range(len(known)), key=lambda index: shared[index])
        which = self._coder.symbol([("u",)], len(known), best)
        contexts = [("s",), ("s", which if which >= _RECENT_UIDS else -1)]
        length = self._coder.symbol(
            contexts, _LONGEST_PREFIX + 1, min(shared[which], _LONGEST_PREFIX)
        )
        if length > len(known[which]):
            raise CodingError
        coded = bytearray(known[which][:length])
        while True:
            rest = value[len(coded) : len(coded) + 1]
            letter = UID_LETTERS.index(rest) if rest else _UID_END
            letter = self._coder.plain(_UID_WEIGHTS, letter)
            if letter == _UID_END:
                return bytes(coded)
            coded.append(UID_LETTERS[letter])


def _entries(level: Level) -> list[tuple[int, str, EntryValue]]:
    """Everything in a level by ascending tag: tag, VR, value."""
    insides: dict[int, list[Inside]] = {}
    for inside in sorted(level.inside, key=lambda each: each.item):
        insides.setdefault(inside.tag, []).append(inside)
    vrs = dict(TAGS)
    entries: list[tuple[int, str, EntryValue]] = []
    entries += [(element.tag, element.vr, element.value) for element in level.elements]
    entries += [(tag, vrs.get(tag, "UN"), None) for tag in level.gone]
    entries += [(tag, "SQ", changed) for tag, changed in insides.items()]
    return sorted(entries, key=lambda entry: entry[0])
