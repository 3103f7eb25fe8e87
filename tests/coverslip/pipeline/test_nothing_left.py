"""Nothing of an identity that was planted everywhere is in the bytes of what is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from coverslip import pipeline
from coverslip.crypto.seal import unseal
from coverslip.deidentification import mark
from coverslip.deidentification.basic_profile import STANDARD_ROOT, UID_ACTION, action_for
from coverslip.dicom.objects import DicomObject, read_object
from coverslip.fake_patient import write_fake_patient
from coverslip.pipeline import Carried
from coverslip.pipeline.header_part import decode_header_part
from coverslip.scheme.profiles import DEFAULT
from tests import golden
from tests.coverslip.pipeline.images import ENGINE, IDENTITY

WORD = "Zqxwv"
DAY = "19470813"
ROOT_UID = "1.2.826.0.1.4711081547"
TRACES = (WORD, DAY, ROOT_UID, "471108", "1311.22.33")
TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT")


class Planter:
    """Puts traces into every value that de-identification is to take."""

    def __init__(self) -> None:
        self.count = 0

    def plant(self, ds: Dataset, taken: bool = False) -> None:
        for element in list(ds):
            gone = taken or element.tag.is_private or action_for(int(element.tag)) is not None
            if element.VR == "SQ":
                # Items of a sequence whose UIDs alone are replaced are walked one by one.
                whole = gone and action_for(int(element.tag)) != UID_ACTION
                for item in element.value:
                    self.plant(item, whole)
            elif gone and not element.tag.is_private_creator:
                self._write(element)

    def _write(self, element: DataElement) -> None:
        self.count += 1
        if element.VR in TEXT:
            element.value = f"{WORD}{self.count}"
        elif element.VR == "DA":
            element.value = DAY
        elif element.VR == "DT":
            element.value = f"{DAY}112233.4711"
        elif element.VR == "TM":
            element.value = "131122.33"
        elif element.VR == "UI" and not str(element.value).startswith(STANDARD_ROOT):
            element.value = f"{ROOT_UID}.{self.count}"
        else:
            self.count -= 1


def planted(ds: Dataset) -> Dataset:
    """A data set of an identity that is nothing but traces, in every place there is for one."""
    write_fake_patient(ds, 3)
    ds.OtherPatientNames = ["A^B", "C^D"]
    ds.PatientBirthName, ds.PatientMotherBirthName = "A^B", "C^D"
    ds.AdditionalPatientHistory = "x"
    ds.AcquisitionDateTime = "20200101"
    ds.PatientBirthTime = "1200"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2"
    ds.ReferencedImageSequence = Sequence([item])
    person = Dataset()
    person.PersonName = "A^B"
    ds.ReferringPhysicianIdentificationSequence = Sequence([person])
    block = ds.private_block(0x0011, f"{WORD} MAKER", create=True)
    block.add_new(1, "LO", "x")
    nested = Dataset()
    nested.PatientName = "A^B"
    block.add_new(2, "SQ", Sequence([nested]))
    Planter().plant(ds)
    block.add_new(3, "OB", WORD.encode() * 500)
    block.add_new(4, "UN", WORD.encode("utf-16-le"))
    icon = Dataset()
    icon.PixelData = (WORD.encode() * 20)[: len(WORD) * 20 // 2 * 2]
    icon["PixelData"].VR = "OB"
    ds.IconImageSequence = Sequence([icon])
    ds.PatientComments = WORD * 400
    ds.add_new(0x60003000, "OB", WORD.encode() * 20)
    ds.file_meta.SourceApplicationEntityTitle = WORD
    ds.file_meta.PrivateInformationCreatorUID = f"{ROOT_UID}.1"
    ds.file_meta.PrivateInformation = WORD.encode() + b"1"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.preamble = (WORD.encode() * 26)[:128]
    return ds


def shipped(name: str) -> Dataset:
    ds = dcmread(get_testdata_file(name, download=False), force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return ds


def key_object_selection() -> Dataset:
    ds = shipped("test-SR.dcm")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.59"
    ds.Modality = "KO"
    return ds


def presentation_state() -> Dataset:
    ds = shipped("reportsi.dcm")
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    ds.Modality = "PR"
    del ds.ContentSequence
    text, graphic = Dataset(), Dataset()
    text.UnformattedTextValue = "x"
    graphic.TextObjectSequence = Sequence([text])
    graphic.GraphicLayer = "ONE"
    ds.GraphicAnnotationSequence = Sequence([graphic])
    ds.ContentLabel, ds.ContentCreatorName = "ONE", "A^B"
    return ds


SOURCES = {
    "an image that carries in its pixels": golden.phantom,
    "structured report": lambda: shipped("test-SR.dcm"),
    "another structured report": lambda: shipped("reportsi.dcm"),
    "key object selection": key_object_selection,
    "presentation state": presentation_state,
    "structure set": lambda: shipped("rtstruct.dcm"),
    "plan": lambda: shipped("rtplan.dcm"),
    "dose": lambda: shipped("rtdose_1frame.dcm"),
    "waveform": lambda: shipped("waveform_ecg.dcm"),
    "segmentation": lambda: shipped("liver_1frame.dcm"),
    "secondary capture in colour": lambda: shipped("SC_rgb_rle.dcm"),
    "lossy image": lambda: shipped("JPEG2000.dcm"),
    "small image": lambda: shipped("MR_small_implicit.dcm"),
    "big endian image": lambda: shipped("MR_small_bigendian.dcm"),
}


def left_in(data: bytes) -> list[str]:
    """Traces in bytes, in every encoding that text has in DICOM."""
    return [
        trace
        for trace in TRACES
        for coding in ("ascii", "utf-16-le", "utf-16-be")
        if trace.encode(coding) in data
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_that_was_planted_is_left_in_the_file(name: str, tmp_path: Path) -> None:
    cover = tmp_path / "cover.dcm"
    ds = planted(SOURCES[name]())
    ds.save_as(cover, enforce_file_format=True)
    assert WORD in left_in(cover.read_bytes()) and DAY in left_in(cover.read_bytes())
    options = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)
    done = pipeline.embed(read_object(cover), IDENTITY.recipient, ENGINE, options)
    in_pixels = "pixels" in name
    assert (done.report.carried is Carried.PIXELS) == in_pixels
    done.write(tmp_path / "stego.dcm")
    data = (tmp_path / "stego.dcm").read_bytes()
    assert left_in(data) == []
    assert left_in(repr(done.report.as_json()).encode()) == []
    # It is in what is sealed, and nowhere else.
    part = decode_header_part(
        unseal(mark.read_sealed_part(dcmread(tmp_path / "stego.dcm")), IDENTITY.secret)
    )
    assert WORD in left_in(part.head) and DAY in left_in(part.head)
    restoration = pipeline.restore(
        read_object(tmp_path / "stego.dcm"),
        pipeline.extract(read_object(tmp_path / "stego.dcm"), IDENTITY),
        IDENTITY.recipient,
    )
    restoration.write(tmp_path / "restored.dcm")
    assert (tmp_path / "restored.dcm").read_bytes() == cover.read_bytes()


def test_pixels_carry_nothing_readable(tmp_path: Path) -> None:
    """Not as bytes in a row, nor as the lowest bits of the pixels that changed."""
    cover = tmp_path / "cover.dcm"
    planted(golden.phantom()).save_as(cover)
    source = read_object(cover)
    options = pipeline.EmbedOptions(DEFAULT, require_pixels=True)
    done = pipeline.embed(source, IDENTITY.recipient, ENGINE, options)
    changed = done.stego[0][done.stego[0] != pixels_of(source)]
    for bit in range(4):
        bits = (changed >> bit & 1).astype(np.uint8)
        for order in ("big", "little"):
            packed = np.packbits(bits, bitorder=order).tobytes()
            assert left_in(packed) == [] and left_in(packed[::-1]) == []


def pixels_of(source: DicomObject) -> NDArray[np.int32]:
    image = source.image
    assert image is not None
    return image.planes[0]
