from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from coverslip.deidentification.basic_profile import STANDARD_ROOT, action_for, new_uid
from coverslip.deidentification.header import deidentify, restore
from coverslip.deidentification.mark import Mark, read_mark, write_mark
from coverslip.dicom.raw import leaf
from coverslip.dicom.record_views import as_dataset
from coverslip.errors import BurnedInAnnotationError
from coverslip.fake_patient import write_fake_patient
from coverslip.record import decode, encode

KEY = bytes(range(32))
PRIVATE_NOTE = b"Invented^Secret "


@pytest.fixture
def ct() -> Dataset:
    ds = dcmread(get_testdata_file("CT_small.dcm"))
    write_fake_patient(ds, 42)
    return ds


def identifying_text(ds: Dataset) -> list[str]:
    """Every value that `write_fake_patient` wrote and that names somebody or something."""
    keywords = (
        "PatientName",
        "PatientID",
        "PatientAddress",
        "AccessionNumber",
        "InstitutionName",
        "ReferringPhysicianName",
    )
    keywords += (
        "OperatorsName",
        "OtherPatientIDs",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "FrameOfReferenceUID",
    )
    return [str(ds[keyword].value) for keyword in keywords]


def everything(ds: Dataset) -> str:
    """The whole header as text, file meta information included."""
    shown = copy.deepcopy(ds)
    del shown.PixelData
    return str(shown)


def test_nothing_of_the_identity_is_left(ct: Dataset) -> None:
    clean, _, _ = deidentify(ct, KEY)
    left = everything(clean)
    for text in identifying_text(ct):
        assert text in everything(ct) and text not in left
    assert not [tag for tag in clean.keys() if tag.is_private]  # noqa: SIM118


def test_the_original_is_not_changed(ct: Dataset) -> None:
    before = copy.deepcopy(ct)
    clean, record, _ = deidentify(ct, KEY)
    restore(clean, record)
    assert ct == before and ct.file_meta == before.file_meta


def test_the_header_says_what_was_done(ct: Dataset) -> None:
    clean, _, _ = deidentify(ct, KEY)
    assert (
        clean.PatientIdentityRemoved == "YES"
        and clean.LongitudinalTemporalInformationModified == "REMOVED"
    )
    assert (
        clean.DeidentificationMethod.startswith("Coverslip ")
        and len(clean.DeidentificationMethod) <= 64
    )
    code = clean.DeidentificationMethodCodeSequence[-1]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert clean.ImageType[0] == "DERIVED" and clean.DerivationDescription
    assert (
        clean.SOPInstanceUID != ct.SOPInstanceUID
        and clean.file_meta.MediaStorageSOPInstanceUID == clean.SOPInstanceUID
    )


def test_types_that_must_be_there_are(ct: Dataset) -> None:
    clean, _, _ = deidentify(ct, KEY)
    for keyword in (
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
    ):
        assert keyword in clean and clean[keyword].is_empty
    assert clean.PatientID == "ANONYMIZED"
    for keyword in (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "FrameOfReferenceUID",
    ):
        assert clean[keyword].value.startswith("2.25.")


def test_a_series_stays_a_series(ct: Dataset) -> None:
    other = copy.deepcopy(ct)
    other.SOPInstanceUID = "1.2.3"
    one, two = deidentify(ct, KEY)[0], deidentify(other, KEY)[0]
    assert (
        one.SeriesInstanceUID == two.SeriesInstanceUID and one.SOPInstanceUID != two.SOPInstanceUID
    )
    assert deidentify(ct, bytes(32))[0].SeriesInstanceUID != one.SeriesInstanceUID


@given(st.binary(min_size=1, max_size=32), st.text("0123456789.", max_size=64))
def test_new_uids_are_valid(key: bytes, old: str) -> None:
    new = new_uid(key, old)
    assert (
        len(new) <= 64
        and new.startswith("2.25.")
        and (new == "2.25.0" or new[5] != "0")
        and new == new_uid(key, old)
    )


def assert_restored(
    original: Dataset, marked: Dataset, record_bytes: bytes, dropped: set[str]
) -> None:
    restored = restore(marked, decode(record_bytes))
    assert set(restored.keys()) == {tag for tag in original.keys() if str(tag) not in dropped}  # noqa: SIM118
    for tag in restored.keys():  # noqa: SIM118 - a data set iterates over elements
        if original[tag].VR == "SQ":
            assert restored[tag] == original[tag]
        else:
            assert leaf(restored, tag) == leaf(original, tag)
    assert restored.file_meta == original.file_meta


@pytest.mark.parametrize(
    "file",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "MR_small_bigendian.dcm",
        "rtdose.dcm",
    ],
)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_recorded_attribute_comes_back_exactly(file: str, seed: int | None) -> None:
    ds = dcmread(get_testdata_file(file))
    if seed is not None:
        write_fake_patient(ds, seed)
    clean, record, dropped = deidentify(ds, KEY)
    write_mark(clean, Mark(1, "default", 8.0, b"12345678"))
    assert_restored(ds, clean, encode(record), {each.path for each in dropped})
    if seed is not None:
        assert len(record) > 40


def test_nested_values_come_back(ct: Dataset) -> None:
    inner = Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.3.4.5",
    )
    inner.PurposeOfReferenceCodeSequence = Sequence([Dataset()])
    inner.PurposeOfReferenceCodeSequence[0].CodeValue = "121311"
    ct.ReferencedImageSequence = Sequence([inner, copy.deepcopy(inner)])
    ct.ReferencedImageSequence[1].ReferencedSOPInstanceUID = "1.2.3.4.6"
    clean, record, dropped = deidentify(ct, KEY)
    assert clean.ReferencedImageSequence[0].ReferencedSOPInstanceUID == new_uid(KEY, "1.2.3.4.5")
    assert clean.ReferencedImageSequence[0].ReferencedSOPClassUID.startswith(STANDARD_ROOT)
    assert "RequestAttributesSequence" not in clean
    assert_restored(ct, clean, encode(record), {each.path for each in dropped})


def test_what_cannot_be_undone_blindly_is_recorded(ct: Dataset) -> None:
    """A header that already says what de-identification would add keeps its own words."""
    ct.PatientIdentityRemoved = "YES"
    ct.DeidentificationMethod = ["Somebody else", "And again"]
    ct.DeidentificationMethodCodeSequence = Sequence([Dataset()])
    ct.DeidentificationMethodCodeSequence[0].CodeValue = "113101"
    ct.DerivationDescription = "Invented derivation"
    ct.ImageType = ["DERIVED", "SECONDARY", "MPR"]
    ct.LongitudinalTemporalInformationModified = "MODIFIED"
    clean, record, dropped = deidentify(ct, KEY)
    assert (
        clean.DeidentificationMethod[0] == "Somebody else"
        and len(clean.DeidentificationMethodCodeSequence) == 2
    )
    assert_restored(ct, clean, encode(record), {each.path for each in dropped})


def test_twice_hidden_is_twice_restored(ct: Dataset) -> None:
    once, first, lost = deidentify(ct, KEY)
    twice, second, _ = deidentify(once, KEY)
    again = restore(twice, second)
    assert again == once
    assert_restored(ct, again, encode(first), {each.path for each in lost})


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "PatientName",
                "PatientID",
                "StudyDescription",
                "PatientComments",
                "StudyTime",
                "PatientBirthDate",
                "ImageType",
            ]
        ),
        st.binary(max_size=64).filter(lambda raw: len(raw) % 2 == 0),
        max_size=7,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_bytes_in_a_value_come_back(raws: dict[str, bytes]) -> None:
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    ds = dcmread(get_testdata_file("MR_small.dcm"))
    for keyword, raw in raws.items():
        tag = Tag(tag_for_keyword(keyword))
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
    wanted = {keyword: leaf(ds, tag_for_keyword(keyword)) for keyword in raws}
    clean, record, _ = deidentify(ds, KEY)
    restored = restore(clean, decode(encode(record)))
    assert {keyword: leaf(restored, tag_for_keyword(keyword)) for keyword in raws} == wanted


def test_text_keeps_its_character_set(ct: Dataset) -> None:
    ct.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ct.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    clean, record, _ = deidentify(ct, KEY)
    assert (
        str(restore(clean, decode(encode(record))).PatientName)
        == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    )
    assert "山田" in str(as_dataset(record).PatientName)


def test_private_and_large_values_are_listed_not_recorded(ct: Dataset) -> None:
    block = ct.private_block(0x0011, "INVENTED", create=True)
    block.add_new(1, "OB", PRIVATE_NOTE)
    ct.PatientComments = "Invented, " * 200
    icon = Dataset()
    icon.Rows, icon.Columns, icon.PixelData = 64, 64, bytes(4096)
    ct.IconImageSequence = Sequence([icon])
    ct.add_new(0x60003000, "OW", bytes(2000))
    ct.add_new(0x60000010, "US", 128)
    clean, record, dropped = deidentify(ct, KEY)
    listed = {each.path: each.size for each in dropped}
    assert listed[str(block.get_tag(1))] == len(PRIVATE_NOTE) and listed["(0010,4000)"] == 2000
    assert listed["(0088,0200)"] == 4100 and listed["(6000,3000)"] == 2000
    for tag in (0x00104000, 0x00880200, 0x60003000, 0x60000010):
        assert tag not in clean
    assert "Invented" not in " ".join(map(str, dropped))
    assert PRIVATE_NOTE not in b"".join(each.value for each in record.level.leaves())


def test_burned_in_annotation_is_refused_unless_allowed(ct: Dataset) -> None:
    ct.BurnedInAnnotation = "YES"
    with pytest.raises(BurnedInAnnotationError):
        deidentify(ct, KEY)
    assert deidentify(ct, KEY, allow_burned_in=True)[0].PatientIdentityRemoved == "YES"


@pytest.mark.parametrize("file", ["CT_small.dcm", "MR_small_bigendian.dcm", "rtdose.dcm"])
def test_the_mark_survives_the_file_and_goes_with_the_restoration(
    file: str, tmp_path: Path
) -> None:
    ds = dcmread(get_testdata_file(file))
    assert read_mark(ds) is None
    clean, record, _ = deidentify(ds, KEY)
    write_mark(clean, Mark(1, "default", 6.5, b"\x00\x01\xfe\xff5678"))
    clean.save_as(tmp_path / "marked.dcm")
    again = dcmread(tmp_path / "marked.dcm")
    assert read_mark(again) == Mark(1, "default", 6.5, b"\x00\x01\xfe\xff5678")
    assert read_mark(restore(again, record)) is None


def test_a_mark_written_into_a_copy_is_in_the_copy_alone(ct: Dataset) -> None:
    # pydicom's copy of a data set keeps private blocks that write into the original.
    clean, _, _ = deidentify(ct, KEY)
    write_mark(clean, Mark(1, "default", 6.5, bytes(8)))
    assert read_mark(clean) is not None
    copied = copy.deepcopy(clean)
    write_mark(copied, Mark(1, "robust", 64.0, bytes(8)))
    for ds, profile in ((clean, "default"), (copied, "robust")):
        mark = read_mark(ds)
        assert mark is not None and mark.profile == profile


def test_a_mark_that_makes_no_sense_is_none(ct: Dataset) -> None:
    ct.private_block(0x0099, "COVERSLIP", create=True).add_new(1, "LO", "nonsense")
    assert read_mark(ct) is None


def test_the_table_is_the_profile() -> None:
    assert (
        action_for(0x00100010) == "Z"
        and action_for(0x00101040) == "X"
        and action_for(0x00080018) == "U"
    )
    assert (
        action_for(0x60023000) == "X"
        and action_for(0x50041234) == "X"
        and action_for(0x00280010) is None
    )


def test_pydicom_never_says_a_value_aloud(tmp_path: Path) -> None:
    """A value that breaks its VR's rules makes pydicom warn with the value in the text."""
    script = (
        "import sys, logging; logging.basicConfig(level=0)\n"
        "from coverslip.dicom.instance import read_instance, write_instance\n"
        "from coverslip.deidentification.header import deidentify, restore\n"
        "i = read_instance(sys.argv[1])\n"
        "c, r, d = deidentify(i.dataset, bytes(32)); str(c)\n"
        "write_instance(i.with_dataset(restore(c, r)), i.planes, sys.argv[2])\n"
    )
    ds = dcmread(get_testdata_file("CT_small.dcm"))
    raw = b"NemoNobody" * 20
    for tag, vr in (
        (0x00100010, "PN"),
        (0x00100020, "LO"),
        (0x00100030, "DA"),
        (0x00101020, "DS"),
        (0x0020000D, "UI"),
    ):
        from pydicom.dataelem import RawDataElement
        from pydicom.tag import Tag

        ds[Tag(tag)] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)
    ds.save_as(tmp_path / "in.dcm")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "always",
            "-c",
            script,
            str(tmp_path / "in.dcm"),
            str(tmp_path / "out.dcm"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:].replace("NemoNobody", "***")
    assert "NemoNobody" not in done.stdout + done.stderr
