"""Several files at a time, each in a process of its own."""

import json
import os
import shutil
from pathlib import Path

import pytest
from pydicom import dcmread

from coverslip.cli.batch import SOME_FAILED, Batch, Source
from coverslip.errors import NotAnImageError

pytestmark = pytest.mark.slow
"""These tests start the command."""


def test_a_folder_is_worked_on_side_by_side_in_its_order(coverslip, keys, cover, tmp_path):
    covers = tmp_path / "covers"
    covers.mkdir()
    for name in ("a.dcm", "b.dcm", "d.dcm"):
        shutil.copy(cover, covers / name)
    (covers / "c.dcm").write_bytes(cover.read_bytes()[:20000])
    (covers / "e.txt").write_text("no image")
    done = coverslip(
        "embed", covers, "--to", keys[1]["mine"], "-o", tmp_path / "out", "--jobs", 2, "--json"
    )
    assert done.code == 1, done.err
    assert [(Path(line["file"]).name, line["status"]) for line in done.lines] == [
        ("a.dcm", "done"), ("b.dcm", "done"), ("c.dcm", "failed"), ("d.dcm", "done"),
        ("e.txt", "not-dicom"),
    ]  # fmt: skip
    found = coverslip(
        "extract",
        tmp_path / "out",
        "--identity",
        keys[0] / "mine",
        "--no-model",
        "--jobs",
        2,
        "--json",
    )
    assert found.code == 0, found.err
    names = {line["record"]["00100010"]["Value"][0]["Alphabetic"] for line in found.lines}
    assert len(found.lines) == 3 and names == {str(dcmread(cover).PatientName)}


class Job:
    """Gives back a source's name; one source ends its process, another is no image."""

    def __call__(self, source):
        if source.path.name == "fatal":
            os._exit(9)
        if source.path.name == "odd":
            raise NotAnImageError("told")
        return {"name": source.path.name}


def sources(*names):
    return [Source(Path(name), Path(name)) for name in names]


def test_a_process_that_dies_is_told_and_nothing_hangs(capsys):
    assert Batch(True, "trying", 2).run(sources("one", "odd", "fatal"), Job(), str) == SOME_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4, "one for each source, and the summary"
    assert '"code": "process-lost"' in lines[2] and "fewer --jobs" in lines[2]
    failures = json.loads(lines[3])["summary"]["failures"]
    assert failures == {"not-an-image": 1, "process-lost": 1}


def test_one_source_needs_no_process_of_its_own(capsys):
    here = []
    assert (
        Batch(True, "trying", 8).run(
            sources("one"), lambda source: here.append(source) or {"name": "one"}, str
        )
        == 0
    )
    assert len(here) == 1


def test_jobs_are_for_the_work_here(coverslip, keys, cover, tmp_path):
    words = [
        "embed",
        cover,
        "--to",
        keys[1]["mine"],
        "-o",
        tmp_path / "s.dcm",
        "--server",
        "localhost:1",
        "--jobs",
        2,
    ]
    done = coverslip(*words)
    assert done.code == 2 and "--jobs does not go with --server" in done.err
