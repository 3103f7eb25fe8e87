from __future__ import annotations

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from coverslip.eligibility import BurnedIn, TextSource, burned_in, text_sources
from coverslip.eligibility.burned_in import TEXT_RULES
from tests.coverslip.eligibility.headers import ct, header, mr

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@pytest.mark.parametrize("value", [None, "", "MAYBE"])
def test_a_slice_that_does_not_say_is_silent(value: str | None) -> None:
    assert burned_in(ct()) is BurnedIn.SILENT
    assert burned_in(mr(BurnedInAnnotation=value)) is BurnedIn.SILENT


@pytest.mark.parametrize(("value", "expected"), [("YES", BurnedIn.YES), ("no ", BurnedIn.NO)])
def test_what_the_header_says_counts(value: str, expected: BurnedIn) -> None:
    assert burned_in(ct(BurnedInAnnotation=value)) is expected
    screen = header(uid.SecondaryCaptureImageStorage, "OT", BurnedInAnnotation=value)
    assert burned_in(screen) is expected


def test_yes_beside_no_is_yes() -> None:
    assert burned_in(ct(BurnedInAnnotation=["NO", "YES"])) is BurnedIn.YES


@pytest.mark.parametrize(
    ("ds", "source"),
    [
        (header(uid.SecondaryCaptureImageStorage, "OT"), TextSource.SECONDARY_CAPTURE),
        (ct("DERIVED", "SECONDARY", "SCREEN SAVE"), TextSource.SECONDARY_CAPTURE),
        (header(uid.UltrasoundMultiFrameImageStorage, "US"), TextSource.ULTRASOUND),
        (header(uid.XRayRadiofluoroscopicImageStorage, "RF"), TextSource.FLUOROSCOPY),
        (header(uid.XRayAngiographicImageStorage, "XA"), TextSource.FLUOROSCOPY),
        (
            header(uid.ComputedRadiographyImageStorage, "CR", ConversionType="DF"),
            TextSource.DIGITISED_FILM,
        ),
        (header(uid.VLPhotographicImageStorage, "XC"), TextSource.PHOTOGRAPH),
        (header(uid.EncapsulatedPDFStorage, "DOC"), TextSource.DOCUMENT),
        (ct(RecognizableVisualFeatures="YES"), TextSource.RECOGNISABLE),
    ],
)
def test_where_text_is_likely_no_is_asked_for(ds: Dataset, source: TextSource) -> None:
    assert text_sources(ds) == (source,)
    assert burned_in(ds) is BurnedIn.LIKELY


def test_a_digital_radiograph_is_only_silent() -> None:
    assert burned_in(header(uid.ComputedRadiographyImageStorage, "CR")) is BurnedIn.SILENT


def test_nothing_is_burned_into_what_has_no_pixels() -> None:
    report = header(uid.BasicTextSRStorage, "SR")
    del report.PixelData
    assert burned_in(report) is BurnedIn.NO_PIXELS
    document = header(uid.EncapsulatedPDFStorage, "DOC")
    del document.PixelData
    assert burned_in(document) is BurnedIn.LIKELY


def test_every_source_has_one_row() -> None:
    assert [rule.source for rule in TEXT_RULES] == list(TextSource)
