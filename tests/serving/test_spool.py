"""What an instance under work is counted for."""

import pytest
from coverslip.serving.limits import MIB
from coverslip.serving.spool import memory_for
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless


def header(path, frames, syntax):
    """A header of 512 x 512 without pixel data."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2.1", "2.25.1"
    ds.Rows = ds.Columns = 512
    ds.NumberOfFrames = frames
    ds.save_as(path, enforce_file_format=True)
    return path


def test_native_frames_are_counted_by_the_window(tmp_path):
    few, many = (memory_for(header(tmp_path / f"{n}.dcm", n, ExplicitVRLittleEndian)) for n in (8, 1000))
    assert abs(many - few) < MIB and many < 256 * MIB
    assert memory_for(header(tmp_path / "one.dcm", 1, ExplicitVRLittleEndian)) < few / 4


def test_frames_that_may_have_to_be_decoded_at_once_are_counted_all(tmp_path):
    counted = memory_for(header(tmp_path / "rle.dcm", 1000, RLELossless))
    assert 1000 * MIB < counted < 1500 * MIB


@pytest.mark.parametrize("content", [b"", b"no DICOM at all" * 40])
def test_what_is_no_image_is_counted_by_its_bytes(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert 0 < memory_for(path) < MIB
