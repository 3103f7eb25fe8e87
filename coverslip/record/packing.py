"""Records as few bytes as they can be: every byte of a record becomes modules in the image.

A record is a sequence of symbols: which attribute comes next, how its value is given, and the
value's bytes. Each symbol is predicted from those before it, and coded with as many bits as it is
surprising. What the predictor has seen before it starts is the primer: a few invented records
(`coverslip.record.primer`), so that tags, roots of UIDs and usual values cost little.

- Prediction blends contexts of growing length, each weighed against the next shorter one by how
  much it has seen (after Witten and Bell 1991). All arithmetic is on integers, so that it is the
  same everywhere.
- Coding is an asymmetric numeral system with one integer of any size (Duda 2009): a symbol that the
  prediction gives ``f`` of ``total`` parts, above ``below``, takes the state x to ``(x // f) *
  total + below + x % f``.
- A UID is given as what it shares with one before it, and digits, all equally likely, since they
  are.

An encoded record is one version byte and the state, most significant byte first. The primer and the
tables belong to the version.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import DamagedMessageError, RecordTooLargeError
from coverslip.record.model import Element, Inside, Level, Record
from coverslip.record.primer import ROOTS, SAMPLES, TAGS

VERSION = 1

_SCALE = 1 << 32
_FINER = 12
"""Bits that prediction keeps below those that coding sees: the first symbol coded costs as much as
a whole scale.
"""
_MOST_SYMBOLS = 1 << 14
"""So that bytes made to be decoded for ever are not; far more than any record that fits an
image.
"""
_FRESH = 2
"""How much more a symbol of the record itself counts than one of the primer."""
_TRUST, _DOUBT = 2, 5
"""A context's symbols count 2 each, and shorter contexts 5 for each kind of symbol seen; 1 and 1 is
method C. Measured on headers like those of the tests; the records are short, so that a long context
that was seen once deserves little."""
_FEW = 8
"""Kinds of symbols from which a vector is quicker than a loop."""
_MOST_DEPTH = 32
_LARGEST = 2800
"""Bytes of the largest record that the largest symbol holds, about."""
_END = 256
_VRS = (
    *(
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "FL",
        "IS",
        "LO",
        "LT",
        "OB",
        "OD",
        "OF",
        "OL",
        "OV",
        "OW",
        "PN",
        "SH",
    ),
    *("SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV"),
)
"""Value representations (PS3.5 section 6.2)."""
_INDEX = {pair: number for number, pair in enumerate(TAGS)}
_NO_MORE, _OTHER = len(TAGS), len(TAGS) + 1

_LITERAL, _UNPADDED, _ITEMS, _GONE, _INSIDE, _AS_UID = range(6)
_COPY = 6
_COPIES = 32
_PADS = {"UI": 0, **dict.fromkeys(("OB", "UN", "OW", "OD", "OF", "OL", "OV"), -1)}
_UID_LETTERS = b"0123456789."
_UID_WEIGHTS = np.array([4] * 10 + [1, 1], dtype=np.int64)
"""Eleven letters and the end: in a UID of 60 letters about 50 are digits."""
_UID_ROOT_FIRST = 16


class _Seen:
    """How often each symbol was seen in a context; as a vector too, once there are many kinds."""

    __slots__ = ("_vector", "counts", "total")

    def __init__(
        self, counts: dict[int, int], total: int, vector: NDArray[np.int64] | None = None
    ) -> None:
        self.counts = counts
        self.total = total
        self._vector = vector

    def copy(self) -> _Seen:
        """One that can learn more."""
        return _Seen(
            dict(self.counts), self.total, None if self._vector is None else self._vector.copy()
        )

    def add(self, symbol: int, times: int) -> None:
        """Learn."""
        self.counts[symbol] = self.counts.get(symbol, 0) + times
        self.total += times
        if self._vector is not None:
            self._vector[symbol] += times

    def spread(self, share: int, parts: NDArray[np.int64]) -> None:
        """Give each symbol its count of shares."""
        if len(self.counts) < _FEW:
            for symbol, count in self.counts.items():
                parts[symbol] += count * share
            return
        if self._vector is None:
            # Filled before it is seen: the primer's are shared by threads.
            vector = np.zeros_like(parts)
            vector[list(self.counts)] = list(self.counts.values())
            self._vector = vector
        parts += self._vector * share


_Counts = dict[Hashable, _Seen]


class _DamagedError(Exception):
    """The state does not decode to a record, or the record is too long to."""


class _Coder:
    """Codes symbols or decodes them: one walk over the record serves both directions.

    Parameters
    ----------
    counts : dict
        What the predictor has seen: symbols by context. Not changed.
    state : int or None
        What to decode; None to encode.
    watch : bool
        Only learn.
    """

    def __init__(self, counts: _Counts, state: int | None = None, watch: bool = False) -> None:
        self.counts = dict(counts)
        self._watch = watch
        self._own: set[Hashable] = set()
        self._state = state
        self._steps: list[tuple[int, int, int]] = []
        self._symbols = 0

    @property
    def decoding(self) -> bool:
        """Whether symbols come out instead of going in."""
        return self._state is not None

    def symbol(self, contexts: Sequence[Hashable], size: int, value: int = 0) -> int:
        """Code one symbol of an alphabet of ``size``, predicted from contexts, shortest first.

        Returns
        -------
        int
            The symbol; when decoding, ``value`` is ignored.
        """
        if not self._watch:
            value = self.plain(self._predict(contexts, size), value)
        times = 1 if self._watch else _FRESH
        for context in contexts:
            seen = self.counts.get(context)
            if context not in self._own:
                seen = self.counts[context] = seen.copy() if seen else _Seen({}, 0)
                self._own.add(context)
            assert seen is not None
            seen.add(value, times)
        return value

    def _predict(self, contexts: Sequence[Hashable], size: int) -> NDArray[np.int64]:
        parts = np.zeros(size, dtype=np.int64)
        left = _SCALE
        for context in reversed(contexts):
            seen = self.counts.get(context)
            if seen is None:
                continue
            escape = _DOUBT * len(seen.counts)
            total = _TRUST * seen.total + escape
            seen.spread(left * _TRUST // total, parts)
            left = left * escape // total
        parts += left // size
        return (parts >> _FINER) + 1

    def plain(self, parts: NDArray[np.int64], value: int = 0) -> int:
        """Code one symbol whose likelihoods are given."""
        self._symbols += 1
        ends = parts.cumsum()
        total = int(ends[-1])
        if self._symbols > _MOST_SYMBOLS:
            raise _DamagedError
        if self._state is None:
            self._steps.append((int(parts[value]), int(ends[value] - parts[value]), total))
            return value
        if not self._state:
            # A record's last symbol, the end, leaves 0, and no symbol before it does: it is never
            # the alphabet's first.
            raise _DamagedError
        self._state, place = divmod(self._state, total)
        value = int(np.searchsorted(ends, place, side="right"))
        self._state = self._state * int(parts[value]) + place - int(ends[value] - parts[value])
        return value

    def finish(self) -> int:
        """The state that holds all symbols so far; when decoding, what is left: 0 at the end of a
        record.
        """
        if self._state is not None:
            return self._state
        state = 0
        for part, below, total in reversed(self._steps):
            turns, rest = divmod(state, part)
            state = turns * total + below + rest
        return state


class _Walk:
    """Takes a record through a coder; when decoding, every argument to be coded is ignored."""

    def __init__(self, coder: _Coder) -> None:
        self._coder = coder
        self._recent: dict[str, list[bytes]] = {}
        self._depth = 0
        self._how = 0

    def record(self, record: Record = Record(Level())) -> Record:  # noqa: B008 - immutable
        level = self._level(0, record.level)
        meta = self._level(2, record.meta)
        return Record(level, meta)

    def _level(self, parent: int, level: Level = Level()) -> Level:  # noqa: B008 - immutable
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _DamagedError
        todo = _entries(level)
        elements: list[Element] = []
        gone: list[int] = []
        inside: list[Inside] = []
        before = (_NO_MORE, _NO_MORE)
        for number in range(_MOST_SYMBOLS):
            entry = todo[number] if number < len(todo) else None
            if not self._coder.decoding and entry is None:
                self._tag(parent, before, None)
                break
            found = self._tag(parent, before, None if entry is None else (entry[0], entry[1]))
            if found is None:
                break
            tag, vr, symbol = found
            before = (symbol, before[0])
            self._value(tag, vr, None if entry is None else entry[2], elements, gone, inside)
        self._depth -= 1
        return Level(tuple(elements), tuple(gone), tuple(inside))

    def _tag(
        self, parent: int, before: tuple[int, int], pair: tuple[int, str] | None
    ) -> tuple[int, str, int] | None:
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

    def _value(
        self,
        tag: int,
        vr: str,
        value: bytes | tuple[Level, ...] | list[Inside] | None,
        elements: list[Element],
        gone: list[int],
        inside: list[Inside],
    ) -> None:
        recent = self._recent.setdefault(vr, [])
        how = _how(value, vr, recent)
        how = self._coder.symbol(
            [("h",), ("h", vr), ("h", tag), ("h", tag, self._how)], _COPY + _COPIES, how
        )
        self._how = how
        if how == _GONE:
            gone.append(tag)
        elif how == _INSIDE:
            inside.extend(self._insides(tag, value if isinstance(value, list) else []))
        elif how == _ITEMS:
            levels = value if isinstance(value, tuple) else ()
            count = self._number("items", len(levels))
            items = tuple(
                self._level(tag, levels[i] if i < len(levels) else Level()) for i in range(count)
            )
            elements.append(Element(tag, vr, items))
        else:
            elements.append(
                Element(
                    tag,
                    vr,
                    self._octets(tag, vr, how, value if isinstance(value, bytes) else b"", recent),
                )
            )

    def _insides(self, tag: int, todo: list[Inside]) -> list[Inside]:
        count = self._number("insides", len(todo))
        found: list[Inside] = []
        last = -1
        for number in range(count):
            each = todo[number] if number < len(todo) else Inside(tag, last + 1, Level())
            last += 1 + self._number("item", each.item - last - 1)
            found.append(Inside(tag, last, self._level(tag, each.level)))
        return found

    def _number(self, name: str, value: int) -> int:
        """A number of any size, 7 bits at a time, lowest first."""
        found = shift = 0
        while True:
            more = 128 if value >> 7 else 0
            symbol = self._coder.symbol([("n", name, shift)], 256, value & 127 | more)
            found |= (symbol & 127) << shift
            if symbol < 128:
                return found
            if found > _MOST_SYMBOLS:
                raise _DamagedError
            value >>= 7
            shift += 7

    def _octets(self, tag: int, vr: str, how: int, value: bytes, recent: list[bytes]) -> bytes:
        if how >= _COPY:
            if how - _COPY >= len(recent):
                raise _DamagedError
            found = recent.pop(how - _COPY)
        elif how == _AS_UID and vr != "UI":
            raise _DamagedError
        elif how == _AS_UID:
            found = _padded(self._uid(_unpadded(value, vr)), vr)
        elif how == _UNPADDED:
            found = self._text(tag, vr, value)
        else:
            found = _padded(self._text(tag, vr, _unpadded(value, vr)), vr)
        if found:
            if found in recent:
                recent.remove(found)
            recent.insert(0, found)
        return found

    def _text(self, tag: int, vr: str, value: bytes) -> bytes:
        found = bytearray()
        while len(found) < _MOST_SYMBOLS:
            octet = value[len(found)] if len(found) < len(value) else _END
            octet = self._coder.symbol(_text_contexts(tag, vr, found), 257, octet)
            if octet == _END:
                return bytes(found)
            found.append(octet)
        raise _DamagedError

    def _uid(self, value: bytes) -> bytes:
        known = [_unpadded(uid, "UI") for uid in self._recent["UI"][:_UID_ROOT_FIRST]]
        known += [b""] * (_UID_ROOT_FIRST - len(known))
        known += ROOTS
        shared = [_shared(value, uid) for uid in known]
        best = max(range(len(known)), key=lambda each: shared[each])
        which = self._coder.symbol([("u",)], len(known), best)
        length = self._coder.symbol(
            [("s",), ("s", which if which >= _UID_ROOT_FIRST else -1)], 129, min(shared[which], 128)
        )
        if length > len(known[which]):
            raise _DamagedError
        found = bytearray(known[which][:length])
        while True:
            letter = _UID_LETTERS.index(value[len(found)]) if len(found) < len(value) else 11
            letter = self._coder.plain(_UID_WEIGHTS, letter)
            if letter == 11:
                return bytes(found)
            found.append(_UID_LETTERS[letter])


def _entries(
    level: Level,
) -> list[tuple[int, str, bytes | tuple[Level, ...] | list[Inside] | None]]:
    """Everything in a level by ascending tag: tag, VR, and its value, None for what is to go."""
    insides: dict[int, list[Inside]] = {}
    for inside in sorted(level.inside, key=lambda each: each.item):
        insides.setdefault(inside.tag, []).append(inside)
    vrs = dict(TAGS)
    entries: list[tuple[int, str, bytes | tuple[Level, ...] | list[Inside] | None]] = []
    entries += [(element.tag, element.vr, element.value) for element in level.elements]
    entries += [(tag, vrs.get(tag, "UN"), None) for tag in level.gone]
    entries += [(tag, "SQ", found) for tag, found in insides.items()]
    return sorted(entries, key=lambda entry: entry[0])


def _how(
    value: bytes | tuple[Level, ...] | list[Inside] | None, vr: str, recent: list[bytes]
) -> int:
    if not isinstance(value, bytes):
        return _GONE if value is None else _INSIDE if isinstance(value, list) else _ITEMS
    if value in recent[:_COPIES]:
        return _COPY + recent.index(value)
    if len(value) % 2:
        return _UNPADDED
    core = _unpadded(value, vr)
    # Even with the padding taken off, so that it comes back; else the letters would be ambiguous.
    if vr == "UI" and core and len(core) <= 128 and not core.strip(_UID_LETTERS):
        return _AS_UID
    return _LITERAL


def _pad(vr: str) -> int:
    return _PADS.get(vr, 32)


def _unpadded(value: bytes, vr: str) -> bytes:
    """A value of even length without its padding, if it has any; exactly one byte goes, so that
    parity tells.
    """
    return value[:-1] if value and len(value) % 2 == 0 and value[-1] == _pad(vr) else value


def _padded(value: bytes, vr: str) -> bytes:
    if len(value) % 2 == 0:
        return value
    if _pad(vr) < 0:
        raise _DamagedError
    return value + bytes([_pad(vr)])


def _shared(a: bytes, b: bytes) -> int:
    """Length of what two values begin with in common."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


_KINDS = {vr: vr for vr in ("PN", "DA", "TM", "DT", "UI", "AS", "DS", "IS")} | dict.fromkeys(
    (
        "OB",
        "OW",
        "OD",
        "OF",
        "OL",
        "OV",
        "UN",
        "US",
        "SS",
        "UL",
        "SL",
        "FL",
        "FD",
        "AT",
        "SV",
        "UV",
    ),
    "B",
)


_NO_DIGITS = bytes.maketrans(b"0123456789", b"0" * 10)
_CLASSES = bytes(
    48
    if 48 <= x <= 57
    else 65
    if 65 <= x <= 90
    else 97
    if 97 <= x <= 122
    else 32
    if x == 32
    else 46
    if x < 128
    else 200
    for x in range(256)
)
"""Digits, capitals, small letters, the space, other signs, and what is not ASCII."""


def _text_contexts(tag: int, vr: str, found: bytearray) -> list[Hashable]:
    """What the next byte of a value is predicted from, shortest first.

    Which digit it was seldom says which comes next, so that most contexts know only that it was
    one.
    """
    kind = _KINDS.get(vr, "T")
    tail = bytes(found[-6:]).translate(_NO_DIGITS)
    orders: list[Hashable] = [("v",), ("v", kind)]
    if kind in ("DA", "TM", "DT"):
        orders.append(("v", kind, len(found)))
    orders.append(("c", kind, bytes(found[-3:]).translate(_CLASSES)))
    orders += [
        ("1", kind, tail[-1:]),
        ("2", tail[-2:]),
        ("4", tail[-4:]),
        ("6", tail),
        ("v", tag, bytes(found)),
    ]
    return orders


@lru_cache(maxsize=1)
def _primed() -> _Counts:
    """What the predictor has seen once it has coded the primer."""
    coder = _Coder({}, watch=True)
    for sample in SAMPLES:
        _Walk(coder).record(sample)
    return coder.counts


def encode(record: Record) -> bytes:
    """Encode a record.

    Parameters
    ----------
    record : Record
        Levels with ascending tags, each tag once.

    Returns
    -------
    bytes
        The same for the same record, on every machine and in every release that writes this
        version.
    """
    coder = _Coder(_primed())
    try:
        _Walk(coder).record(record)
    except _DamagedError:
        raise RecordTooLargeError(needed=_MOST_SYMBOLS, available=_LARGEST) from None
    state = coder.finish()
    return bytes([VERSION]) + state.to_bytes((state.bit_length() + 7) // 8, "big")


def decode(encoded: bytes) -> Record:
    """Decode what `encode` gave.

    Raises
    ------
    DamagedMessageError
        Not an encoded record, or of a version that this release does not know.
    """
    if not encoded or encoded[0] != VERSION:
        found = f"version {encoded[0]}" if encoded else "nothing"
        raise DamagedMessageError(
            f"the record says {found}; version {VERSION} was expected: use a newer release"
        )
    coder = _Coder(_primed(), int.from_bytes(encoded[1:], "big"))
    try:
        record = _Walk(coder).record()
    except _DamagedError:
        raise _damaged() from None
    if coder.finish():
        raise _damaged()
    return record


def _damaged() -> DamagedMessageError:
    return DamagedMessageError(
        "the record does not decode; one that Coverslip encoded was expected: read it from an "
        "undamaged copy"
    )
