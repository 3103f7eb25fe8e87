"""Frames that stay in their file until they are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from coverslip.dicom import parsing
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.errors import OutputExistsError, TruncatedFileError, UnreadableFileError
from coverslip.pixels import scratch
from coverslip.pixels.frames import HeldFrames, SpooledFrames
from coverslip.pixels.scratch import PartStream
from coverslip.pixels.stored import EncapsulatedFrames, NativeFrames
from tests.paths import ROOT

COUNT = 21
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
NATIVE = SYNTAXES[:3]


@pytest.fixture(scope="module")
def planes() -> NDArray[np.int32]:
    """Values of 12 bits."""
    return np.random.default_rng(4).integers(0, 4096, (COUNT, 40, 33)).astype(np.int32)


@pytest.fixture
def few_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file is a long one."""
    monkeypatch.setattr(parsing, "HELD_BYTES", 512)
    monkeypatch.setattr(scratch, "HELD_BYTES", 512)


def write_source(path: Path, planes: NDArray[np.int32], syntax: UID) -> Path:
    """A file of these planes, with marks in the bits outside Bits Stored where words keep them."""
    ds = dcmread(ROOT / "tests" / "data" / "model1-default.dcm")
    keep = Dataset()
    keep.file_meta = ds.file_meta
    for keyword in (
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
    ):
        keep[keyword] = ds[keyword]
    keep.NumberOfFrames, keep.Rows, keep.Columns = planes.shape
    keep.SamplesPerPixel, keep.PhotometricInterpretation, keep.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    keep.BitsAllocated, keep.BitsStored, keep.HighBit = 16, 12, 11
    keep.SmallestImagePixelValue, keep.LargestImagePixelValue = int(planes.min()), int(planes.max())
    keep.PixelData = (
        (planes.astype(np.uint16) | (0xA000 if syntax in NATIVE else 0)).astype("<u2").tobytes()
    )
    keep["PixelData"].VR = "OW"
    keep.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax in NATIVE:
        if syntax == ExplicitVRBigEndian:
            keep.PixelData = np.frombuffer(keep.PixelData, "<u2").astype(">u2").tobytes()
        keep.file_meta.TransferSyntaxUID = syntax
    else:
        keep.compress(syntax, generate_instance_uid=False)
    keep.preamble = b"\0" * 128
    keep.save_as(
        path,
        enforce_file_format=True,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
    )
    return path


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_frames_read_and_written_from_the_file_are_those_from_memory(
    syntax: UID, planes: NDArray[np.int32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, syntax)
    held = read_instance(source)
    changed = planes ^ 1
    assert isinstance(held.frames, HeldFrames)
    write_instance(held, changed, tmp_path / "held.dcm")
    monkeypatch.setattr(parsing, "HELD_BYTES", 512)
    monkeypatch.setattr(scratch, "HELD_BYTES", 512)
    long = read_instance(source)
    assert isinstance(long.frames, NativeFrames if syntax in NATIVE else EncapsulatedFrames)
    assert np.array_equal(long.frames[3:5], planes[3:5]) and np.array_equal(
        long.frames[-1], planes[-1]
    )
    assert np.array_equal(long.planes, planes) and long.frames.extremes() == (
        planes.min(),
        planes.max(),
    )
    assert write_instance(long, changed, tmp_path / "long.dcm") == []
    assert (tmp_path / "long.dcm").read_bytes() == (tmp_path / "held.dcm").read_bytes()
    assert np.array_equal(dcmread(tmp_path / "long.dcm").pixel_array & 0xFFF, changed)


@pytest.mark.parametrize("table", ["basic", "empty"])
def test_frames_in_several_fragments_are_found_by_the_offset_table(
    table: str, planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, JPEGLSLossless)
    ds = dcmread(source)
    whole = list(generate_frames(ds.PixelData, number_of_frames=COUNT))
    ds.PixelData = encapsulate(whole, fragments_per_frame=3, has_bot=table == "basic")
    ds.save_as(source)
    instance = read_instance(source)
    # Without a table only a decoder tells where a frame begins.
    assert isinstance(instance.frames, EncapsulatedFrames) == (table == "basic")
    assert np.array_equal(instance.planes, planes)


def test_a_file_cut_short_is_reported(
    planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, ExplicitVRLittleEndian)
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(TruncatedFileError, match="were expected"):
        read_instance(source)


def test_a_frame_that_does_not_decode_is_reported_by_its_number(
    planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, RLELossless)
    ds = dcmread(source)
    whole = list(generate_frames(ds.PixelData, number_of_frames=COUNT))
    whole[4] = whole[4][:70]
    ds.PixelData = encapsulate(whole)
    ds.save_as(source)
    frames = read_instance(source).frames
    assert np.array_equal(frames[:4], planes[:4])
    with pytest.raises(TruncatedFileError, match=f"frame 5 of {COUNT}"):
        frames[4]


def test_a_file_that_changes_meanwhile_is_reported_and_nothing_is_written(
    planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, ExplicitVRLittleEndian)
    instance = read_instance(source)
    with source.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnreadableFileError, match="changed while"):
        write_instance(instance, planes, tmp_path / "out.dcm")
    assert list(tmp_path.iterdir()) == [source]


def test_the_source_is_never_overwritten(
    planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    source = write_source(tmp_path / "source.dcm", planes, ExplicitVRLittleEndian)
    with pytest.raises(OutputExistsError):
        write_instance(read_instance(source), planes, source, overwrite=True)


def test_spooled_frames_come_back(
    planes: NDArray[np.int32], tmp_path: Path, few_held: None
) -> None:
    spooled = SpooledFrames((COUNT, 40, 33), (-2048, 2047), tmp_path)
    for start in range(0, COUNT, 4):
        spooled.add(planes[start : start + 4] - 2048)
    assert np.array_equal(spooled.whole(), planes - 2048) and np.array_equal(
        spooled[7], planes[7] - 2048
    )
    with pytest.raises(ValueError, match="legal range"):
        spooled.add(planes[:1] + 2048)


def test_a_part_stream_reads_like_a_file() -> None:
    stream = PartStream(lambda: iter([b"abc", b"defgh", b"i"]), 9)
    for _ in range(2):
        assert [stream.read(2), stream.read(5), stream.read(), stream.read(1)] == [
            b"ab",
            b"cdefg",
            b"hi",
            b"",
        ]
        assert stream.seek(0, 2) == 9 and stream.seek(0) == 0
    stream.seek(4)
    with pytest.raises(ValueError, match="beginning"):
        stream.read(1)


def test_frames_are_given_in_order(planes: NDArray[np.int32]) -> None:
    with pytest.raises(ValueError, match="step"):
        HeldFrames(planes)[::2]
    with pytest.raises(IndexError):
        HeldFrames(planes)[COUNT]
