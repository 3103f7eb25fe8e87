"""What keeps a record out of the pixels, and why: one table, and the words that tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from coverslip.eligibility import sop_classes
from coverslip.eligibility.header_facts import HeaderFacts
from coverslip.eligibility.phrases import Phrases, terms


class Kind(str, Enum):
    """A reason, found in the header, for which pixels do not carry.

    The values are names for the command line and for reports; they never change once released.
    """

    NO_PIXELS = "no-pixels"
    COLOUR = "colour"
    FLOATING_POINT = "floating-point"
    ONE_BIT = "one-bit"
    DEEP = "deep"
    TRANSFER_SYNTAX = "transfer-syntax"
    LABEL_MAP = "label-map"
    DOSE = "dose"
    PARAMETRIC_MAP = "parametric-map"
    SECONDARY_CAPTURE = "secondary-capture"
    RADIOGRAPH = "radiograph"
    NUCLEAR = "nuclear"
    ULTRASOUND = "ultrasound"
    PHOTOGRAPH = "photograph"
    OTHER_CLASS = "other-class"
    CONTRADICTION = "contradiction"
    NO_IMAGE_TYPE = "no-image-type"
    MOSAIC = "mosaic"
    CROPPED = "cropped"
    LOCALIZER = "localizer"
    PROJECTION = "projection"
    DERIVED_MAP = "derived-map"
    SUBTRACTION = "subtraction"
    PHASE = "phase"
    FAT_SUPPRESSED = "fat-suppressed"
    DIFFUSION = "diffusion"
    PERFUSION = "perfusion"
    ECHO_PLANAR = "echo-planar"
    CHEST_MR = "chest-mr"
    RAW_SIGNAL = "raw-signal"
    PHANTOM = "phantom"
    UNKNOWN_DERIVATION = "unknown-derivation"


_WIDEST_MR = 600.0
"""Field of view that no MR slice has both ways, mm: the bore is hardly wider. Mosaics, whose pixel
spacing is that of a tile, have 850 and more."""

_SMALLEST_VIEW = 0.9
"""Least share of the Reconstruction Diameter that an image shows whole: scanners write 1.0 to 1.2,
cropped images have 0.4 and less."""

_MONOCHROME = (("MONOCHROME1",), ("MONOCHROME2",))

_LARGEST_INTERPOLATION = 3.0
"""Pixels that an MR slice has for each sample measured, at most; mosaics have 4 to 8."""

_MOSAIC_TERM = Phrases("MOSAIC VFRAME")
_LOCALIZER_TERM = Phrases(r"LOCALI[SZ]ER SCOUT(_MODE)? CT_SOM\d*_TOP TOPOGRAM SURVIEW")
_LOCALIZER_TITLE = Phrases(
    r"\w*LOCALI[SZ]ER\w* LOKALI\w* LOC \w*SCOUT\w* TOPO(GRAM\w*)? SCANO(GRAM\w*)? SURVIEW SURVEY "
    r"PILOT SMARTBRAIN (3|TRI|THREE)_?(PLANE|PL) ÜBERSICHT REP[EÉ]RAGE"
)
_PROJECTION_TERM = Phrases(
    r"\w*MIPS? M[AI][XN]_IP MNIP MAXIMUM MINIMUM PROJECTION(_IMAGE)? COLLAPSE VRT? SSD 3D VOLREN "
    r"\w*RENDER\w* CURVED CPR RAYSUM DRR"
)
_PROJECTION_TITLE = Phrases(
    r"(T|MIN)?MIPS? M[AI][XN]_IP MNIP VRT SSD \w*RENDER\w* CURVED CPR COLLAPSED? DRR "
    r"MAXIMUM_INTENSITY\w*"
)
_MAP_TERM = Phrases(
    r"\w*MAPS? E?ADC FA TENSOR DIFFUSION_(ANISO|ATTNTD) (R|REL)?CB[FV] (R|REL)?MTT TTP TMAX PBP "
    r"GBP KTRANS KEP VE VP I?AUC SER R[12](_STAR)? (FAT|WATER)_FRACTION STD_?DEV(IATION)? QUANTITY "
    r"METABOLITE TEMPERATURE TCS SNR NEI SCM RHO R_COEFFICIENT T_?TEST Z_?SCORE IODINE VNC "
    r"MAT_(SPECIFIC|REMOVED|FRACTIONAL|MODIFIED|VALUE_BASED) EFF_ATOMIC_NUM ELECTRON_DENSITY Z_EFF "
    r"MULTIPLICATION DIVISION"
)
_MAP_TITLE = Phrases(
    r"\w*MAPS? E?ADC APPARENT_DIFFUSION FRACTIONAL_ANISOTROPY COLFA (R|REL)?CB[FV] (R|REL)?MTT TTP "
    r"TMAX KTRANS FAT_FRACTION IODINE VNC SIGNAL_ENHANCEMENT_RATIO"
)
_SUBTRACTION_TERM = Phrases(r"SUB SUBTRACT\w* DIFFERENCE")
_SUBTRACTION_TITLE = Phrases(r"SUBTRACT\w* SUBTR")
_PHASE_TERM = Phrases("(PHASE|VELOCITY|B0|FIELD)_MAP PHASE_SUBTRACT")
_PHASE_VALUES = terms("P R I PHASE REAL IMAGINARY VELOCITY")
_WATER_FAT_VALUES = terms("W F WATER FAT")
_FAT_SUPPRESSED = Phrases(r"FS FAT_?SAT\w* FAT_SUP\w* SPIR SPAIR STIR")
_DIFFUSION_TERM = Phrases("DIFFUSION TRACEW? DWI DTI")
_DIFFUSION_TITLE = Phrases(r"DWI DTI?\w* TRACEW DIFFUSION \w*DIFF")
_PERFUSION_TERM = Phrases(r"PERFUSION \w*ASL")
_PERFUSION_TITLE = Phrases(r"PERFUSION \w*ASL DSC")
_ECHO_PLANAR = Phrases("EPI FMRI BOLD")
_CHEST = Phrases("HEART CARDIAC CARDRESP_GATED CHEST THORAX LUNG BREAST MEDIASTINUM")
_RAW_TERM = Phrases("K_?SPACE SPECTROSCOPY SPEC RAW")
_CAPTURE_TERM = Phrases("SCREEN SCREEN(SAVE|SHOT) SAVE CAPTURE DOSE REPORT")
_CAPTURE_TITLE = Phrases(
    "SCREEN_?(SAVE|SHOT|CAPTURE)S? DOSE_(REPORT|SUMMARY|RECORD|INFO) PATIENT_PROTOCOL"
)
_PHANTOM_TITLE = Phrases("PHANTOMS? CATPHAN Q[AC]")

_AIR_STAYS_AIR = (
    # Planes, and means over a slab: air averages to air.
    terms("AXIAL CORONAL SAGITTAL OBLIQUE MPR CSA_MPR CSAPARALLEL REFORMATTED AVERAGE MEAN")
    | terms("ADDITION IMAGE_ADDITION ADD RESAMPLED COMPOSED VOLUME")
    # How a slice was measured or filtered.
    | terms("M M_FFE M_SE M_IR M_TSE FFE SE IR TSE ND NORM NORMAL DIS2D DIS3D MFSPLIT GDC UCA IF")
    | terms("FIL FILTERED HELIX CT_SOM4_SPI CT_SOM5_SPI CT_SOM5_SEQ CT_SOM5_MON CT_SOM7_SPI VMI")
    | terms("IN_PHASE OPP_PHASE OUT_PHASE ENERGY_PROP_WT")
    # Image flavours that tell of the acquisition only (PS3.3 section C.8.16.1.3).
    | terms("ANGIO ANGIO_TIME CINE DYNAMIC FLUID_ATTENUATED MULTIECHO NON_PARALLEL PARALLEL REST")
    | terms("POST_CONTRAST PRE_CONTRAST PROTON_DENSITY RESP_GATED STATIC STRESS T1 T2")
    | terms("T2_STAR TOF WHOLE_BODY")
    # Archives and de-identifiers write these: they say nothing.
    | terms("OTHER NONE MIXED")
)
"""Terms of the Image Type of a DERIVED image that leave air as air."""

_PLAIN_CONTRASTS = terms("NONE MIXED MEAN ADDITION RESAMPLED ENERGY_PROP_WT IN_PHASE OPP_PHASE")
"""Values 4 of enhanced images that leave air as air (PS3.3 section C.8.16.1.4)."""

_PLAIN_UNITS = terms(
    "1 HU HNSF_U HOUNSFIELD_UNIT HOUNSFIELD_UNITS HOUNDSFIELD_UNIT US NORMALIZED UNSPECIFIED "
    "PIXELVALUE SIGNAL_INTENSITY_UNITLESS NO_UNITS COUNTS"
)
"""Units of CT, and of MR signal, which has none."""


def cannot_be_read(facts: HeaderFacts) -> bool:
    """Whether there are no pixels, or the header does not say how they lie."""
    sizes = (facts.number(keyword) for keyword in ("Rows", "Columns", "BitsAllocated"))
    return not facts.has("FloatPixelData", "DoubleFloatPixelData") and (
        not facts.has("PixelData") or any(size is None or size < 1 for size in sizes)
    )


def _is_colour(facts: HeaderFacts) -> bool:
    meaning = facts.texts("PhotometricInterpretation")
    return facts.number("SamplesPerPixel") != 1 or meaning not in _MONOCHROME


def is_secondary_capture(facts: HeaderFacts) -> bool:
    """Whether the pixels come from a screen, a page or a film (PS3.3 section C.8.6.1)."""
    device = facts.texts(
        "ConversionType",
        "DateOfSecondaryCapture",
        "SecondaryCaptureDeviceID",
        "SecondaryCaptureDeviceManufacturer",
    )
    return (
        facts.in_class(sop_classes.SECONDARY_CAPTURE)
        or (facts.carries and bool(device))
        or _CAPTURE_TERM.found_in(facts.terms)
        or _CAPTURE_TITLE.found_in(facts.titles)
    )


def _contradicts_itself(facts: HeaderFacts) -> bool:
    return facts.carries and (
        facts.texts("Modality") != (("MR",) if facts.mr else ("CT",))
        or facts.stored_as not in ("", facts.sop_class)
    )


def _lacks_image_type(facts: HeaderFacts) -> bool:
    return facts.carries and any(
        len(values) < 2 or values[0] not in ("ORIGINAL", "DERIVED", "MIXED")
        for values in facts.image_types
    )


def _is_wider_than_the_bore(facts: HeaderFacts) -> bool:
    sides = (facts.number("Rows"), facts.number("Columns"))
    spacing = facts.numbers("PixelSpacing")
    return len(spacing) == 2 and all(
        (side or 0) * pitch > _WIDEST_MR for side, pitch in zip(sides, spacing, strict=True)
    )


def _is_larger_than_measured(facts: HeaderFacts) -> bool:
    measured = max(facts.numbers("AcquisitionMatrix"), default=0)
    sides = (facts.number("Rows") or 0, facts.number("Columns") or 0)
    return measured > 0 and min(sides) > _LARGEST_INTERPOLATION * measured


def _is_mosaic(facts: HeaderFacts) -> bool:
    return _MOSAIC_TERM.found_in(facts.terms) or (
        facts.mr
        and (
            facts.private(0x0019, "SIEMENS MR HEADER", 0x0A) != ""
            or _is_wider_than_the_bore(facts)
            or _is_larger_than_measured(facts)
        )
    )


def _is_cropped(facts: HeaderFacts) -> bool:
    whole = facts.number("ReconstructionDiameter") or 0
    sides = (facts.number("Rows") or 0, facts.number("Columns") or 0)
    spacing = facts.numbers("PixelSpacing")
    return (
        facts.carries
        and len(spacing) == 2
        and all(
            0 < side * pitch < _SMALLEST_VIEW * whole
            for side, pitch in zip(sides, spacing, strict=True)
        )
    )


def _is_localizer(facts: HeaderFacts) -> bool:
    return _LOCALIZER_TERM.found_in(
        facts.terms, facts.texts("ScanOptions")
    ) or _LOCALIZER_TITLE.found_in(facts.titles, facts.texts("ProtocolName"))


def _is_projection(facts: HeaderFacts) -> bool:
    techniques = facts.everywhere("VolumeBasedCalculationTechnique")
    return (
        not techniques <= {"NONE", "MPR", "MIXED"}
        or techniques == {"MIXED"}
        or _PROJECTION_TERM.found_in(facts.terms)
        or _PROJECTION_TITLE.found_in(facts.titles)
    )


def _is_derived_map(facts: HeaderFacts) -> bool:
    contrasts = {values[3] for values in facts.image_types if len(values) > 3 and values[3]}
    named = _PLAIN_CONTRASTS | _WATER_FAT_VALUES | _PHASE_VALUES | {"SUBTRACTION"}
    return (
        (_MAP_TERM.found_in(facts.terms) and not _PHASE_TERM.found_in(facts.terms))
        or _MAP_TITLE.found_in(facts.titles)
        or (facts.carries and not facts.units <= _PLAIN_UNITS)
        or (facts.carries and not facts.everywhere("PixelPresentation") <= {"MONOCHROME"})
        or (facts.enhanced and not contrasts <= named)
    )


def _is_subtraction(facts: HeaderFacts) -> bool:
    return _SUBTRACTION_TERM.found_in(facts.terms) or _SUBTRACTION_TITLE.found_in(facts.titles)


def _is_phase(facts: HeaderFacts) -> bool:
    components = facts.everywhere("ComplexImageComponent")
    return facts.mr and (
        not components <= {"MAGNITUDE", "MIXED"}
        or components == {"MIXED"}
        or bool(facts.terms & _PHASE_VALUES)
        or _PHASE_TERM.found_in(facts.terms)
        # GE: 1 is phase, 2 real, 3 imaginary.
        or facts.private(0x0043, "GEMS_PARM_01", 0x2F) not in ("", "0")
    )


def _is_fat_suppressed(facts: HeaderFacts) -> bool:
    spectral = facts.in_groups(
        "MRModifierSequence", "SpectrallySelectedSuppression", "SpectrallySelectedExcitation"
    )
    return facts.mr and (
        bool(facts.terms & _WATER_FAT_VALUES)
        or not spectral <= {"NONE"}
        or _FAT_SUPPRESSED.found_in(
            facts.terms,
            facts.titles,
            facts.texts("ScanOptions"),
            facts.everywhere("AcquisitionContrast"),
        )
    )


def _is_diffusion(facts: HeaderFacts) -> bool:
    return facts.mr and (
        any(value > 0 for value in facts.b_values)
        or _DIFFUSION_TERM.found_in(facts.terms, facts.everywhere("AcquisitionContrast"))
        or _DIFFUSION_TITLE.found_in(facts.titles)
    )


def _is_perfusion(facts: HeaderFacts) -> bool:
    return _PERFUSION_TERM.found_in(facts.terms, facts.everywhere("AcquisitionContrast")) or (
        facts.mr and _PERFUSION_TITLE.found_in(facts.titles)
    )


def _is_echo_planar(facts: HeaderFacts) -> bool:
    return facts.mr and (
        "EP" in facts.texts("ScanningSequence")
        or "YES" in facts.texts("EchoPlanarPulseSequence")
        or _ECHO_PLANAR.found_in(facts.terms, facts.titles)
    )


def _is_chest_mr(facts: HeaderFacts) -> bool:
    return facts.mr and (
        _CHEST.found_in(
            facts.terms, facts.titles, facts.texts("BodyPartExamined", "StudyDescription")
        )
        or (facts.number("CardiacNumberOfImages") or 0) > 1
    )


def _is_phantom(facts: HeaderFacts) -> bool:
    return (
        bool({"YES", "BOTH"} & {*facts.texts("QualityControlImage", "QualityControlSubject")})
        or "SERVICE" in facts.texts("ContentQualification")
        or _PHANTOM_TITLE.found_in(facts.titles, facts.texts("StudyDescription", "ProtocolName"))
    )


def _has_unknown_derivation(facts: HeaderFacts) -> bool:
    known = _AIR_STAYS_AIR if facts.mr else _AIR_STAYS_AIR | {"PROCESSED"}
    return facts.carries and any(
        values[:1] == ("DERIVED",) and any(term and term not in known for term in values[2:])
        for values in facts.image_types
    )


@dataclass(frozen=True)
class Exclusion:
    """A row of the table: what keeps the record out of the pixels, and why.

    Attributes
    ----------
    kind : Kind
    covers : str
        What it is, as a noun phrase.
    why : str
        Why its pixels do not carry, as a sentence.
    applies : callable
        Whether a header is of this kind.
    may_be_allowed : bool
        Whether an operator who knows the images can let them carry all the same.
    """

    kind: Kind
    covers: str
    why: str
    applies: Callable[[HeaderFacts], bool]
    may_be_allowed: bool = True


EXCLUSIONS: tuple[Exclusion, ...] = (
    Exclusion(
        Kind.NO_PIXELS,
        "objects without pixel data (reports, presentation states, key objects, structure sets, "
        "plans, waveforms, spectroscopy, encapsulated documents), or without the rows, columns and "
        "bits to read them",
        "There is nothing to carry in.",
        cannot_be_read,
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.COLOUR,
        "more than one sample for each pixel, or none stated; a photometric interpretation "
        "other than MONOCHROME1 and MONOCHROME2",
        "The scheme works on one plane of intensities, and a palette's index is none.",
        _is_colour,
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.FLOATING_POINT,
        "pixels that are floating point numbers",
        "The scheme works on integers, and these are computed quantities.",
        lambda facts: facts.has("FloatPixelData", "DoubleFloatPixelData"),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.ONE_BIT,
        "one bit for each pixel",
        "There is no level that a pixel could be moved to.",
        lambda facts: 1 in (facts.number("BitsAllocated"), facts.number("BitsStored")),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.DEEP,
        "more than 16 bits for each pixel",
        "The engines take planes of 16 bits.",
        lambda facts: (facts.number("BitsAllocated") or 0) > 16,
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.TRANSFER_SYNTAX,
        "lossy transfer syntaxes, and those that nothing here decodes",
        "Writing such pixels again would change those of the body, or claim a quality that they "
        "do not have.",
        lambda facts: facts.transfer_syntax not in ("", *sop_classes.LOSSLESS),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.LABEL_MAP,
        "Segmentation, Label Map Segmentation",
        "Zero is a finding there: it says that a pixel does not belong to the structure.",
        lambda facts: facts.in_class(sop_classes.LABEL_MAP),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.DOSE,
        "RT Dose",
        "A dark pixel is a low dose, inside and outside the body, and treatment is planned by it.",
        lambda facts: facts.in_class(sop_classes.DOSE),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.PARAMETRIC_MAP,
        "Parametric Map",
        "Every pixel is a measured quantity, or a mask that says that there is none.",
        lambda facts: facts.in_class(sop_classes.PARAMETRIC_MAP),
        may_be_allowed=False,
    ),
    Exclusion(
        Kind.SECONDARY_CAPTURE,
        "the Secondary Capture classes; screen saves and dose reports by Image Type or "
        "description; CT and MR whose header names a conversion or a capturing device",
        "What surrounds the picture is a screen, a page or a film: its black may hold text and "
        "drawings.",
        is_secondary_capture,
    ),
    Exclusion(
        Kind.RADIOGRAPH,
        "CR, DX, mammography, intra-oral, angiography, fluoroscopy, tomosynthesis, RT Image",
        "The body is cut by the frame and fades into it; what is dark may be collimator, skin line "
        "or lung.",
        lambda facts: facts.in_class(sop_classes.RADIOGRAPH),
    ),
    Exclusion(
        Kind.NUCLEAR,
        "nuclear medicine and PET",
        "A pixel counts decays: few are a finding, and the outline of the body does not show.",
        lambda facts: facts.in_class(sop_classes.NUCLEAR),
    ),
    Exclusion(
        Kind.ULTRASOUND,
        "ultrasound",
        "There is no air around the body; the black around the sector holds scales and text.",
        lambda facts: facts.in_class(sop_classes.ULTRASOUND),
    ),
    Exclusion(
        Kind.PHOTOGRAPH,
        "visible light, ophthalmic images and maps, optical coherence tomography, whole slide "
        "microscopy",
        "The picture fills the frame: what is dark is tissue in shadow.",
        lambda facts: facts.in_class(sop_classes.PHOTOGRAPH),
    ),
    Exclusion(
        Kind.OTHER_CLASS,
        "every other SOP class with pixels, a private or unknown one, or none at all",
        "Nothing is known of what is dark in it.",
        lambda facts: not facts.carries and not facts.in_class(sop_classes.NAMED_CLASSES),
    ),
    Exclusion(
        Kind.CONTRADICTION,
        "a CT class without modality CT, an MR class without modality MR, or another class in the "
        "file meta information",
        "One of the two is wrong, and nothing says which.",
        _contradicts_itself,
    ),
    Exclusion(
        Kind.NO_IMAGE_TYPE,
        "CT and MR whose Image Type or Frame Type has not two values, or does not begin with "
        "ORIGINAL, DERIVED or MIXED",
        "Nothing else says for sure that an image is no localizer, map or projection.",
        _lacks_image_type,
    ),
    Exclusion(
        Kind.MOSAIC,
        "slices tiled into one image: MOSAIC or VFRAME in the Image Type, Siemens' number of "
        "tiles, an MR field of view above 600 mm both ways, more than 3 pixels for each sample "
        "measured",
        "Every tile has air of its own, and between scalp and brain it looks the same.",
        _is_mosaic,
    ),
    Exclusion(
        Kind.CROPPED,
        "a part cut out of a CT or MR slice: a field of view under 90 % of the Reconstruction "
        "Diameter",
        "The body is cut at every edge, and the network was never shown such a view.",
        _is_cropped,
    ),
    Exclusion(
        Kind.LOCALIZER,
        "localizers, scouts, topograms and surveys, by Image Type, scan options, description or "
        "protocol",
        "A CT topogram is a projection that fades into air; an MR survey cuts the body at the "
        "frame, so that lung and dark tissue lie open to the edge.",
        _is_localizer,
    ),
    Exclusion(
        Kind.PROJECTION,
        "maximum and minimum intensity projections, renderings, curved reformats, reconstructed "
        "radiographs; plane reformats carry",
        "Skin and fat are projected away or shaded: part of the dark around the picture is body.",
        _is_projection,
    ),
    Exclusion(
        Kind.DERIVED_MAP,
        "computed maps (ADC, FA, T1, T2, perfusion, fat fraction, material, density), CT and MR "
        "with a physical unit other than Hounsfield's or shown in colour, enhanced images with a "
        "computed contrast",
        "Air is noise of any value or a masked zero, and a low value inside the body is a finding.",
        _is_derived_map,
    ),
    Exclusion(
        Kind.SUBTRACTION,
        "subtraction images",
        "Tissue that did not change is as dark as air.",
        _is_subtraction,
    ),
    Exclusion(
        Kind.PHASE,
        "MR phase, velocity and field map images, real and imaginary parts",
        "Air is noise over the whole range, and tissue near zero is no brighter.",
        _is_phase,
    ),
    Exclusion(
        Kind.FAT_SUPPRESSED,
        "MR with fat suppression, by scan options, spectral suppression or description; MR images "
        "of water or fat alone",
        "One tissue is taken away at the very outline: subcutaneous fat, or skin where fat alone "
        "is shown, is as dark as air.",
        _is_fat_suppressed,
    ),
    Exclusion(
        Kind.DIFFUSION,
        "diffusion-weighted MR and traces, by Image Type, b-value, contrast or description",
        "Scalp, fat and fluid sink into the noise, which is itself measured when it is processed.",
        _is_diffusion,
    ),
    Exclusion(
        Kind.PERFUSION,
        "MR perfusion and arterial spin labelling; CT with perfusion in its Image Type",
        "The header does not tell measured images from computed ones.",
        _is_perfusion,
    ),
    Exclusion(
        Kind.ECHO_PLANAR,
        "echo-planar MR, functional series among them",
        "Fat is suppressed to the level of air, ghosts of the body lie in the air, and its noise "
        "is itself measured when it is processed.",
        _is_echo_planar,
    ),
    Exclusion(
        Kind.CHEST_MR,
        "MR of heart, chest or breast, by body part, description, Image Type or cardiac phases",
        "Lung gives as little signal as air and often lies open to the edge of the frame.",
        _is_chest_mr,
    ),
    Exclusion(
        Kind.RAW_SIGNAL,
        "k-space and spectroscopy stored as an image",
        "The pixels are no picture of a body.",
        lambda facts: _RAW_TERM.found_in(facts.terms),
    ),
    Exclusion(
        Kind.PHANTOM,
        "images that are marked as quality control or service, or whose description or protocol "
        "names a phantom; the patient's name is not read",
        "Its dark parts are what is measured, and the network outlines bodies.",
        _is_phantom,
    ),
    Exclusion(
        Kind.UNKNOWN_DERIVATION,
        "DERIVED CT and MR with a term in the Image Type that is not known to leave air as air",
        "How it was computed is unknown, and so is what its dark pixels mean.",
        _has_unknown_derivation,
    ),
)
"""What keeps the record out of the pixels. A header can be of several kinds."""
