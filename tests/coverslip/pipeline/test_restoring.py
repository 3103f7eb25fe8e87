"""The original comes back: byte for byte where that can be, its data set and pixels elsewhere."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files
from pydicom.dataelem import DataElement
from pydicom.dataset import FileDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element, write_file_meta_info
from pydicom.sequence import Sequence
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

from coverslip import pipeline
from coverslip.dicom.objects import DicomObject, read_object
from coverslip.errors import CoverslipError, OutputExistsError
from coverslip.pipeline import Binding, Carried, Missing, RestoredAs
from coverslip.scheme.profiles import DEFAULT, FAINT, Profile
from tests import golden
from tests.coverslip.pipeline.images import ENGINE, IDENTITY

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
COMPRESSED = [RLELossless, JPEGLSLossless, JPEG2000Lossless]
PREAMBLE = b"II*\0" + bytes(range(124))
"""That of a file that is a TIFF image as well (PS3.10 section 7.1)."""


def rich(compress: UID | None = None) -> FileDataset:
    """An image with everything that a record has no room for, and that a file may have."""
    ds = golden.phantom()
    assert isinstance(ds, FileDataset)
    ds["PixelData"].VR = "OW"
    if compress is not None:
        ds.compress(compress)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Erfunden^Jürgen=山田^太郎"
    ds.PatientComments = "erfunden, " * 300
    ds.AcquisitionDateTime = "20191231235959.123456+0100"
    ds.PatientBirthName = ""
    ds.OtherPatientNames = ["Invented^A", "Invented^B"]
    block = ds.private_block(0x0009, "INVENTED MAKER", create=True)
    block.add_new(1, "LO", "Invented^Secret")
    block.add_new(2, "OB", bytes(range(256)) * 20)
    item = Dataset()
    item.PatientID = "NESTED-1"
    block.add_new(3, "SQ", Sequence([item, Dataset()]))
    icon = Dataset()
    icon.Rows = icon.Columns = 64
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    icon.add_new(0x7FE00010, "OW", bytes(range(256)) * 16)
    ds.IconImageSequence = Sequence([icon])
    for tag, vr, value in (
        (0x60000010, "US", 240),
        (0x60000011, "US", 240),
        (0x60000040, "CS", "G"),
        (0x60000050, "SS", [1, 1]),
        (0x60000100, "US", 1),
        (0x60000102, "US", 0),
        (0x60000022, "LO", "Invented overlay"),
        (0x60003000, "OW", bytes(range(240)) * 30),
    ):
        ds.add_new(tag, vr, value)
    after = ds.private_block(0x7FE1, "INVENTED MAKER", create=True)
    after.add_new(1, "OB", b"after the pixels")
    ds.add_new(0xFFFCFFFC, "OB", bytes(126))
    ds.SmallestImagePixelValue = int(np.frombuffer(golden.phantom().PixelData, "<u2").min())
    return ds


def turned(ds: Dataset, syntax: UID) -> Dataset:
    """The data set with its words in the byte order of a transfer syntax."""
    if syntax == ExplicitVRBigEndian:
        for each in (ds, ds.IconImageSequence[0]):
            for element in each:
                if element.VR == "OW":
                    element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    return ds


def write_file(ds: Dataset, path: Path, syntax: UID, group_lengths: bool) -> None:
    """Write a file as old programs do: a preamble with content, and the length of every group."""
    deflated = syntax == DeflatedExplicitVRLittleEndian
    file = DicomBytesIO()
    file.is_little_endian = syntax != ExplicitVRBigEndian
    file.is_implicit_VR = syntax == ImplicitVRLittleEndian
    ds = turned(ds, syntax)
    correct_ambiguous_vr(ds, file.is_little_endian)
    for group in sorted({tag.group for tag in ds.keys()}):  # noqa: SIM118 - tags
        whole = DicomBytesIO()
        whole.is_little_endian, whole.is_implicit_VR = file.is_little_endian, file.is_implicit_VR
        for element in ds.group_dataset(group):
            write_data_element(whole, element, ["utf8"])
        if group_lengths:
            length = DataElement(group << 16, "UL", len(whole.getvalue()))
            write_data_element(file, length, ["utf8"])
        file.write(whole.getvalue())
    ds.file_meta.TransferSyntaxUID = syntax
    meta = BytesIO()
    write_file_meta_info(meta, ds.file_meta)
    data = file.getvalue()
    if deflated:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflater.compress(data) + deflater.flush()
        data += b"\0" * (len(data) % 2)
    path.write_bytes(PREAMBLE + b"DICM" + meta.getvalue() + data)


def embedded(cover: Path, folder: Path, profile: Profile = DEFAULT) -> tuple[DicomObject, Carried]:
    """The stego object of a cover, read from its file, and where it carries."""
    options = pipeline.EmbedOptions(profile, allow_burned_in=True)
    done = pipeline.embed(read_object(cover), IDENTITY.recipient, ENGINE, options)
    done.write(folder / "stego.dcm")
    return read_object(folder / "stego.dcm"), done.report.carried


def restored(stego: DicomObject, folder: Path) -> tuple[Path, pipeline.Restoration]:
    """The restored file of a stego object that nobody touched."""
    found = pipeline.extract(stego, IDENTITY)
    assert found.binding is Binding.VERIFIED and found.changes == ()
    restoration = pipeline.restore(stego, found, IDENTITY.recipient)
    assert restoration.missing == () and restoration.refused == []
    restoration.write(folder / "restored.dcm")
    return folder / "restored.dcm", restoration


def elements(ds: Dataset) -> Iterator[DataElement]:
    """Every element of a data set but its pixel data, those of the file meta information too."""
    yield from (e for e in ds.file_meta if e.tag.element)
    yield from (e for e in ds if e.tag.element and e.tag != 0x7FE00010)


def assert_same(restored: Path, cover: Path, group_lengths: bool = False) -> None:
    """Fail unless two files have the same preamble, attributes and pixels."""
    one, other = dcmread(restored), dcmread(cover)
    assert one.preamble == other.preamble
    assert list(elements(one)) == list(elements(other))
    if "PixelData" in other:
        pixels = [read_object(path).image for path in (restored, cover)]
        assert pixels[0] is not None and pixels[1] is not None
        assert np.array_equal(pixels[0].planes, pixels[1].planes)


@pytest.mark.parametrize("group_lengths", [False, True], ids=["", "group lengths"])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_a_native_file_comes_back_byte_for_byte(
    syntax: UID, group_lengths: bool, tmp_path: Path
) -> None:
    cover = tmp_path / "cover.dcm"
    write_file(rich(), cover, syntax, group_lengths)
    stego, carried = embedded(cover, tmp_path)
    assert carried is Carried.PIXELS
    path, restoration = restored(stego, tmp_path)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
    assert path.read_bytes() == cover.read_bytes()


def test_a_deflated_file_comes_back_with_its_data_set(tmp_path: Path) -> None:
    cover = tmp_path / "cover.dcm"
    write_file(rich(), cover, DeflatedExplicitVRLittleEndian, group_lengths=False)
    stego, carried = embedded(cover, tmp_path)
    assert carried is Carried.PIXELS
    path, restoration = restored(stego, tmp_path)
    assert restoration.restored_as is RestoredAs.ORIGINAL
    assert_same(path, cover)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
def test_a_compressed_file_comes_back_with_its_data_set_and_pixels(
    syntax: UID, tmp_path: Path
) -> None:
    cover = tmp_path / "cover.dcm"
    write_file(rich(compress=syntax), cover, syntax, group_lengths=False)
    stego, carried = embedded(cover, tmp_path)
    assert carried is Carried.PIXELS and stego.transfer_syntax == syntax
    path, restoration = restored(stego, tmp_path)
    assert restoration.restored_as is not RestoredAs.IDENTITY
    assert_same(path, cover)
    # The same encoder gave the cover: where it did, its very bytes come back.
    same = path.read_bytes() == cover.read_bytes()
    assert same == (restoration.restored_as is RestoredAs.ORIGINAL_FILE)


@pytest.mark.parametrize("stored", [11, 12, 16])
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_bits_outside_the_stored_ones_come_back(stored: int, signed: bool, tmp_path: Path) -> None:
    ds = golden.phantom()
    values = np.minimum(np.frombuffer(ds.PixelData, "<u2") * 4 // 5, 1023).astype(np.uint16)
    marks = (np.arange(values.size, dtype=np.uint32) << stored).astype(np.uint16)
    ds.PixelData = (values | marks).astype("<u2").tobytes() + b"ab"
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = stored, stored - 1, int(signed)
    cover = tmp_path / "cover.dcm"
    ds.save_as(cover)
    stego, carried = embedded(cover, tmp_path, FAINT)
    assert carried is Carried.PIXELS
    path, restoration = restored(stego, tmp_path)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
    assert path.read_bytes() == cover.read_bytes()


def test_several_frames_come_back_byte_for_byte(tmp_path: Path) -> None:
    ds = golden.phantom()
    ds.NumberOfFrames = 3
    plane = np.frombuffer(ds.PixelData, "<u2").reshape(240, 240)
    ds.PixelData = b"".join(p.tobytes() for p in (plane, plane[::-1], plane[:, ::-1] + 1))
    cover = tmp_path / "cover.dcm"
    ds.save_as(cover)
    stego, carried = embedded(cover, tmp_path)
    assert carried is Carried.PIXELS
    path, _ = restored(stego, tmp_path)
    assert path.read_bytes() == cover.read_bytes()


def shipped() -> list[Path]:
    """Every file that pydicom ships; none is downloaded."""
    folder = Path(str(get_testdata_files("CT_small.dcm")[0])).parent
    return sorted(path for path in folder.glob("*.dcm"))


NOT_WRITTEN = {
    "MR_truncated.dcm": "truncated-file",
    "SC_rgb_jpeg.dcm": "cannot-write",
    "empty_charset_LEI.dcm": "cannot-write",
    "meta_missing_tsyntax.dcm": "cannot-write",
    "nested_priv_SQ.dcm": "cannot-write",
    "no_meta.dcm": "not-dicom",
    "rtplan_truncated.dcm": "truncated-file",
}
OTHER_BYTES = {"image_dfl.dcm", "J2K_pixelrep_mismatch.dcm"}
"""Deflated by another program; encoded by another encoder, with another opinion of the sign."""


@pytest.mark.parametrize("cover", shipped(), ids=lambda path: path.stem)
def test_every_file_that_pydicom_ships_comes_back(cover: Path, tmp_path: Path) -> None:
    if cover.name in NOT_WRITTEN:
        with pytest.raises(CoverslipError) as caught:
            embedded(cover, tmp_path)
        assert caught.value.code == NOT_WRITTEN[cover.name]
        assert list(tmp_path.iterdir()) == []
        return
    stego, _ = embedded(cover, tmp_path)
    path, restoration = restored(stego, tmp_path)
    if cover.name in OTHER_BYTES:
        assert restoration.restored_as is RestoredAs.ORIGINAL
        assert_same(path, cover)
    else:
        assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
        assert path.read_bytes() == cover.read_bytes()


def lasting(path: Path) -> list[DataElement]:
    """What does not depend on how a file is written.

    Nothing here encodes JPEG lossless, and pydicom writes no file meta information that contradicts
    its data set.
    """
    of_the_file = ("TransferSyntaxUID", "MediaStorageSOPInstanceUID")
    return [e for e in elements(dcmread(path)) if e.keyword not in of_the_file]


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["conformance", "hard", "wild"])
def test_real_files_come_back(folder: str, shared_data: Path, tmp_path: Path) -> None:
    """Of every kind; what is refused says why, and nothing else is lost."""
    wrong, done = {}, 0
    for number, cover in enumerate(sorted((shared_data / folder).rglob("*.dcm"))):
        place = tmp_path / str(number)
        place.mkdir()
        try:
            stego, _ = embedded(cover, place)
        except CoverslipError as error:
            if error.code not in ("cannot-write", "not-dicom", "truncated-file"):
                wrong[cover.name] = error.code
            continue
        path, restoration = restored(stego, place)
        if restoration.restored_as is RestoredAs.ORIGINAL_FILE:
            same = path.read_bytes() == cover.read_bytes()
        else:
            same = lasting(path) == lasting(cover)
        done += same
        if not same:
            wrong[cover.name] = restoration.restored_as.value
        for each in place.iterdir():
            each.unlink()
    assert wrong == {} and done


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("how", ["original file", "original", "identity"])
def test_a_restored_file_is_for_its_owner_alone(how: str, tmp_path: Path) -> None:
    cover = tmp_path / "cover.dcm"
    syntax = DeflatedExplicitVRLittleEndian if how == "original" else ExplicitVRLittleEndian
    write_file(rich(), cover, syntax, group_lengths=False)
    stego, _ = embedded(cover, tmp_path)
    assert stat.S_IMODE((tmp_path / "stego.dcm").stat().st_mode) & 0o044
    if how == "identity":
        stego = without_private_group(stego, tmp_path)
    before = os.umask(0)
    try:
        restoration = pipeline.restore(stego, pipeline.extract(stego, IDENTITY), IDENTITY.recipient)
        assert restoration.restored_as.value == how.replace(" ", "-")
        restoration.write(tmp_path / "restored.dcm")
        with pytest.raises(OutputExistsError):
            restoration.write(tmp_path / "restored.dcm")
        with pytest.raises(OutputExistsError):
            restoration.write(stego.path or tmp_path, overwrite=True)
        restoration.write(tmp_path / "restored.dcm", overwrite=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "restored.dcm").stat().st_mode) == 0o600


def without_private_group(stego: DicomObject, folder: Path) -> DicomObject:
    ds = dcmread(folder / "stego.dcm")
    for element in ds.group_dataset(0x0099):
        del ds[element.tag]
    ds.save_as(folder / "bare.dcm")
    return read_object(folder / "bare.dcm")


def test_the_identity_alone_is_no_original_and_says_so(tmp_path: Path) -> None:
    cover = tmp_path / "cover.dcm"
    write_file(rich(), cover, ExplicitVRLittleEndian, group_lengths=False)
    embedded(cover, tmp_path)
    bare = without_private_group(read_object(tmp_path / "stego.dcm"), tmp_path)
    found = pipeline.extract(bare, IDENTITY)
    assert found.binding is Binding.VERIFIED and found.carried is Carried.PIXELS
    restoration = pipeline.restore(bare, found, IDENTITY.recipient)
    assert restoration.restored_as is RestoredAs.IDENTITY
    assert restoration.missing == (Missing.NO_HEADER_PART,)
    restoration.write(tmp_path / "restored.dcm")
    one, other = dcmread(tmp_path / "restored.dcm"), dcmread(cover)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "AcquisitionDateTime"):
        assert one.get(keyword) == other.get(keyword), keyword
    assert one.SOPInstanceUID not in (other.SOPInstanceUID, bare.dataset.SOPInstanceUID)
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert one.ImageType == ["DERIVED", *other.ImageType[1:]]
    assert one.DerivationDescription
    # What has no room in the pixels is lost with the header, and says so beforehand.
    assert "IconImageSequence" not in one and "PatientComments" not in one
    assert not [e.tag for e in one if e.tag.is_private]
    # Twice restored is the same: nothing in it is random.
    restoration.write(tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == (tmp_path / "restored.dcm").read_bytes()
