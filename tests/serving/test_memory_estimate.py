"""What an instance under work is counted for."""

import os

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EncapsulatedPDFStorage, ExplicitVRLittleEndian

from coverslip_serving.memory import estimate_memory
from coverslip_serving.sizes import MIB

SIDE = 512


def write_native(path, frames, samples=1):
    """A native instance of 16 bits; its pixels are a hole in the file."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    ds.Rows = ds.Columns = SIDE
    ds.NumberOfFrames, ds.SamplesPerPixel = frames, samples
    ds.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.save_as(path, enforce_file_format=True)
    length = frames * SIDE * SIDE * 2
    with path.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OW\0\0" + length.to_bytes(4, "little"))
    os.truncate(path, path.stat().st_size + length)
    return path


def test_long_native_instances_are_counted_by_the_window(tmp_path):
    many, more = (
        estimate_memory(write_native(tmp_path / f"{frames}.dcm", frames)) for frames in (100, 1000)
    )
    assert abs(more - many) < MIB and more < 256 * MIB


def test_short_instances_are_counted_by_their_frames(tmp_path):
    one, two, four = (
        estimate_memory(write_native(tmp_path / f"{frames}.dcm", frames)) for frames in (1, 2, 4)
    )
    assert 1.9 < two / one < 2.1  # side by side
    assert one / 10 < (four - two) / 2 < one / 4  # waiting in the window


def test_a_large_frame_is_counted_for_what_it_was_seen_to_take(tmp_path):
    path = write_native(tmp_path / "one.dcm", 1)
    assert estimate_memory(path) > 128 * SIDE * SIDE


def test_what_is_long_and_no_pixels_is_counted(tmp_path):
    path = write_native(tmp_path / "padded.dcm", 100)
    before, length = estimate_memory(path), 64 * MIB
    with path.open("ab") as file:
        file.write(b"\xfc\xff\xfc\xffOB\0\0" + length.to_bytes(4, "little"))
    os.truncate(path, path.stat().st_size + length)
    assert estimate_memory(path) - before >= 4 * length


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 40])
def test_what_is_no_image_is_counted_by_its_bytes(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert 0 < estimate_memory(path) < MIB


def test_colour_and_objects_without_pixels_are_counted_by_their_bytes(tmp_path):
    """The header carries them: no frame is decoded, whatever they claim."""
    for number, length in ((1, 0), (2, 4 * MIB)):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
        ds.NumberOfFrames = 10_000
        ds.EncapsulatedDocument = bytes(length)
        path = tmp_path / f"document-{number}"
        ds.save_as(path, enforce_file_format=True)
        size = path.stat().st_size
        assert 10.3 * size < estimate_memory(path) < 12 * size
    colour = write_native(tmp_path / "colour.dcm", 100, samples=3)
    assert estimate_memory(colour) == 4 * colour.stat().st_size
