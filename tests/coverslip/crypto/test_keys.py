from __future__ import annotations

import stat
from pathlib import Path

import pytest

from coverslip.crypto.keys import Identity, Recipient
from coverslip.errors import KeyFileError, OutputExistsError, RecipientError


def test_identity_comes_back_from_its_file(tmp_path: Path) -> None:
    identity = Identity.generate()
    identity.write(tmp_path / "id")
    assert Identity.read(tmp_path / "id") == identity
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o600


def test_an_identity_is_never_overwritten(tmp_path: Path) -> None:
    Identity.generate().write(tmp_path / "id")
    before = (tmp_path / "id").read_bytes()
    with pytest.raises(OutputExistsError):
        Identity.generate().write(tmp_path / "id")
    assert (tmp_path / "id").read_bytes() == before


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    Identity.generate().write(tmp_path / "id")
    (tmp_path / "id").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Identity.read(tmp_path / "id")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"CS-IDENTITY-1AAAA\n", b"\xff\xfe"])
def test_a_file_without_an_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "id").write_bytes(content)
    (tmp_path / "id").chmod(0o600)
    with pytest.raises(KeyFileError):
        Identity.read(tmp_path / "id")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        Identity.read(tmp_path / "none")


def test_recipient_comes_back_from_its_text() -> None:
    recipient = Identity.generate().recipient
    assert Recipient.parse(f" {recipient}\n") == recipient
    assert len(str(recipient)) == 59


def test_one_wrong_letter_of_a_recipient_is_noticed() -> None:
    text = str(Identity.generate().recipient)
    for place in range(3, len(text)):
        wrong = text[:place] + ("a" if text[place] != "a" else "b") + text[place + 1 :]
        with pytest.raises(RecipientError):
            Recipient.parse(wrong)


def test_an_identity_never_shows_its_secret() -> None:
    identity = Identity.generate()
    shown = f"{identity} {identity!r} {identity.recipient!r}"
    assert identity.secret.hex() not in shown and repr(identity.secret) not in shown
