"""A folder of everything that a study may hold: nothing goes missing without a word."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from tests.covers import head_ct
from tests.coverslip.cli.conftest import Done
from tests.coverslip.pipeline.test_nothing_left import key_object_selection, presentation_state

pytestmark = pytest.mark.slow
"""These tests start the command."""

Run = Callable[..., Done]
Keys = tuple[Path, dict[str, str]]


def localizer() -> Dataset:
    ds = head_ct(12)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return ds


def without_text(name: str) -> Dataset:
    ds = shipped(name)
    ds.BurnedInAnnotation = "NO"
    return ds


def shipped(name: str) -> Dataset:
    return dcmread(str(get_testdata_file(name, download=False)))


IN_PIXELS = {"series 1/image.dcm": lambda: head_ct(11)}
IN_HEADER = {
    "series 1/localizer.dcm": (localizer, "localizer"),
    "series 2/report.dcm": (lambda: shipped("test-SR.dcm"), "no-pixels"),
    "series 2/structures.dcm": (lambda: shipped("rtstruct.dcm"), None),
    "series 2/key objects.dcm": (key_object_selection, "no-pixels"),
    "series 2/presentation.dcm": (presentation_state, "no-pixels"),
    "series 2/dose": (lambda: shipped("rtdose_1frame.dcm"), "deep"),
    "series 3/capture.dcm": (lambda: without_text("SC_rgb_rle.dcm"), "colour"),
    "series 3/lossy.dcm": (lambda: without_text("JPGExtended.dcm"), "lossy-source"),
}
FAILED = {"series 3/text in pixels.dcm": "burned-in-annotation", "cut.dcm": "truncated-file"}
PASSED_OVER = {"README.txt", "series 1/preview.png"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "study"
    for number in (1, 2, 3):
        (folder / f"series {number}").mkdir(parents=True)
    for name, make in IN_PIXELS.items():
        make().save_as(folder / name)
    for name, (make, _) in IN_HEADER.items():
        if name == "series 2/structures.dcm":
            # pydicom's has no file meta information.
            shutil.copy(str(get_testdata_file("rtstruct.dcm", download=False)), folder / name)
        else:
            make().save_as(folder / name)
    shipped("SC_rgb_rle.dcm").save_as(folder / "series 3/text in pixels.dcm")
    (folder / "cut.dcm").write_bytes((folder / "series 1/image.dcm").read_bytes()[:20000])
    (folder / "README.txt").write_text("no DICOM")
    (folder / "series 1/preview.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    (folder / ".hidden").write_text("no DICOM")
    index = get_testdata_file("DICOMDIR", download=False)
    shutil.copy(str(index), folder / "DICOMDIR")
    return folder


def by_name(done: Done, folder: Path) -> dict[str, dict[str, object]]:
    return {Path(line["file"]).relative_to(folder).as_posix(): line for line in done.lines}


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def embedded(
    study: Path, coverslip: Run, keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Done]:
    out = tmp_path_factory.mktemp("embedded") / "out"
    return out, coverslip("embed", study, "--to", keys[1]["mine"], "-o", out, "--json")


def test_every_object_of_the_study_is_written_or_named(
    study: Path, embedded: tuple[Path, Done]
) -> None:
    out, done = embedded
    assert done.code == 1, "two files failed"
    lines = by_name(done, study)
    assert set(lines) == {*IN_PIXELS, *IN_HEADER, *FAILED, *PASSED_OVER}
    carried = {name: line.get("carried") for name, line in lines.items()}
    assert carried == {
        **dict.fromkeys(IN_PIXELS, "pixels"),
        **dict.fromkeys(IN_HEADER, "header"),
        **dict.fromkeys([*FAILED, *PASSED_OVER]),
    }
    for name, (_, code) in IN_HEADER.items():
        reasons = lines[name]["header_reasons"]
        assert isinstance(reasons, list) and len(reasons[0]["message"].split()) > 4
        assert code in (None, reasons[0]["code"]), name
    assert {name: lines[name]["code"] for name in FAILED} == FAILED
    assert {lines[name]["status"] for name in FAILED} == {"failed"}
    assert {lines[name]["status"] for name in PASSED_OVER} == {"not-dicom"}
    assert files_in(out) == {*IN_PIXELS, *IN_HEADER}


def test_the_summary_counts_them_all(embedded: tuple[Path, Done]) -> None:
    summary = embedded[1].summary
    assert summary["files"] == 13 and summary["done"] == 9
    assert summary["failed"] == 2 and summary["not-dicom"] == 2
    assert summary["carried"] == {"pixels": 1, "header": 8}
    assert sum(summary["carried_in_header"].values()) == 8
    assert summary["failures"] == {"burned-in-annotation": 1, "truncated-file": 1}
    assert summary["dicomdir_left_out"] == 1


def test_the_originals_come_back_out_of_all_of_them(
    study: Path, embedded: tuple[Path, Done], coverslip: Run, keys: Keys, tmp_path: Path
) -> None:
    words = ["--identity", keys[0] / "mine", "--no-model", "--json"]
    done = coverslip("extract", embedded[0], *words, "--restore", tmp_path / "back")
    assert done.code == 0, done.err
    assert {line["binding"] for line in done.lines} == {"verified"}
    assert files_in(tmp_path / "back") == {*IN_PIXELS, *IN_HEADER}
    differing = {
        name
        for name in files_in(tmp_path / "back")
        if (tmp_path / "back" / name).read_bytes() != (study / name).read_bytes()
    }
    # Its encoder was another one; the localizer's pixels were not touched.
    assert differing == {"series 1/image.dcm"}
    restored_as = {Path(line["file"]).name: line["restored_as"] for line in done.lines}
    assert restored_as.pop("image.dcm") == "original"
    assert set(restored_as.values()) == {"original-file"}


def test_what_was_done_is_skipped_when_asked_and_a_failure_otherwise(
    study: Path, embedded: tuple[Path, Done], coverslip: Run, keys: Keys
) -> None:
    out, _ = embedded
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    words = ["embed", study, "--to", keys[1]["mine"], "-o", out, "--json"]
    done = coverslip(*words, "--skip-existing")
    assert done.code == 1
    assert done.summary["existed"] == 9 and done.summary["failed"] == 2
    done = coverslip(*words)
    assert done.summary["failures"]["output-exists"] == 9
    done = coverslip("embed", study / "series 2", *words[2:4], "-o", out / "series 2",
                     "--skip-existing", "--json")  # fmt: skip
    assert done.code == 0 and done.summary["existed"] == done.summary["files"] == 5
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before


def test_who_requires_pixels_gets_a_refusal_for_the_rest(
    study: Path, coverslip: Run, keys: Keys, tmp_path: Path
) -> None:
    words = ["--to", keys[1]["mine"], "-o", tmp_path / "out", "--json", "--require-pixels"]
    done = coverslip("embed", study, *words)
    assert done.code == 1
    codes = {name: line.get("code") for name, line in by_name(done, study).items()}
    assert {name for name, code in codes.items() if code == "header-only"} == set(IN_HEADER)
    assert files_in(tmp_path / "out") == set(IN_PIXELS)


def test_a_kind_that_is_allowed_carries_in_its_pixels(
    study: Path, coverslip: Run, keys: Keys, tmp_path: Path
) -> None:
    words = ["--to", keys[1]["mine"], "-o", tmp_path / "out", "--json", "--allow", "localizer"]
    done = coverslip("embed", study / "series 1", *words)
    assert done.code == 0
    carried = {Path(line["file"]).name: line.get("carried") for line in done.lines}
    assert carried == {"image.dcm": "pixels", "localizer.dcm": "pixels", "preview.png": None}
    done = coverslip("embed", study, *words[:-1], "no-pixels")
    assert done.code == 2 and "no-pixels" in done.err


def test_a_person_reads_the_same(study: Path, coverslip: Run, keys: Keys, tmp_path: Path) -> None:
    done = coverslip("embed", study, "--to", keys[1]["mine"], "-o", tmp_path / "out", "--jobs", 2)
    assert done.code == 1
    summary = done.err.strip().splitlines()[-1]
    for part in (
        "9 done: 1 carried in pixels, 8 in the header (",
        "2 not DICOM, skipped",
        "2 failed (",
        "burned-in-annotation 1",
        "1 DICOMDIR left out",
    ):
        assert part in summary, summary
    assert "carried: header" in done.out and "carried: pixels" in done.out
