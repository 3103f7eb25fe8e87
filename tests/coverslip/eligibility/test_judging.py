from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from coverslip.eligibility import ALLOWABLE, EXCLUSIONS, Kind, burned_in, describe, judge
from coverslip.eligibility.sop_classes import LOSSLESS
from coverslip.pixels import decoding
from tests.coverslip.eligibility.headers import (
    ct,
    enhanced_ct,
    enhanced_mr,
    header,
    item,
    mr,
    original_mr,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

NEVER = frozenset(Kind) - frozenset(ALLOWABLE)


def kinds(ds: Dataset) -> set[Kind]:
    return set(judge(ds).kinds)


@pytest.mark.parametrize(
    "ds",
    [
        ct(),
        ct("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI", RescaleType="HU"),
        ct("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE", SeriesDescription="CHEST CORONAL"),
        ct("DERIVED", "PRIMARY", "MPR"),
        ct("DERIVED", "SECONDARY", "PROCESSED"),
        ct(SeriesDescription="LUNG SCREEN", ProtocolName="5.1 CHEST ROUTINE"),
        ct(SeriesDescription="ARTERIAL PHASE"),
        ct(Rows=512, Columns=512, PixelSpacing=[0.9, 0.9], ReconstructionDiameter=460),
        mr(),
        mr("ORIGINAL", "PRIMARY"),
        original_mr("M", "ND", "NORM"),
        original_mr("M_FFE", "M", "FFE", RescaleType="normalized"),
        original_mr("M", "NORM", "IN_PHASE"),
        mr("DERIVED", "SECONDARY"),
        mr("DERIVED", "SECONDARY", "OTHER"),
        mr("DERIVED", "SECONDARY", "MPR", "CSA MPR", "", "CSAPARALLEL", "M", "ND", "NORM"),
        original_mr("OTHER", SeriesDescription="t1_tfl_tra_IP TE 4.1"),
        original_mr("OTHER", Rows=512, Columns=512, AcquisitionMatrix=[256, 0, 0, 192]),
        original_mr("OTHER", Rows=1200, Columns=400, PixelSpacing=[1.2, 1.2]),
        enhanced_ct(["ORIGINAL", "PRIMARY", "AXIAL", "NONE"], PixelPresentation="MONOCHROME"),
        enhanced_mr({"FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]}),
    ],
)
def test_plain_ct_and_mr_carry(ds: Dataset) -> None:
    assert judge(ds).may_carry
    assert judge(ds).kinds == ()


@pytest.mark.parametrize(
    ("ds", "kind"),
    [
        (ct(Rows=None), Kind.NO_PIXELS),
        (ct(SamplesPerPixel=3), Kind.COLOUR),
        (ct(PhotometricInterpretation="PALETTE COLOR"), Kind.COLOUR),
        (ct(BitsAllocated=1, BitsStored=1), Kind.ONE_BIT),
        (ct(BitsAllocated=32, BitsStored=32), Kind.DEEP),
        (ct("ORIGINAL", "PRIMARY", "LOCALIZER"), Kind.LOCALIZER),
        (ct("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 TOP"), Kind.LOCALIZER),
        (ct(ScanOptions="SCOUT MODE"), Kind.LOCALIZER),
        (ct("DERIVED", "SECONDARY", "3D"), Kind.PROJECTION),
        (ct("DERIVED", "SECONDARY", "REFORMATTED", "MIP"), Kind.PROJECTION),
        (ct("DERIVED", "SECONDARY", "REFORMATTED", "MIN IP"), Kind.PROJECTION),
        (ct(SeriesDescription="Cor MIP 10mm"), Kind.PROJECTION),
        (ct("DERIVED", "SECONDARY", "SCREEN SAVE"), Kind.SECONDARY_CAPTURE),
        (ct(ConversionType="WSD"), Kind.SECONDARY_CAPTURE),
        (ct(SeriesDescription="Dose Report"), Kind.SECONDARY_CAPTURE),
        (ct(RescaleType="Z_EFF"), Kind.DERIVED_MAP),
        (ct("DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"), Kind.DERIVED_MAP),
        (ct("DERIVED", "PRIMARY", "AXIAL", "DENOISED BY X"), Kind.UNKNOWN_DERIVATION),
        (ct(Modality="MR"), Kind.CONTRADICTION),
        (ct(Modality=None), Kind.CONTRADICTION),
        (ct(Modality=["CT", "CT"]), Kind.CONTRADICTION),
        (ct(ImageType=None), Kind.NO_IMAGE_TYPE),
        (ct("ORIGINAL"), Kind.NO_IMAGE_TYPE),
        (ct("ORIGINAL PRIMARY", "AXIAL"), Kind.NO_IMAGE_TYPE),
        (ct(QualityControlImage="YES"), Kind.PHANTOM),
        (ct(SeriesDescription="Water phantom"), Kind.PHANTOM),
        (original_mr("M", "ND", "mosaic"), Kind.MOSAIC),
        (original_mr("M", "VFRAME"), Kind.MOSAIC),
        (original_mr("M", Rows=384, Columns=384, PixelSpacing=[3, 3]), Kind.MOSAIC),
        (
            original_mr("M", Rows=384, Columns=384, AcquisitionMatrix=[64, 0, 0, 64]),
            Kind.MOSAIC,
        ),
        (ct(PixelSpacing=[0.9, 0.9], ReconstructionDiameter=460), Kind.CROPPED),
        (original_mr("OTHER", SeriesDescription="3-PLANE LOC"), Kind.LOCALIZER),
        (original_mr("OTHER", ProtocolName="AAHead_Scout_64ch"), Kind.LOCALIZER),
        (mr("DERIVED", "PRIMARY", "PROJECTION IMAGE"), Kind.PROJECTION),
        (mr("DERIVED", "SECONDARY", "ADC"), Kind.DERIVED_MAP),
        (mr("DERIVED", "PRIMARY", "T2_STAR MAP"), Kind.DERIVED_MAP),
        (mr("DERIVED", "PRIMARY", "DIFFUSION", "FA"), Kind.DERIVED_MAP),
        (original_mr("OTHER", SeriesDescription="3DB0Map"), Kind.DERIVED_MAP),
        (mr("DERIVED", "PRIMARY", "MODULUS SUBTRACT"), Kind.SUBTRACTION),
        (original_mr("P", "ND"), Kind.PHASE),
        (original_mr("PHASE MAP", "P", "FFE"), Kind.PHASE),
        (original_mr("OTHER", ComplexImageComponent="REAL"), Kind.PHASE),
        (original_mr("M", "NORM", "FAT"), Kind.FAT_SUPPRESSED),
        (original_mr("M", ScanOptions=["PFP", "FS"]), Kind.FAT_SUPPRESSED),
        (original_mr("M", SeriesDescription="t2_tse_fs_tra"), Kind.FAT_SUPPRESSED),
        (original_mr("DIFFUSION", "NONE", "TRACEW"), Kind.DIFFUSION),
        (original_mr("OTHER", DiffusionBValue=500), Kind.DIFFUSION),
        (original_mr("PERFUSION_FFE", "PERFUSION", "FFE"), Kind.PERFUSION),
        (original_mr("OTHER", ScanningSequence=["EP", "SE"]), Kind.ECHO_PLANAR),
        (original_mr("FMRI", "NONE"), Kind.ECHO_PLANAR),
        (original_mr("OTHER", BodyPartExamined="HEART"), Kind.CHEST_MR),
        (original_mr("OTHER", CardiacNumberOfImages=20), Kind.CHEST_MR),
        (original_mr("K_SPACE"), Kind.RAW_SIGNAL),
        (mr("DERIVED", "SECONDARY", "PROCESSED"), Kind.UNKNOWN_DERIVATION),
        (
            enhanced_mr(ComplexImageComponent="MIXED"),
            Kind.PHASE,
        ),
        (
            enhanced_mr(ImageType=["DERIVED", "PRIMARY", "T1", "T1"]),
            Kind.DERIVED_MAP,
        ),
        (
            enhanced_ct(["DERIVED", "PRIMARY", "VOLUME", "NONE"], PixelPresentation="COLOR"),
            Kind.DERIVED_MAP,
        ),
        (
            enhanced_ct(
                ["DERIVED", "PRIMARY", "VOLUME", "NONE"], VolumeBasedCalculationTechnique="MAX_IP"
            ),
            Kind.PROJECTION,
        ),
    ],
)
def test_what_is_no_plain_slice_is_named(ds: Dataset, kind: Kind) -> None:
    judgement = judge(ds)
    assert not judgement.may_carry
    assert kind in judgement.kinds


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        (uid.SecondaryCaptureImageStorage, Kind.SECONDARY_CAPTURE),
        (uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage, Kind.SECONDARY_CAPTURE),
        (uid.ComputedRadiographyImageStorage, Kind.RADIOGRAPH),
        (uid.DigitalMammographyXRayImageStorageForPresentation, Kind.RADIOGRAPH),
        (uid.XRayAngiographicImageStorage, Kind.RADIOGRAPH),
        (uid.XRayRadiofluoroscopicImageStorage, Kind.RADIOGRAPH),
        (uid.RTImageStorage, Kind.RADIOGRAPH),
        (uid.NuclearMedicineImageStorage, Kind.NUCLEAR),
        (uid.PositronEmissionTomographyImageStorage, Kind.NUCLEAR),
        (uid.UltrasoundImageStorage, Kind.ULTRASOUND),
        (uid.OphthalmicPhotography8BitImageStorage, Kind.PHOTOGRAPH),
        (uid.VLWholeSlideMicroscopyImageStorage, Kind.PHOTOGRAPH),
        (uid.SegmentationStorage, Kind.LABEL_MAP),
        (uid.RTDoseStorage, Kind.DOSE),
        (uid.ParametricMapStorage, Kind.PARAMETRIC_MAP),
        (uid.EnhancedMRColorImageStorage, Kind.OTHER_CLASS),
        (uid.XRay3DAngiographicImageStorage, Kind.OTHER_CLASS),
        ("1.2.840.10008.5.1.4.1.1.2.9", Kind.OTHER_CLASS),
        ("1.2.3", Kind.OTHER_CLASS),
        ("", Kind.OTHER_CLASS),
    ],
)
def test_every_other_class_has_a_kind(sop_class: str, kind: Kind) -> None:
    assert kinds(header(sop_class, "OT", ImageType=["ORIGINAL", "PRIMARY"])) == {kind}


def test_an_object_without_pixels_is_only_that() -> None:
    ds = header(uid.BasicTextSRStorage, "SR")
    del ds.PixelData
    assert judge(ds).kinds == (Kind.NO_PIXELS,)
    assert judge(Dataset()).kinds == (Kind.NO_PIXELS,)


def test_floating_point_pixels_are_told_from_none() -> None:
    ds = header(uid.ParametricMapStorage, "MR")
    del ds.PixelData
    ds.FloatPixelData = bytes(4 * 64 * 64)
    assert Kind.FLOATING_POINT in kinds(ds)


def test_a_lossy_transfer_syntax_is_never_allowed() -> None:
    ds = ct()
    ds.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    assert judge(ds, ALLOWABLE).excluded_by == (Kind.TRANSFER_SYNTAX,)


def test_the_lossless_transfer_syntaxes_are_those_that_can_be_written_again() -> None:
    assert decoding.NATIVE | decoding.LOSSLESS == LOSSLESS


def test_file_meta_information_of_another_class_is_a_contradiction() -> None:
    ds = ct()
    ds.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    assert kinds(ds) == {Kind.CONTRADICTION}


def test_one_excluded_frame_excludes_the_instance() -> None:
    plain = {
        "FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"],
        "ComplexImageComponent": "MAGNITUDE",
    }
    phase = {**plain, "ComplexImageComponent": "PHASE"}
    assert judge(enhanced_mr(plain, plain, ComplexImageComponent="MAGNITUDE")).may_carry
    assert kinds(enhanced_mr(plain, phase, ComplexImageComponent="MIXED")) == {Kind.PHASE}
    adc = {"FrameType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}
    assert Kind.DERIVED_MAP in kinds(enhanced_mr(plain, adc))


def test_units_and_weights_of_frames_are_read() -> None:
    ds = enhanced_mr({"FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]})
    group = ds.PerFrameFunctionalGroupsSequence[0]
    group.MRDiffusionSequence = Sequence([item(DiffusionBValue=1000.0)])
    assert kinds(ds) == {Kind.DIFFUSION}
    group.MRDiffusionSequence[0].DiffusionBValue = 0.0
    unit = item(CodeValue="mm2/s")
    group.RealWorldValueMappingSequence = Sequence(
        [item(MeasurementUnitsCodeSequence=Sequence([unit]))]
    )
    assert kinds(ds) == {Kind.DERIVED_MAP}
    unit.CodeValue = "1"
    assert judge(ds).may_carry


def test_tiles_and_phase_are_found_in_private_elements() -> None:
    tiled = original_mr("M", "ND")
    tiled.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    assert kinds(tiled) == {Kind.MOSAIC}
    for number, expected in ((0, set()), (1, {Kind.PHASE}), (3, {Kind.PHASE})):
        ds = original_mr("OTHER")
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", number)
        assert kinds(ds) == expected


def test_the_patient_is_not_read() -> None:
    assert judge(ct(PatientName="Phantom^Mosaic", PatientID="QA LOCALIZER")).may_carry


def test_what_an_operator_allows_carries_and_is_still_named() -> None:
    ds = original_mr("OTHER", ScanningSequence="EP", DiffusionBValue=1000)
    assert judge(ds, [Kind.DIFFUSION]).excluded_by == (Kind.ECHO_PLANAR,)
    judgement = judge(ds, [Kind.DIFFUSION, Kind.ECHO_PLANAR])
    assert judgement.may_carry
    assert judgement.kinds == (Kind.DIFFUSION, Kind.ECHO_PLANAR)


@pytest.mark.parametrize("kind", sorted(NEVER))
def test_what_can_never_be_allowed_is_refused(kind: Kind) -> None:
    with pytest.raises(ValueError, match=f"{kind.value} never carry; allowable are"):
        judge(ct(), [kind])


def test_a_kind_is_known_by_its_name() -> None:
    assert Kind("mosaic") is Kind.MOSAIC
    with pytest.raises(ValueError, match="mosaics"):
        Kind("mosaics")


def test_every_kind_has_one_row_and_reads_as_a_sentence() -> None:
    assert sorted(row.kind for row in EXCLUSIONS) == sorted(Kind)
    for kind in Kind:
        assert describe(kind)[0].isupper() and describe(kind).endswith(".")


@pytest.mark.parametrize("name", ["MR_small.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_real_slices_are_not_excluded(name: str) -> None:
    assert judge(dcmread(str(get_testdata_file(name)))).may_carry


@pytest.mark.parametrize(
    "name", ["rtdose.dcm", "SC_rgb_small_odd.dcm", "liver_1frame.dcm", "CT_small.dcm"]
)
def test_real_objects_of_other_kinds_are_excluded(name: str) -> None:
    assert judge(dcmread(str(get_testdata_file(name)))).excluded_by


KEYWORDS = (
    "SOPClassUID Modality ImageType FrameType SeriesDescription DerivationDescription ProtocolName "
    "StudyDescription BodyPartExamined ComplexImageComponent VolumeBasedCalculationTechnique "
    "AcquisitionContrast PixelPresentation RescaleType CodeValue ScanningSequence ScanOptions "
    "ConversionType DateOfSecondaryCapture QualityControlImage QualityControlSubject "
    "ContentQualification SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated "
    "BitsStored ReconstructionDiameter PixelSpacing AcquisitionMatrix DiffusionBValue "
    "CardiacNumberOfImages "
    "EchoPlanarPulseSequence BurnedInAnnotation RecognizableVisualFeatures "
    "SpectrallySelectedSuppression SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence "
    "MRImageFrameTypeSequence CTImageFrameTypeSequence MRDiffusionSequence MRModifierSequence "
    "RealWorldValueMappingSequence MeasurementUnitsCodeSequence PixelValueTransformationSequence"
)
READ = tuple(KEYWORDS.split())
REPRESENTATIONS = ("CS", "DS", "FD", "IS", "LO", "OB", "OW", "PN", "SQ", "SS", "UI", "UN", "US")

scalars = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=12),
    st.sampled_from(["MR", "DERIVED\\PRIMARY\\MOSAIC", "", "\\", "NaN", "1e999"]),
)


@st.composite
def raw_elements(draw: st.DrawFn) -> RawDataElement:
    """What a reader has of an element before it looks into it: any bytes under any VR."""
    tag = Tag(tag_for_keyword(draw(st.sampled_from(READ))) or 0)
    value = draw(st.binary(max_size=24))
    representation = draw(st.sampled_from(REPRESENTATIONS))
    return RawDataElement(tag, representation, len(value), value, 0, False, True)


@st.composite
def parsed_elements(draw: st.DrawFn, depth: int = 2) -> Any:
    """A keyword with a value of any type, sequences included."""
    values: st.SearchStrategy[Any] = st.one_of(scalars, st.lists(scalars, max_size=4))
    if depth:
        inner = st.lists(parsed_elements(depth=depth - 1), max_size=3)
        values = st.one_of(values, st.lists(inner, max_size=2).map(sequence_of))
    return draw(st.sampled_from(READ)), draw(values)


def sequence_of(items: list[list[tuple[str, Any]]]) -> Sequence:
    return Sequence(put(Dataset(), elements) for elements in items)


def put(ds: Dataset, elements: list[tuple[str, Any]]) -> Dataset:
    """Put elements as they are, whatever VR they should have."""
    for keyword, value in elements:
        tag = Tag(tag_for_keyword(keyword) or 0)
        representation = "SQ" if isinstance(value, Sequence) else "UN"
        element = DataElement(tag, representation, Sequence() if representation == "SQ" else b"")
        element._value = value
        ds._dict[tag] = element
    return ds


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([ct(), mr(), enhanced_mr({}), header("", "")]),
    st.lists(parsed_elements(), max_size=8),
    st.lists(raw_elements(), max_size=8),
    st.booleans(),
)
def test_no_value_makes_the_judgement_fail(
    base: Dataset, parsed: list[tuple[str, Any]], raw: list[RawDataElement], bare: bool
) -> None:
    ds = copy.deepcopy(base)
    if bare:
        del ds.file_meta
    put(ds, parsed)
    for element in raw:
        ds._dict[element.tag] = element
    judgement = judge(ds)
    burned_in(ds)
    assert judgement.may_carry == (not judgement.kinds)


def test_the_header_is_not_changed() -> None:
    ds = enhanced_mr({"FrameType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]})
    before = copy.deepcopy(ds)
    judge(ds)
    burned_in(ds)
    assert ds == before


@given(st.sampled_from(["mosaic", "Mosaic", " MOSAIC ", "MoSaIc\0"]))
def test_case_and_padding_do_not_matter(term: str) -> None:
    ds = original_mr("M")
    ds["ImageType"].value = ["original", "Primary ", term]
    assert kinds(ds) == {Kind.MOSAIC}


def test_a_class_is_no_prefix_of_another() -> None:
    assert UID(uid.VLEndoscopicImageStorage).startswith(uid.SecondaryCaptureImageStorage)
    assert kinds(header(uid.VLEndoscopicImageStorage, "ES")) == {Kind.PHOTOGRAPH}
