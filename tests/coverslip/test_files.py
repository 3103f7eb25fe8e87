"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from coverslip.errors import OutputExistsError
from coverslip.files import check_target, write_atomically, write_bytes_atomically


def test_a_new_file_holds_the_bytes_and_nothing_else_stays(tmp_path: Path) -> None:
    write_bytes_atomically(tmp_path / "out", b"content")
    assert (tmp_path / "out").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_existing_file_is_replaced_only_if_asked(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        write_bytes_atomically(target, b"other")
    assert target.read_bytes() == b"mine"
    write_bytes_atomically(target, b"other", overwrite=True)
    assert target.read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_former_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"mine")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, fail, overwrite=True)
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_fails_its_check_gets_no_name(tmp_path: Path) -> None:
    def check(path: Path) -> None:
        assert path.read_bytes() == b"content"
        assert not (tmp_path / "out").exists()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        write_atomically(tmp_path / "out", lambda file: file.write(b"content"), check=check)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_system_without_hard_links_serves_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    target = tmp_path / "out"
    write_bytes_atomically(target, b"first")
    if overwrite:
        write_bytes_atomically(target, b"second", overwrite=True)
    else:
        with pytest.raises(OutputExistsError):
            write_bytes_atomically(target, b"second")
    assert target.read_bytes() == (b"second" if overwrite else b"first")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX syncs folders")
def test_the_file_and_its_folder_are_flushed_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = []
    sync = os.fsync

    def seen(descriptor: int) -> None:
        kinds.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    write_bytes_atomically(tmp_path / "out", b"content")
    assert kinds == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize(("mode", "expected"), [(0o666, 0o644), (0o600, 0o600)])
def test_the_mode_is_the_one_asked_for_less_the_umask(
    tmp_path: Path, mode: int, expected: int
) -> None:
    before = os.umask(0o022)
    try:
        write_bytes_atomically(tmp_path / "out", b"content", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == expected


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 127)
    write_bytes_atomically(target, b"content")
    assert target.read_bytes() == b"content"


def test_the_input_is_never_a_target(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"mine")
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(OutputExistsError, match="input"):
        check_target(tmp_path / "link", source, overwrite=True)
    check_target(tmp_path / "new", source, overwrite=False)
