"""A validator, dciodvfy, finds nothing in what we write that it did not find in the source."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.objects import read_object
from coverslip.engine import Engine, open_engine
from coverslip.errors import CannotWriteError, NotDicomError, TruncatedFileError
from coverslip.fake_patient import write_fake_patient
from coverslip.pipeline import Carried
from coverslip.scheme.profiles import DEFAULT
from coverslip.scheme.reference import ReferenceEngine
from tests.covers import head_ct
from tests.outlines import outline_head
from tests.paths import pydicom_file
from tests.peers import need

RECIPIENT = Identity.generate().recipient
OPTIONS = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)
OUTLINED = ReferenceEngine(outline_head)

HEADED = [
    "CT_small.dcm",
    "MR_small.dcm",
    "JPEG2000.dcm",
    "reportsi.dcm",
    "test-SR.dcm",
    "rtplan.dcm",
    "rtdose_1frame.dcm",
    "waveform_ecg.dcm",
    "liver_1frame.dcm",
    "SC_rgb_rle.dcm",
    "examples_overlay.dcm",
]
"""Of each kind, without air that may carry."""

UNEXAMINED = {"MR__dcm4che__1fb82f__3gb-bulk-data-truncated.dcm"}
"""The validator gives up on the source before it comes to its faults."""


def errors(path: Path) -> set[str]:
    """What the validator calls an error; numbers are left out, as new UIDs are numbers."""
    done = subprocess.run(["dciodvfy", path], capture_output=True, timeout=60)
    lines = (done.stdout + done.stderr).decode("latin-1").splitlines()
    return {re.sub(r"<[0-9. -]+>", "<>", line) for line in lines if line.startswith("Error")}


def new_errors(source: Path, engine: Engine, target: Path) -> tuple[Carried, set[str]]:
    embedding = pipeline.embed(read_object(source), RECIPIENT, engine, OPTIONS)
    embedding.write(target, overwrite=True)
    return embedding.report.carried, errors(target) - errors(source)


@pytest.fixture(autouse=True)
def validator() -> None:
    need("dciodvfy")


def test_pixels_that_carry_bring_no_error(tmp_path: Path) -> None:
    head_ct(7).save_as(tmp_path / "cover.dcm")
    assert new_errors(tmp_path / "cover.dcm", OUTLINED, tmp_path / "stego.dcm") == (
        Carried.PIXELS,
        set(),
    )


@pytest.mark.parametrize("name", HEADED)
def test_headers_that_carry_bring_no_error(name: str, tmp_path: Path) -> None:
    source = pydicom_file(name)
    assert new_errors(source, OUTLINED, tmp_path / "stego.dcm") == (Carried.HEADER, set())


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtplan.dcm", "MR_small.dcm"])
def test_a_patient_with_every_attribute_brings_no_error(name: str, tmp_path: Path) -> None:
    dataset = dcmread(pydicom_file(name))
    write_fake_patient(dataset, seed=7)
    dataset.save_as(tmp_path / "cover.dcm")
    assert new_errors(tmp_path / "cover.dcm", OUTLINED, tmp_path / "stego.dcm")[1] == set()


def annotated() -> Dataset:
    """A presentation state, reduced to what its de-identification touches, with an annotation."""
    dataset = dcmread(pydicom_file("MR_small.dcm"))
    for keyword in ("PixelData", "ImageType", "DataSetTrailingPadding"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    dataset.file_meta.MediaStorageSOPClassUID, dataset.Modality = dataset.SOPClassUID, "PR"
    dataset.InstanceNumber, dataset.ContentLabel = 1, "ARROW"
    dataset.ContentDescription, dataset.ContentCreatorName = "An arrow", "Invented^Reader"
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = "20200101", "120000"
    dataset.PresentationLUTShape = "IDENTITY"
    graphic = Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions = "PIXEL", 2
    graphic.NumberOfGraphicPoints, graphic.GraphicData = 2, [1.0, 1.0, 2.0, 2.0]
    graphic.GraphicType, graphic.GraphicFilled = "POLYLINE", "N"
    annotation = Dataset()
    annotation.GraphicLayer, annotation.GraphicObjectSequence = "LAYER", [graphic]
    dataset.GraphicAnnotationSequence = [annotation]
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = "LAYER", 1
    dataset.GraphicLayerSequence = [layer]
    return dataset


def test_an_annotation_that_is_removed_brings_no_error(tmp_path: Path) -> None:
    annotated().save_as(tmp_path / "cover.dcm")
    carried, new = new_errors(tmp_path / "cover.dcm", OUTLINED, tmp_path / "stego.dcm")
    assert (carried, new) == (Carried.HEADER, set())
    assert "GraphicAnnotationSequence" not in dcmread(tmp_path / "stego.dcm")


def sources(shared_data: Path) -> Iterator[Path]:
    yield from sorted((shared_data / "wild").rglob("*.dcm"))
    yield from sorted((shared_data / "conformance").glob("*.dcm"))
    yield from sorted((shared_data / "slices").glob("*.dcm"))[::16][:30]


@pytest.mark.slow
def test_no_real_file_gets_an_error(shared_data: Path, tmp_path: Path) -> None:
    engine, wrong, written = open_engine(), {}, []
    for source in sources(shared_data):
        try:
            carried, new = new_errors(source, engine, tmp_path / "stego.dcm")
        except (CannotWriteError, NotDicomError, TruncatedFileError):
            continue
        written.append(carried)
        if new and source.name not in UNEXAMINED:
            wrong[source.name] = sorted(new)
    assert wrong == {}
    assert written.count(Carried.PIXELS) > 30 and written.count(Carried.HEADER) > 150


def test_pixels_that_stay_are_not_said_to_be_derived(tmp_path: Path) -> None:
    source = read_object(pydicom_file("MR_small.dcm"))
    engine = ReferenceEngine(lambda pixels: np.zeros(pixels.shape, dtype=np.uint8))
    pipeline.embed(source, RECIPIENT, engine, OPTIONS).write(tmp_path / "stego.dcm")
    written = dcmread(tmp_path / "stego.dcm")
    assert written.ImageType == source.dataset.ImageType
    assert "DerivationDescription" not in written and written.PatientIdentityRemoved == "YES"


def test_an_object_without_an_image_type_gets_none(tmp_path: Path) -> None:
    source = read_object(pydicom_file("rtplan.dcm"))
    pipeline.embed(source, RECIPIENT, OUTLINED, OPTIONS).write(tmp_path / "stego.dcm")
    assert "ImageType" not in dcmread(tmp_path / "stego.dcm")
