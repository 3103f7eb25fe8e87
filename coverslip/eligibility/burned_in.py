"""How likely it is that text is burned into the pixels, as the header tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydicom.dataset import Dataset

from coverslip.eligibility import sop_classes
from coverslip.eligibility.exclusions import is_secondary_capture
from coverslip.eligibility.header_facts import HeaderFacts
from coverslip.eligibility.phrases import terms


class BurnedIn(str, Enum):
    """What the header says of text burned into the pixels (PS3.3 section C.7.6.1)."""

    YES = "yes"
    """It says that there is text."""

    LIKELY = "likely"
    """It does not say, and images of this kind often hold text: NO is asked for."""

    SILENT = "silent"
    """It does not say; images of this kind seldom hold text."""

    NO = "no"
    """It says that there is none."""

    NO_PIXELS = "no-pixels"
    """There is nothing that text could be burned into."""


class TextSource(str, Enum):
    """A fact in the header that makes text in the pixels likely.

    The values are names for reports; they never change once released.
    """

    SECONDARY_CAPTURE = "secondary-capture"
    ULTRASOUND = "ultrasound"
    FLUOROSCOPY = "fluoroscopy"
    DIGITISED_FILM = "digitised-film"
    PHOTOGRAPH = "photograph"
    DOCUMENT = "document"
    RECOGNISABLE = "recognisable"


@dataclass(frozen=True)
class TextRule:
    """A row of the table of what makes text in the pixels likely.

    Attributes
    ----------
    source : TextSource
    covers : str
        What it is, as a noun phrase.
    why : str
        Why text is likely, as a sentence.
    applies : callable
        Whether a header is of this kind.
    """

    source: TextSource
    covers: str
    why: str
    applies: Callable[[HeaderFacts], bool]


_FILM = terms("DF SI")
"""Conversion types of digitised film and scanned images (PS3.3 section C.8.6.1)."""

TEXT_RULES: tuple[TextRule, ...] = (
    TextRule(
        TextSource.SECONDARY_CAPTURE,
        "the Secondary Capture classes, screen saves, dose reports, CT and MR that name a "
        "capturing device",
        "Screens and pages show the patient's name.",
        is_secondary_capture,
    ),
    TextRule(
        TextSource.ULTRASOUND,
        "ultrasound",
        "Most scanners write name and date above the sector.",
        lambda facts: facts.in_class(sop_classes.ULTRASOUND),
    ),
    TextRule(
        TextSource.FLUOROSCOPY,
        "angiography and fluoroscopy",
        "Mobile C-arms write name and time into the frame; nothing tells them from the others.",
        lambda facts: facts.in_class(sop_classes.FLUOROSCOPY),
    ),
    TextRule(
        TextSource.DIGITISED_FILM,
        "CR, DX and mammography with conversion type DF or SI",
        "Films were labelled by a flash of the patient's card.",
        lambda facts: (
            facts.in_class(sop_classes.RADIOGRAPH)
            and bool(_FILM & {*facts.texts("ConversionType")})
        ),
    ),
    TextRule(
        TextSource.PHOTOGRAPH,
        "visible light, ophthalmic images and maps, optical coherence tomography, whole slide "
        "microscopy",
        "Cameras, reports and the labels of slides bring text with them.",
        lambda facts: facts.in_class(sop_classes.PHOTOGRAPH),
    ),
    TextRule(
        TextSource.DOCUMENT,
        "encapsulated documents",
        "A document names its patient, and the standard asks it for this attribute too "
        "(PS3.3 section C.24.2).",
        lambda facts: facts.in_class(sop_classes.DOCUMENT),
    ),
    TextRule(
        TextSource.RECOGNISABLE,
        "RecognizableVisualFeatures YES",
        "Whoever says so has looked at what the pixels disclose, and left this open.",
        lambda facts: "YES" in facts.texts("RecognizableVisualFeatures"),
    ),
)
"""What makes text in the pixels likely where the header does not deny it."""


def text_sources(ds: Dataset) -> tuple[TextSource, ...]:
    """Name what makes text in the pixels likely, whatever BurnedInAnnotation says.

    Parameters
    ----------
    ds : Dataset
        As for `judge`.

    Returns
    -------
    tuple of TextSource
        Empty where nothing does.
    """
    facts = HeaderFacts(ds)
    return tuple(rule.source for rule in TEXT_RULES if rule.applies(facts))


def burned_in(ds: Dataset) -> BurnedIn:
    """Say what the header says of text burned into the pixels.

    Parameters
    ----------
    ds : Dataset
        As for `judge`.

    Returns
    -------
    BurnedIn
        A value other than YES and NO counts as none.
    """
    facts = HeaderFacts(ds)
    said = facts.texts("BurnedInAnnotation")
    if "YES" in said:
        return BurnedIn.YES
    if said == ("NO",):
        return BurnedIn.NO
    holds_document = facts.in_class(sop_classes.DOCUMENT)
    if not holds_document and not facts.has(
        "PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL"
    ):
        return BurnedIn.NO_PIXELS
    return BurnedIn.LIKELY if text_sources(ds) else BurnedIn.SILENT
