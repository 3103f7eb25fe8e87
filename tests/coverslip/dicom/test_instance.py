from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from coverslip.dicom.instance import Instance, read_instance, write_instance
from coverslip.errors import (
    NotAnImageError,
    OutputExistsError,
    TruncatedFileError,
    UnreadableFileError,
)
from tests.paths import pydicom_file


@pytest.fixture
def ct_file() -> Path:
    return pydicom_file("CT_small.dcm")


@pytest.fixture
def ct(ct_file: Path) -> Instance:
    return read_instance(ct_file)


def fresh(path: Path) -> Dataset:
    """A header that no file has fixed to a byte order yet."""
    source = dcmread(path)
    source.remove_private_tags()
    ds = Dataset()
    for element in source:
        ds.add(element)
    ds.file_meta = source.file_meta
    return ds


def nudge(instance: Instance) -> NDArray[np.int32]:
    """Other planes: every fifteenth pixel one grey level off."""
    planes = instance.planes.copy()
    some = planes[:, ::3, ::5]
    planes[:, ::3, ::5] = np.where(some >= instance.legal[1], some - 1, some + 1)
    return planes


def test_stored_values_are_not_rescaled(ct: Instance) -> None:
    assert ct.planes.shape == (1, 128, 128) and ct.planes.dtype == np.int32
    assert ct.planes.min() == 128 and ct.planes.max() == 2191
    assert ct.legal == (-32768, 32767) and ct.padding == (-2000, -2000) and not ct.inverted


def test_unchanged_planes_write_the_same_file(ct: Instance, ct_file: Path, tmp_path: Path) -> None:
    assert write_instance(ct, ct.planes, tmp_path / "out.dcm") == []
    assert (tmp_path / "out.dcm").read_bytes() == ct_file.read_bytes()


def test_only_the_bytes_of_changed_pixels_differ(
    ct: Instance, ct_file: Path, tmp_path: Path
) -> None:
    planes = nudge(ct)
    # These two say what the extremes are; here they stay true.
    assert (planes.min(), planes.max()) == (
        ct.planes.min(),
        ct.planes.max(),
    ) or "SmallestImagePixelValue" in ct.dataset
    write_instance(ct, planes, tmp_path / "out.dcm")
    before, after = (
        np.frombuffer(path.read_bytes(), dtype=np.uint8) for path in (ct_file, tmp_path / "out.dcm")
    )
    differing = int((planes != ct.planes).sum())
    assert differing <= int((before != after).sum()) <= 2 * differing
    assert np.array_equal(read_instance(tmp_path / "out.dcm").planes, planes)


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize(
    ("stored", "signed"), [(16, True), (12, False), (12, True), (8, False), (7, True)]
)
def test_every_syntax_that_can_be_written_stays(
    ct_file: Path, tmp_path: Path, syntax: UID, stored: int, signed: bool
) -> None:
    ds = fresh(ct_file)
    size = 8 if stored <= 8 else 16
    lo, hi = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    random = np.random.default_rng(stored)
    frames = random.integers(lo, hi + 1, (3, 37, 45), dtype=np.int32)
    ds.Rows, ds.Columns, ds.NumberOfFrames = 37, 45, 3
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
        size,
        stored,
        stored - 1,
        int(signed),
    )
    for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
        if keyword in ds:
            del ds[keyword]
    dtype = np.dtype(
        f"{'>' if syntax == ExplicitVRBigEndian else '<'}{'i' if signed else 'u'}{size // 8}"
    )
    data = frames.astype(dtype).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if size == 16 else "OB"
    source = tmp_path / "source.dcm"
    if syntax.is_compressed and syntax.is_encapsulated:
        ds.compress(syntax, frames.astype(dtype), generate_instance_uid=False)
        ds.save_as(source, enforce_file_format=True)
    else:
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(source, enforce_file_format=True)
    instance = read_instance(source)
    assert np.array_equal(instance.planes, frames) and instance.legal == (lo, hi)
    planes = nudge(instance)
    assert write_instance(instance, planes, tmp_path / "out.dcm") == []
    again = dcmread(tmp_path / "out.dcm")
    assert again.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(again.pixel_array, planes) and len(again.PixelData) % 2 == 0


def test_a_syntax_without_encoder_becomes_explicit_little_endian_and_says_so(
    shared_data: Path, tmp_path: Path
) -> None:
    instance = read_instance(next((shared_data / "conformance").glob("*JPEG-LL.dcm")))
    notes = write_instance(instance, nudge(instance), tmp_path / "out.dcm")
    assert len(notes) == 1 and "Explicit VR Little Endian" in notes[0]
    assert dcmread(tmp_path / "out.dcm").file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_codestream_that_contradicts_its_header_is_noted_and_written_right(
    tmp_path: Path,
) -> None:
    instance = read_instance(pydicom_file("J2K_pixelrep_mismatch.dcm"))
    assert (
        instance.planes.min() == -2000
        and len(instance.notes) == 1
        and "unsigned" in instance.notes[0]
    )
    write_instance(instance, nudge(instance), tmp_path / "out.dcm")
    again = read_instance(tmp_path / "out.dcm")
    assert np.array_equal(again.planes, nudge(instance)) and again.notes == []


def test_extremes_that_were_true_stay_true(ct: Instance, tmp_path: Path) -> None:
    ct.dataset.SmallestImagePixelValue = int(ct.planes.min())
    ct.dataset["SmallestImagePixelValue"].VR = "SS"
    ct.dataset.add_new("LargestImagePixelValue", "SS", 7)
    planes = ct.planes.copy()
    planes[0, 0, 0] = -5
    write_instance(ct, planes, tmp_path / "out.dcm")
    again = dcmread(tmp_path / "out.dcm")
    assert again.SmallestImagePixelValue == -5 and again.LargestImagePixelValue == 7


def test_nothing_is_overwritten_unasked_and_the_input_never(
    ct: Instance, ct_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "in.dcm"
    copy.write_bytes(ct_file.read_bytes())
    instance = read_instance(copy)
    with pytest.raises(OutputExistsError, match="input"):
        write_instance(instance, nudge(instance), copy, overwrite=True)
    (tmp_path / "there.dcm").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_instance(instance, nudge(instance), tmp_path / "there.dcm")
    assert (
        tmp_path / "there.dcm"
    ).read_text() == "mine" and copy.read_bytes() == ct_file.read_bytes()
    write_instance(instance, nudge(instance), tmp_path / "there.dcm", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.dcm", "there.dcm"]


def test_a_failed_write_leaves_nothing(
    ct: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(type(ct.dataset), "save_as", fail)
    with pytest.raises(OSError, match="disk full"):
        write_instance(ct, ct.planes, tmp_path / "out.dcm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_file_has_the_mode_that_others_expect(ct: Instance, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_instance(ct, ct.planes, tmp_path / "out.dcm")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.dcm").stat().st_mode) == 0o644


def test_values_outside_the_legal_range_are_refused(ct: Instance, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="legal range"):
        write_instance(ct, ct.planes + 40000, tmp_path / "out.dcm")


@pytest.mark.parametrize("length", [200, 700, 5000, 20000])
def test_a_file_cut_anywhere_is_truncated(ct_file: Path, tmp_path: Path, length: int) -> None:
    (tmp_path / "cut.dcm").write_bytes(ct_file.read_bytes()[:length])
    with pytest.raises(TruncatedFileError):
        read_instance(tmp_path / "cut.dcm")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x00" * 1000, b"PK\x03\x04" + bytes(range(256)) * 4]
)
def test_other_files_are_not_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(NotAnImageError):
        read_instance(tmp_path / "file")


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UnreadableFileError):
            read_instance(path)


def test_a_file_without_preamble_is_read(ct_file: Path, tmp_path: Path) -> None:
    ds = dcmread(ct_file)
    del ds.file_meta
    ds.preamble = None
    ds.save_as(tmp_path / "bare.dcm", implicit_vr=False, little_endian=True)
    instance = read_instance(tmp_path / "bare.dcm")
    assert instance.notes == [
        "the file did not say its transfer syntax; it reads as Explicit VR Little Endian"
    ]
    assert np.array_equal(instance.planes, read_instance(ct_file).planes)
