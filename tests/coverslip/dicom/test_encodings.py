"""Headers that go from one encoding into another."""

from __future__ import annotations

import copy
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from coverslip.dicom.raw import change_encoding
from coverslip.fake_patient import write_fake_patient
from tests.paths import pydicom_file

FILES = ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "rtplan.dcm"]
ENCODINGS = {
    ImplicitVRLittleEndian: (True, True),
    ExplicitVRLittleEndian: (False, True),
    ExplicitVRBigEndian: (False, False),
}
LUT = 0x00281200
WORDS = bytes(range(8))


def read(name: str) -> Dataset:
    """A file's header, read whole and still raw, with words and a nested private number in it."""
    dataset = dcmread(pydicom_file(name))
    write_fake_patient(dataset, seed=3)
    for keyword in ("PixelData", "DataSetTrailingPadding"):
        if keyword in dataset:
            delattr(dataset, keyword)
    item = Dataset()
    item.PatientName = "Nested^Person"
    item.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "US", 258)
    dataset.OtherPatientIDsSequence = [item]
    dataset.add_new(LUT, "OW", WORDS)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("name", FILES)
def test_a_raw_header_is_written_right_in_another_encoding(name: str, syntax: UID) -> None:
    expected, turned = read(name), read(name)
    little_before = expected.original_encoding[1]
    change_encoding(turned, *ENCODINGS[syntax])
    turned.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    turned.save_as(file, enforce_file_format=True)
    file.seek(0)
    back = dcmread(file)
    assert back.original_encoding == ENCODINGS[syntax]
    assert [str(e.tag) for e in expected] == [str(e.tag) for e in back]
    for element in expected:
        if not element.tag.is_private and element.tag != LUT and element.VR != "SQ":
            assert back[element.tag].value == element.value, element.tag
    words = bytes(back[LUT].value)
    swapped = b"".join(WORDS[at : at + 2][::-1] for at in range(0, 8, 2))
    assert words == (WORDS if little_before == ENCODINGS[syntax][1] else swapped)
    (item,) = back.OtherPatientIDsSequence
    assert item.PatientName == "Nested^Person"
    number = item.private_block(0x0011, "SOMEBODY")[1].value
    assert number in (258, (258).to_bytes(2, "little"))


def test_a_header_in_its_own_encoding_stays_as_it_is() -> None:
    dataset = read("MR_small.dcm")
    elements = {tag: dataset.get_item(tag) for tag in dataset.keys()}  # noqa: SIM118
    same = copy.copy(elements)
    change_encoding(dataset, implicit=False, little=True)
    assert all(dataset.get_item(tag) is element for tag, element in same.items())
