"""Other programs read our files: DCMTK, GDCM and dciodvfy from Debian; skipped if missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from coverslip.deidentification import header
from coverslip.deidentification.mark import Mark, write_mark
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.fake_patient import write_fake_patient
from tests.paths import pydicom_file
from tests.peers import need, run

FILES = [
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "image_dfl.dcm",
]
ALSO_BY_DCMTK = [
    name for name in FILES if name != "J2K_pixelrep_mismatch.dcm"
]  # DCMTK has no JPEG 2000 decoder
DCMTK = {"MR_small_RLE.dcm": "dcmdrle", "MR_small_jpeg_ls_lossless.dcm": "dcmdjpls"}


def written(name: str, folder: Path) -> tuple[Path, NDArray[np.int32]]:
    """A file like a stego instance: another identity, other pixels in one corner."""
    dataset = dcmread(pydicom_file(name))
    write_fake_patient(dataset, seed=5)
    dataset.save_as(folder / "cover.dcm")
    cover = read_instance(folder / "cover.dcm")
    clean, _, _ = header.deidentify(cover.dataset, b"k" * 32, allow_burned_in=True)
    write_mark(clean, Mark(1, "default", 8.0, bytes(8)))
    planes = cover.planes.copy()
    planes[:, :8, :8] = np.clip(planes[:, :8, :8] + 3, *cover.legal)
    write_instance(cover.with_dataset(clean), planes, folder / "stego.dcm")
    return folder / "stego.dcm", planes


@pytest.mark.parametrize("name", FILES)
def test_gdcm_reads_the_same_pixels(name: str, tmp_path: Path) -> None:
    need("gdcmconv")
    stego, planes = written(name, tmp_path)
    run("gdcmconv", "--raw", stego, tmp_path / "raw.dcm")
    assert np.array_equal(read_instance(tmp_path / "raw.dcm").planes, planes)


@pytest.mark.parametrize("name", ALSO_BY_DCMTK)
def test_dcmtk_reads_the_same_pixels(name: str, tmp_path: Path) -> None:
    program = DCMTK.get(name, "dcmconv")
    need(program)
    stego, planes = written(name, tmp_path)
    words = ["+te", stego] if program == "dcmconv" else [stego]
    run(program, *words, tmp_path / "raw.dcm")
    raw = read_instance(tmp_path / "raw.dcm")
    assert raw.transfer_syntax == ExplicitVRLittleEndian
    assert np.array_equal(raw.planes, planes)


@pytest.mark.parametrize("name", FILES)
def test_dcmtk_dumps_every_element_without_a_complaint(name: str, tmp_path: Path) -> None:
    need("dcmdump")
    stego, _ = written(name, tmp_path)
    said = run("dcmdump", "+L", stego)
    assert "(0012,0062) CS [YES]" in said
    assert not [line for line in said.splitlines() if line.startswith(("W:", "E:", "F:"))]


@pytest.mark.parametrize("name", ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_a_validator_finds_no_error_that_the_cover_had_not(name: str, tmp_path: Path) -> None:
    need("dciodvfy")
    stego, _ = written(name, tmp_path)

    def errors(path: Path) -> set[str]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        return {
            line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")
        }

    assert errors(stego) - errors(tmp_path / "cover.dcm") == set()
