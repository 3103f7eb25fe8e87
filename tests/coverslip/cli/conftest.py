"""A real CT with an invented patient, a key, and the command line as a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.covers import head_ct


@dataclass(frozen=True)
class Done:
    """What a process left."""

    code: int
    out: str
    err: str

    @property
    def lines(self):
        """Standard output as JSON, a line for each file."""
        return [line for line in self._all_lines() if "summary" not in line]

    @property
    def summary(self):
        """The last line of standard output as JSON: what came of all files."""
        return self._all_lines()[-1]["summary"]

    def _all_lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


def run(*words, cwd=None):
    done = subprocess.run(
        [sys.executable, "-m", "coverslip", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def coverslip():
    return run


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    made = {name: run("keygen", folder / name).out.strip() for name in ("mine", "other")}
    return folder, made


@pytest.fixture(scope="session")
def cover(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(11).save_as(path)
    return path


@pytest.fixture(scope="session")
def stego(cover, keys, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stego") / "stego.dcm"
    done = run("embed", cover, "--to", keys[1]["mine"], "--output", path)
    assert done.code == 0, done.err
    return path
