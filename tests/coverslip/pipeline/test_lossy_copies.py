"""What profile robust survives is read as it is: lossy copies, made by other people's encoders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.deidentification import header
from coverslip.dicom.objects import read_object
from coverslip.errors import ChangedError, WrongKeyError
from coverslip.pipeline import Binding, Carried, Change, Missing, RestoredAs
from coverslip.scheme.profiles import ROBUST
from coverslip.scheme.reference import ReferenceEngine
from tests.covers import head_ct
from tests.outlines import outline_head
from tests.peers import need, run

pytestmark = pytest.mark.slow

IDENTITY, SOMEBODY_ELSE = Identity.generate(), Identity.generate()
PATIENT = "Imagined^Patient Nr 0007"

SIGNED = {
    "JPEG-LS, error 2, gdcmconv": "gdcmconv --jpegls --lossy -e 2",
    "JPEG-LS, error 8, gdcmconv": "gdcmconv --jpegls --lossy -e 8",
    "JPEG 2000, 10:1": "gdcmconv --j2k --lossy -r 10",
    "JPEG 2000, 20:1": "gdcmconv --j2k --lossy -r 20",
    "JPEG 2000, 20:1, 9/7": "gdcmconv --j2k --lossy --irreversible -r 20",
}
UNSIGNED = {
    "JPEG-LS, error 2, dcmcjpls": "dcmcjpls +en +md 2",
    "JPEG-LS, error 3, dcmcjpls": "dcmcjpls +en +md 3",
    "JPEG-LS, error 5, dcmcjpls": "dcmcjpls +en +md 5",
    "JPEG-LS, error 8, dcmcjpls": "dcmcjpls +en +md 8",
    "JPEG of 12 bits, quality 90": "dcmcjpeg --quiet +ee +bt +q 90",
    "JPEG of 12 bits, quality 100, the old UID": "dcmcjpeg --quiet +ee +bt +q 100 +un",
    # Other values: scaled to the range of 8 bits, with a new Rescale Slope.
    "JPEG of 8 bits, quality 90": "dcmcjpeg --quiet +eb +q 90",
}
"""For unsigned pixels alone: the near-lossless encoder of DCMTK refuses signed ones."""

ALL = SIGNED | UNSIGNED


def embed(cover: Path, stego: Path) -> Path:
    embedding = pipeline.embed(
        read_object(cover),
        IDENTITY.recipient,
        ReferenceEngine(outline_head),
        pipeline.EmbedOptions(ROBUST),
    )
    assert embedding.report.carried is Carried.PIXELS and embedding.report.bound
    embedding.write(stego)
    return stego


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head CT as it is: 13 bits, signed."""
    folder = tmp_path_factory.mktemp("signed")
    dataset = head_ct(7)
    dataset.decompress()
    dataset.save_as(folder / "cover.dcm")
    return embed(folder / "cover.dcm", folder / "stego.dcm")


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head CT with another Rescale Intercept: 12 bits, unsigned."""
    folder = tmp_path_factory.mktemp("unsigned")
    dataset = head_ct(7)
    values = dataset.pixel_array.astype(np.int32)
    lowest = int(values.min())
    dataset.PixelData = (values - lowest).astype("<u2").tobytes()
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OW", False
    dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = 0, 12, 11
    dataset.RescaleIntercept = lowest
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / "cover.dcm")
    return embed(folder / "cover.dcm", folder / "stego.dcm")


def copied(stego: Path, command: str, target: Path) -> Path:
    program, *words = command.split()
    need(program)
    run(program, *words, stego, target)
    return target


def assert_read_as_changed(stego: Path, lossy: Path) -> None:
    before, found = read_object(stego), read_object(lossy)
    assert before.image is not None and found.image is not None and found.image.is_lossy
    assert not np.array_equal(found.image.planes, before.image.planes)
    extraction = pipeline.extract(found, IDENTITY)
    assert extraction.record == pipeline.extract(before, IDENTITY).record
    assert (extraction.carried, extraction.profile) == (Carried.PIXELS, "robust")
    assert extraction.binding is Binding.CHANGED
    assert {Change.BODY_PIXELS, Change.PIXELS} <= set(extraction.changes)
    with pytest.raises(WrongKeyError):
        pipeline.extract(found, SOMEBODY_ELSE)
    with pytest.raises(ChangedError, match="--even-if-changed"):
        pipeline.restore(found, extraction, IDENTITY.recipient)
    restoration = pipeline.restore(found, extraction, IDENTITY.recipient, even_if_changed=True)
    assert restoration.restored_as is RestoredAs.IDENTITY
    assert restoration.missing == (Missing.PIXELS_CHANGED,)
    target = lossy.with_name("restored.dcm")
    restoration.write(target)
    restored = dcmread(target)
    assert restored.PatientName == PATIENT
    assert restored.PixelData == dcmread(lossy).PixelData


@pytest.mark.parametrize("command", SIGNED.values(), ids=SIGNED)
def test_a_lossy_copy_of_signed_pixels_gives_the_identity_and_says_changed(
    signed: Path, tmp_path: Path, command: str
) -> None:
    assert_read_as_changed(signed, copied(signed, command, tmp_path / "lossy.dcm"))


@pytest.mark.parametrize("command", ALL.values(), ids=ALL)
def test_a_lossy_copy_of_unsigned_pixels_gives_the_identity_and_says_changed(
    unsigned: Path, tmp_path: Path, command: str
) -> None:
    assert_read_as_changed(unsigned, copied(unsigned, command, tmp_path / "lossy.dcm"))


@pytest.mark.parametrize("command", list(UNSIGNED.values())[3:], ids=list(UNSIGNED)[3:])
def test_a_lossy_copy_without_a_mark_is_read_too(
    unsigned: Path, tmp_path: Path, command: str
) -> None:
    lossy = copied(unsigned, command, tmp_path / "lossy.dcm")
    need("dcmodify")
    run("dcmodify", "-nb", "-ep", lossy)
    extraction = pipeline.extract(read_object(lossy), IDENTITY)
    assert extraction.record == pipeline.extract(read_object(unsigned), IDENTITY).record
    assert (extraction.carried, extraction.binding) == (Carried.PIXELS, Binding.CHANGED)


def test_a_lossless_copy_in_a_syntax_that_may_lose_is_verified(
    signed: Path, tmp_path: Path
) -> None:
    """JPEG 2000 says nothing of whether it lost; the pixels do."""
    need("gdcmconv")
    run("gdcmconv", "--j2k", signed, tmp_path / "copy.dcm")
    dataset = dcmread(tmp_path / "copy.dcm")
    dataset.file_meta.TransferSyntaxUID = JPEG2000
    dataset.save_as(tmp_path / "copy.dcm")
    found = read_object(tmp_path / "copy.dcm")
    extraction = pipeline.extract(found, IDENTITY)
    assert (extraction.binding, extraction.changes) == (Binding.VERIFIED, ())
    restoration = pipeline.restore(found, extraction, IDENTITY.recipient)
    assert restoration.restored_as in (RestoredAs.ORIGINAL_FILE, RestoredAs.ORIGINAL)
    restoration.write(tmp_path / "restored.dcm")
    restored = read_object(tmp_path / "restored.dcm").image
    cover = read_object(signed.with_name("cover.dcm")).image
    assert restored is not None and cover is not None
    np.testing.assert_array_equal(restored.planes, cover.planes)


def test_a_copy_whose_pixels_lost_the_record_gives_it_from_the_header(
    unsigned: Path, tmp_path: Path
) -> None:
    lossy = copied(unsigned, "gdcmconv --j2k --lossy -q 20", tmp_path / "lossy.dcm")
    extraction = pipeline.extract(read_object(lossy), IDENTITY)
    cover = read_object(unsigned.with_name("cover.dcm"))
    key = pipeline.uid_key(IDENTITY.recipient)
    assert extraction.record == header.deidentify(cover.dataset, key)[1]
    assert (extraction.carried, extraction.binding) == (Carried.HEADER, Binding.CHANGED)


def test_the_command_line_shows_the_identity_of_a_changed_copy_and_exits_with_1(
    unsigned: Path, tmp_path: Path
) -> None:
    lossy = copied(unsigned, UNSIGNED["JPEG-LS, error 5, dcmcjpls"], tmp_path / "lossy.dcm")
    IDENTITY.write(tmp_path / "key")

    def extract(*words: object) -> tuple[int, dict[str, object], str]:
        command = [sys.executable, "-m", "coverslip", "extract", lossy, "--json", "--no-model"]
        done = subprocess.run(
            [*map(str, command), "--identity", tmp_path / "key", *map(str, words)],
            capture_output=True,
            text=True,
        )
        return done.returncode, json.loads(done.stdout), done.stderr

    code, result, _ = extract()
    assert (code, result["status"], result["binding"]) == (1, "changed", "changed")
    assert f"Patient's Name: {PATIENT}" in str(result["listing"])
    code, result, _ = extract("--restore", tmp_path / "out")
    assert code == 1 and "--even-if-changed" in str(result["not_restored"])
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    code, result, _ = extract("--restore", tmp_path / "out", "--even-if-changed")
    assert (code, result["restored_as"]) == (1, "identity")
    assert dcmread(tmp_path / "out" / "lossy.dcm").PatientName == PATIENT
