"""Sealing here what is embedded elsewhere."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy import ndimage

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.deidentification.mark import Carried, read_mark
from coverslip.dicom.objects import read_object
from coverslip.errors import (
    AlreadyCarriesError,
    BurnedInAnnotationError,
    DoesNotComeBackError,
    HeaderOnlyError,
)
from coverslip.pipeline import Binding, Change, EmbedOptions, RestoredAs
from coverslip.scheme.profiles import DEFAULT
from coverslip.scheme.reference import ReferenceEngine
from tests.covers import head_ct

IDENTITY = Identity.generate()
OPTIONS = EmbedOptions(DEFAULT)


def outline(pixels):
    """What is bright, with its holes filled: enough for a head CT."""
    bright = ndimage.binary_opening(pixels > np.percentile(pixels, 5) + 300, iterations=2)
    return ndimage.binary_fill_holes(ndimage.binary_dilation(bright, iterations=4)).astype(np.uint8)


ENGINE = ReferenceEngine(outline)


@pytest.fixture(scope="module")
def cover(tmp_path_factory):
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(11).save_as(path)
    return path


@pytest.fixture(scope="module")
def apart(cover):
    return pipeline.seal_apart(read_object(cover), IDENTITY.recipient, OPTIONS)


def embedded_elsewhere(clean, sealed, folder, options=OPTIONS):
    """The file that somebody without the original makes."""
    done = pipeline.embed(
        read_object(clean), IDENTITY.recipient, ENGINE, options, sealed, spool=folder
    )
    done.write(folder / "elsewhere.dcm")
    return read_object(folder / "elsewhere.dcm"), done.report


@pytest.fixture(scope="module")
def elsewhere(apart, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    return embedded_elsewhere(apart.clean_file(), apart.sealed.frame, folder)


def restored(content, path):
    source = read_object(content)
    found = pipeline.extract(source, IDENTITY)
    restoration = pipeline.restore(source, found, IDENTITY.recipient)
    restoration.write(path)
    return found, restoration


def test_what_is_sent_holds_no_identity(cover, apart):
    sent, original = apart.clean_file() + apart.sealed.frame, dcmread(cover)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "SOPInstanceUID"):
        value = str(original[keyword].value).encode()
        assert value in cover.read_bytes() and value not in sent


def test_the_pixels_carry_a_bound_record_and_the_original_comes_back(
    cover, apart, elsewhere, tmp_path
):
    stego, report = elsewhere
    assert report.carried is Carried.PIXELS and report.bound and report.header_bytes == 0
    completed = pipeline.add_header_part(apart, stego, IDENTITY.recipient)
    found, restoration = restored(completed.content, tmp_path / "restored.dcm")
    assert completed.header_bytes > 500
    assert (found.binding, found.changes) == (Binding.VERIFIED, ())
    assert restoration.restored_as in (RestoredAs.ORIGINAL, RestoredAs.ORIGINAL_FILE)
    back, original = read_object(tmp_path / "restored.dcm"), read_object(cover)
    assert np.array_equal(back.image.planes, original.image.planes)
    assert back.dataset.PatientName == original.dataset.PatientName


def test_it_is_the_same_record_as_one_that_is_sealed_and_embedded_in_one_place(
    cover, apart, elsewhere
):
    here = pipeline.embed(read_object(cover), IDENTITY.recipient, ENGINE, OPTIONS)
    stego, report = elsewhere
    completed = read_object(pipeline.add_header_part(apart, stego, IDENTITY.recipient).content)
    assert report.carriers == here.report.carriers
    assert len(apart.sealed.frame) == here.report.sealed_bytes
    assert apart.sealed.recorded == here.report.recorded
    assert {*completed.dataset.keys()} == {*here.header.keys()}


def test_without_the_header_part_the_identity_comes_back_alone(elsewhere, tmp_path):
    stego, _ = elsewhere
    found, restoration = restored(stego.path, tmp_path / "restored.dcm")
    assert found.binding is Binding.VERIFIED
    assert restoration.restored_as is RestoredAs.IDENTITY


def test_a_term_that_rules_out_derived_images_alone_does_not_send_it_to_the_header(cover, tmp_path):
    dataset = dcmread(cover)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "SOMETHING_ELSE"]
    dataset.save_as(tmp_path / "cover.dcm")
    apart = pipeline.seal_apart(read_object(tmp_path / "cover.dcm"), IDENTITY.recipient, OPTIONS)
    stego, report = embedded_elsewhere(apart.clean_file(), apart.sealed.frame, tmp_path)
    assert stego.dataset.ImageType[0] == "DERIVED" and report.carried is Carried.PIXELS


@pytest.mark.parametrize("name", ["reportsi.dcm", "rtdose_1frame.dcm", "liver_1frame.dcm"])
def test_what_only_the_header_can_carry_needs_nobody_else(name, tmp_path):
    source = read_object(get_testdata_file(name, download=False))
    done = pipeline.seal_apart(source, IDENTITY.recipient, OPTIONS)
    assert isinstance(done, pipeline.Embedding) and done.report.header_reasons
    done.write(tmp_path / "stego.dcm")
    found, restoration = restored(tmp_path / "stego.dcm", tmp_path / "restored.dcm")
    assert (found.carried, found.binding) == (Carried.HEADER, Binding.VERIFIED)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
    assert (tmp_path / "restored.dcm").read_bytes() == source.path.read_bytes()


def test_refusals_are_those_of_embedding(cover, elsewhere):
    stego, _ = elsewhere
    with pytest.raises(AlreadyCarriesError):
        pipeline.seal_apart(stego, IDENTITY.recipient, OPTIONS)
    dose = read_object(get_testdata_file("rtdose_1frame.dcm", download=False))
    with pytest.raises(HeaderOnlyError):
        pipeline.seal_apart(dose, IDENTITY.recipient, EmbedOptions(DEFAULT, require_pixels=True))
    shown = dcmread(cover)
    shown.BurnedInAnnotation = "YES"
    with pytest.raises(BurnedInAnnotationError):
        pipeline.seal_apart(read_object(shown), IDENTITY.recipient, OPTIONS)


def test_another_image_than_the_one_that_was_sent_is_not_completed(apart, elsewhere, cover):
    stego, _ = elsewhere
    altered = copy.deepcopy(stego.dataset)
    altered.decompress()
    planes = altered.pixel_array.copy()
    planes[256, 256] += 1
    altered.PixelData = planes.tobytes()
    for wrong in (read_object(altered), read_object(cover)):
        with pytest.raises(DoesNotComeBackError, match="not the image that was sent"):
            pipeline.add_header_part(apart, wrong, IDENTITY.recipient)


def test_an_image_without_room_elsewhere_is_completed_in_its_header(cover, tmp_path):
    """Nothing but the middle of the head: no air, and so no carrier."""
    dataset = dcmread(cover)
    dataset.decompress()
    middle = dataset.pixel_array[200:264, 200:264]
    dataset.Rows, dataset.Columns = middle.shape
    dataset.PixelData = middle.tobytes()
    for keyword in ("ReconstructionDiameter", "DataCollectionDiameter"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.save_as(tmp_path / "cover.dcm")
    apart = pipeline.seal_apart(read_object(tmp_path / "cover.dcm"), IDENTITY.recipient, OPTIONS)
    stego, report = embedded_elsewhere(apart.clean_file(), apart.sealed.frame, tmp_path)
    assert report.carried is read_mark(stego.dataset).carried is Carried.HEADER and report.bound
    completed = pipeline.add_header_part(apart, stego, IDENTITY.recipient)
    found, restoration = restored(completed.content, tmp_path / "restored.dcm")
    assert (found.carried, found.binding) == (Carried.HEADER, Binding.VERIFIED)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE


def test_a_changed_pixel_is_found_in_what_was_completed(apart, elsewhere):
    stego, _ = elsewhere
    completed = dcmread_bytes(pipeline.add_header_part(apart, stego, IDENTITY.recipient).content)
    completed.decompress()
    planes = completed.pixel_array.copy()
    planes[2, 2] += 1
    completed.PixelData = planes.tobytes()
    found = pipeline.extract(read_object(completed), IDENTITY)
    assert found.binding is Binding.CHANGED and Change.PIXELS in found.changes


def dcmread_bytes(content):
    return copy.deepcopy(read_object(content).dataset)
