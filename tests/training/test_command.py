"""``coverslip train`` as a process: from files to records, misuse, and missing packages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from coverslip_training.command import PARTS
from tests.covers import head_ct

pytestmark = pytest.mark.slow
"""These tests start the command."""

PACKAGES = ["scipy", "cv2", "contourpy", "pycocotools", "tensorflow"]


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``coverslip train`` in a process of its own; a traceback fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "coverslip", "train", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose ``slices`` holds two slices of two fake patients."""
    (tmp_path / "slices").mkdir()
    for number in (1, 2):
        dataset = head_ct(number)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / f"slices/{number}.dcm")
    return tmp_path


def need(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package)


def test_from_files_over_via_to_records(folder: Path) -> None:
    need(*PACKAGES)
    done = run("annotate", "slices", "--out", "annotated", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "2 slices in annotated" in done.stdout
    assert (folder / "annotated/sheets/sheet-001.png").exists()
    words = ["data", "slices", "--via", "annotated/annotations.json", "--out", "records"]
    done = run(*words, "--val", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "train: 2 slices of 2 patients (2 CT)\n"
    report = json.loads((folder / "records/report.json").read_text())
    assert report["written"] == {"train": {"CT": 2}}
    assert len(list((folder / "records").glob("train-*-of-00004.tfrecord"))) == 4
    again = run("data", "slices", "--out", "records", cwd=folder)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_a_lost_annotation_fails_and_is_reported(folder: Path) -> None:
    need(*PACKAGES)
    (folder / "masks").mkdir()
    (folder / "masks/1.png").write_bytes(b"not a picture")
    done = run("data", "slices", "--masks", "masks", "--out", "records", cwd=folder)
    assert done.returncode == 1
    assert "bad-annotation: 1.dcm: 1.png cannot be read as a picture" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: PART"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["data"], "required: PATH, --out"),
        (["annotate", "slices"], "required: --out"),
        (["annotate", "slices", "--out", "x", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_misuse_has_a_message_and_exit_code_2(folder: Path, words: list[str], message: str) -> None:
    done = run(*words, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_parts_are_listed_without_loading_any(tmp_path: Path) -> None:
    program = (
        "import sys; from coverslip.cli import main\n"
        "try: main(['train', '--help'])\n"
        "finally: print(sorted(name for name in sys.modules if name.startswith('coverslip_')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for name, part in PARTS.items():
        assert f"\n    {name} " in done.stdout
        assert part.help.split(",")[0] in " ".join(done.stdout.split())
    loaded = done.stdout.splitlines()[-1]
    assert loaded == "['coverslip_training', 'coverslip_training.command']"


def test_a_part_has_its_own_help(tmp_path: Path) -> None:
    need(*PACKAGES)
    done = run("annotate", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: coverslip train annotate")
    assert "--per-page N" in done.stdout


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("tensorflow", ["fit", "--out", "x"]),
        ("tensorflow", ["data", "slices", "--out", "x"]),
        ("scipy", ["annotate", "slices", "--out", "x"]),
        ("contourpy", ["annotate", "slices", "--out", "x"]),
    ],
)
def test_a_missing_package_is_named(folder: Path, missing: str, words: list[str]) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from coverslip.cli import main; "
        f"sys.exit(main({['train', *words]!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.strip().endswith(
        f"{missing} is not installed; training needs it: install 'coverslip[training]'"
    )


def test_segmentations_among_the_files_are_annotations(folder: Path) -> None:
    need(*PACKAGES, "highdicom")
    from tests.training.images import write_seg

    image = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    shutil.rmtree(folder / "slices")
    (folder / "slices").mkdir()
    image.save_as(folder / "slices/ct.dcm")
    mask = np.zeros((1, image.Rows, image.Columns), np.uint8)
    mask[0, 20:100, 20:100] = 1
    write_seg(folder / "slices/seg.dcm", [image], {"body": mask})
    done = run("data", "slices", "--out", "records", "--val", "0", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "train: 1 slice of 1 patient (1 CT)\n"
