"""An adaptive coder: symbols in, one integer out, and back.

Each symbol is predicted from those before it, and costs as many bits as it is surprising.

- Prediction blends contexts of growing length, each weighed against the next shorter one by how
  often it has occurred (after Witten and Bell 1991). All arithmetic is on integers, so that every
  machine gets the same result.
- Coding is an asymmetric numeral system with one integer of any size (Duda 2009): a symbol to which
  the prediction gives ``f`` of ``total`` parts, above ``below``, takes the state x to ``(x // f) *
  total + below + x % f``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_SYMBOLS = 1 << 14
"""Limit on the symbols of a record, so that crafted bytes do not decode for ever; far more than any
record that fits an image.
"""

_SCALE = 1 << 32
_FINER = 12
"""Extra bits of precision in prediction: the first symbol coded costs as much as a whole scale."""
_OWN_COUNT = 2
"""Count of a symbol of the record itself; one of the primer counts 1."""
_TRUST, _DOUBT = 2, 5
"""Weight of each symbol seen in a context, and of the shorter contexts for each distinct one; 1 and
1 is method C. Measured on headers like those of the tests: the records are short, so a long context
seen once deserves little weight."""
_FEW = 8
"""Number of distinct symbols from which a vector is faster than a loop."""


class CodingError(Exception):
    """The state does not decode to a record, or the record is too long to code."""


class ContextCounts:
    """How often each symbol occurred in a context; also as a vector once there are many symbols."""

    __slots__ = ("_vector", "counts", "total")

    def __init__(
        self, counts: dict[int, int], total: int, vector: NDArray[np.int64] | None = None
    ) -> None:
        self.counts = counts
        self.total = total
        self._vector = vector

    def copy(self) -> ContextCounts:
        """A copy to add to."""
        return ContextCounts(
            dict(self.counts), self.total, None if self._vector is None else self._vector.copy()
        )

    def add(self, symbol: int, times: int) -> None:
        """Count a symbol."""
        self.counts[symbol] = self.counts.get(symbol, 0) + times
        self.total += times
        if self._vector is not None:
            self._vector[symbol] += times

    def add_shares(self, share: int, parts: NDArray[np.int64]) -> None:
        """Add ``share`` to ``parts`` for each occurrence of a symbol."""
        if len(self.counts) < _FEW:
            for symbol, count in self.counts.items():
                parts[symbol] += count * share
            return
        if self._vector is None:
            # Filled before it is assigned: threads share the primer's counts.
            vector = np.zeros_like(parts)
            vector[list(self.counts)] = list(self.counts.values())
            self._vector = vector
        parts += self._vector * share


Counts = dict[Hashable, ContextCounts]
"""Symbol counts by context."""


class Coder:
    """Codes symbols or decodes them, so that one walk over a record serves both directions.

    Parameters
    ----------
    counts : dict
        The predictor's counts; not changed.
    state : int or None
        The integer to decode; None to encode.
    learn_only : bool
        Count symbols without coding them.
    most_symbols : int
        Limit on the symbols coded.
    """

    def __init__(
        self,
        counts: Counts,
        state: int | None = None,
        learn_only: bool = False,
        most_symbols: int = MOST_SYMBOLS,
    ) -> None:
        self.counts = dict(counts)
        self.most_symbols = most_symbols
        self._learn_only = learn_only
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
        if not self._learn_only:
            value = self.plain(self._predict(contexts, size), value)
        times = 1 if self._learn_only else _OWN_COUNT
        for context in contexts:
            seen = self.counts.get(context)
            if context not in self._own:
                seen = self.counts[context] = seen.copy() if seen else ContextCounts({}, 0)
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
            seen.add_shares(left * _TRUST // total, parts)
            left = left * escape // total
        parts += left // size
        return (parts >> _FINER) + 1

    def plain(self, parts: NDArray[np.int64], value: int = 0) -> int:
        """Code one symbol with given likelihoods."""
        self._symbols += 1
        ends = parts.cumsum()
        total = int(ends[-1])
        if self._symbols > self.most_symbols:
            raise CodingError
        if self._state is None:
            self._steps.append((int(parts[value]), int(ends[value] - parts[value]), total))
            return value
        if not self._state:
            # Only a record's last symbol, the end, leaves 0: it is never the first of its alphabet.
            raise CodingError
        self._state, place = divmod(self._state, total)
        value = int(np.searchsorted(ends, place, side="right"))
        self._state = self._state * int(parts[value]) + place - int(ends[value] - parts[value])
        return value

    def finish(self) -> int:
        """The state that holds all symbols so far; when decoding, 0 at the end of a record."""
        if self._state is not None:
            return self._state
        state = 0
        for part, below, total in reversed(self._steps):
            whole, rest = divmod(state, part)
            state = whole * total + below + rest
        return state
