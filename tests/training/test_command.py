"""``coverslip train`` as a process of its own: from files to records, and without what training
needs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.covers import head_ct

pytestmark = pytest.mark.slow
"""These tests start the command."""

needs = ["scipy", "cv2", "contourpy", "pycocotools"]


@pytest.fixture
def folder(tmp_path):
    """Two slices of two invented patients, and a file that is no image."""
    (tmp_path / "slices").mkdir()
    for number in (1, 2):
        dataset = head_ct(number)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / f"slices/{number}.dcm")
    return tmp_path


def test_from_files_over_via_to_records(coverslip, folder):
    for module in [*needs, "tensorflow"]:
        pytest.importorskip(module)
    done = coverslip("train", "annotate", "slices", "--out", "annotated", cwd=folder)
    assert done.code == 0, done.err
    assert "2 slices in annotated" in done.out
    assert (folder / "annotated/sheets/sheet-001.png").exists()
    done = coverslip(
        "train",
        "data",
        "slices",
        "--via",
        "annotated/annotations.json",
        "--out",
        "records",
        "--val",
        "0",
        cwd=folder,
    )
    assert done.code == 0, done.err
    assert done.out == "train: 2 slices of 2 patients (2 CT)\n"
    assert json.loads((folder / "records/report.json").read_text())["written"] == {
        "train": {"CT": 2}
    }
    assert len(list((folder / "records").glob("train-*-of-00004.tfrecord"))) == 4
    again = coverslip("train", "data", "slices", "--out", "records", cwd=folder)
    assert again.code == 2 and "--overwrite" in again.err


def test_a_lost_annotation_fails_and_says_why(coverslip, folder):
    for module in [*needs, "tensorflow"]:
        pytest.importorskip(module)
    (folder / "masks").mkdir()
    (folder / "masks/1.png").write_bytes(b"no picture")
    done = coverslip("train", "data", "slices", "--masks", "masks", "--out", "records", cwd=folder)
    assert done.code == 1
    assert "bad-annotation: 1.dcm: 1.png is no picture" in done.out


@pytest.mark.parametrize(
    "words", [["train"], ["train", "nothing"], ["train", "data"], ["train", "annotate", "slices"]]
)
def test_misuse_is_said_with_exit_code_2(coverslip, folder, words):
    assert coverslip(*words, cwd=folder).code == 2


def test_the_parts_are_listed_without_loading_any(coverslip):
    done = coverslip("train", "--help")
    assert done.code == 0
    assert all(part in done.out for part in ("data", "annotate", "fit", "evaluate"))


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("tensorflow", ["fit", "--out", "x"]),
        ("tensorflow", ["data", "slices", "--out", "x"]),
        ("scipy", ["annotate", "slices", "--out", "x"]),
        ("contourpy", ["annotate", "slices", "--out", "x"]),
    ],
)
def test_what_is_not_installed_is_named(folder, missing, words):
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


def test_segmentations_among_the_files_count(coverslip, folder):
    for module in [*needs, "tensorflow", "highdicom"]:
        pytest.importorskip(module)
    import numpy as np

    from tests.training.images import write_seg

    image = dcmread(get_testdata_file("CT_small.dcm", download=False))
    shutil.rmtree(folder / "slices")
    (folder / "slices").mkdir()
    image.save_as(folder / "slices/ct.dcm")
    mask = np.zeros((1, image.Rows, image.Columns), np.uint8)
    mask[0, 20:100, 20:100] = 1
    write_seg(folder / "slices/seg.dcm", [image], {"body": mask})
    done = coverslip("train", "data", "slices", "--out", "records", "--val", "0", cwd=folder)
    assert done.code == 0, done.err
    assert done.out == "train: 1 slice of 1 patient (1 CT)\n"
