"""Records in as few bytes as possible: every byte of a record becomes modules in the image.

A record is coded as symbols (`coverslip.record.walk`), each predicted from those before it
(`coverslip.record.coder`). The predictor starts with the primer, a few invented records
(`coverslip.record.primer`), so that tags, roots of UIDs and usual values cost little.

An encoded record is one version byte and the coder's state, most significant byte first. The primer
and the tables belong to the version.
"""

from __future__ import annotations

from functools import lru_cache

from coverslip.errors import DamagedMessageError, RecordTooLargeError
from coverslip.record.coder import MOST_SYMBOLS, Coder, CodingError, Counts
from coverslip.record.model import Record
from coverslip.record.primer import SAMPLES
from coverslip.record.walk import RecordWalk

VERSION = 1

_LARGEST = 2800
"""Approximate bytes of the largest record that the largest symbol holds."""


@lru_cache(maxsize=1)
def _primed() -> Counts:
    """The predictor's counts after it has learnt the primer."""
    coder = Coder({}, learn_only=True)
    for sample in SAMPLES:
        RecordWalk(coder).record(sample)
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
        Equal for equal records, on every machine and in every release that writes this version.

    Raises
    ------
    RecordTooLargeError
        The record has more symbols, or deeper sequences, than can be coded.
    """
    coder = Coder(_primed())
    try:
        RecordWalk(coder).record(record)
    except CodingError:
        raise RecordTooLargeError(needed=MOST_SYMBOLS, available=_LARGEST) from None
    state = coder.finish()
    return bytes([VERSION]) + state.to_bytes((state.bit_length() + 7) // 8, "big")


def decode(encoded: bytes, most_symbols: int = MOST_SYMBOLS) -> Record:
    """Decode a record that `encode` encoded.

    Parameters
    ----------
    encoded : bytes
    most_symbols : int
        Limit on the symbols decoded.

    Raises
    ------
    DamagedMessageError
        The bytes are not an encoded record, or of a version unknown to this release.
    """
    if not encoded or encoded[0] != VERSION:
        version = f"version {encoded[0]}" if encoded else "nothing"
        raise DamagedMessageError(
            f"the record says {version}; version {VERSION} was expected: use a newer release"
        )
    state = int.from_bytes(encoded[1:], "big")
    coder = Coder(_primed(), state, most_symbols=most_symbols)
    try:
        record = RecordWalk(coder).record()
    except CodingError:
        raise _damaged() from None
    if coder.finish():
        raise _damaged()
    return record


def _damaged() -> DamagedMessageError:
    return DamagedMessageError(
        "the record does not decode; one that Coverslip encoded was expected: read it from an "
        "undamaged copy"
    )
