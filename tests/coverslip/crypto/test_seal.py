from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import OVERHEAD, seal, unseal
from coverslip.errors import DamagedMessageError, WrongKeyError

IDENTITY = Identity.generate()


@given(st.binary(min_size=1, max_size=3000))
def test_opens_what_was_sealed(record: bytes) -> None:
    frame = seal(record, IDENTITY.recipient.public)
    assert len(frame) == len(record) + OVERHEAD
    assert unseal(frame, IDENTITY.secret) == record


def test_the_seal_is_random() -> None:
    assert seal(b"same", IDENTITY.recipient.public) != seal(b"same", IDENTITY.recipient.public)


def test_another_key_does_not_open_it_and_nothing_shows() -> None:
    frame = seal(b"Invented^Patient", IDENTITY.recipient.public)
    with pytest.raises(WrongKeyError) as caught:
        unseal(frame, Identity.generate().secret)
    assert "Invented" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


PATIENT = b"Invented^Patient"


@given(st.integers(1, OVERHEAD + len(PATIENT) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    frame = bytearray(seal(PATIENT, IDENTITY.recipient.public))
    frame[place] ^= change
    with pytest.raises(WrongKeyError):
        unseal(bytes(frame), IDENTITY.secret)


@pytest.mark.parametrize("frame", [b"", b"\x01" * OVERHEAD, b"\x09" + bytes(80)])
def test_other_bytes_are_damaged(frame: bytes) -> None:
    with pytest.raises(DamagedMessageError):
        unseal(frame, IDENTITY.secret)
