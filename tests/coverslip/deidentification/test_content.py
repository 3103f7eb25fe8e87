"""The digest of what stays of a header, and which of it an archive may write."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from pydicom import Dataset, dcmread

from coverslip.deidentification.header import content_digest, deidentify, restore_original
from coverslip.fake_patient import write_fake_patient
from tests.paths import pydicom_file

KEY = bytes(32)


@pytest.fixture
def original() -> Dataset:
    dataset = dcmread(pydicom_file("rtplan.dcm"))
    write_fake_patient(dataset, seed=4)
    return dataset


@pytest.fixture
def clean(original: Dataset) -> Dataset:
    return deidentify(original, KEY)[0]


def write_patient(dataset: Dataset) -> None:
    dataset.PatientName, dataset.PatientID = "Somebody^Else", "42"


def write_comment(dataset: Dataset) -> None:
    dataset.PatientComments = "merged"


def write_private(dataset: Dataset) -> None:
    dataset.private_block(0x0011, "ARCHIVE", create=True).add_new(1, "LO", "stored")


def write_uids(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = "2.25.5"
    dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID = "2.25.6"


def write_one_frame(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 1


def write_group_length(dataset: Dataset) -> None:
    dataset.add_new(0x00100000, "UL", 64)


def write_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 2


def write_label(dataset: Dataset) -> None:
    dataset.BeamSequence[0].BeamType = "DYNAMIC"


def drop_beam(dataset: Dataset) -> None:
    del dataset.BeamSequence[-1]


WRITTEN = [write_patient, write_comment, write_private, write_one_frame, write_group_length]


@pytest.mark.parametrize("write", [*WRITTEN, write_uids])
def test_what_archives_write_leaves_the_content_as_it_is(
    clean: Dataset, write: Callable[[Dataset], None]
) -> None:
    before = content_digest(clean, with_uids=False)
    write(clean)
    assert content_digest(clean, with_uids=False) == before


@pytest.mark.parametrize("write", WRITTEN)
def test_without_pixels_only_new_uids_are_another_content(
    clean: Dataset, write: Callable[[Dataset], None]
) -> None:
    before = content_digest(clean, with_uids=True)
    write(clean)
    assert content_digest(clean, with_uids=True) == before
    write_uids(clean)
    assert content_digest(clean, with_uids=True) != before


@pytest.mark.parametrize("write", [write_frames, write_label, drop_beam])
def test_anything_else_is_another_content(clean: Dataset, write: Callable[[Dataset], None]) -> None:
    before = content_digest(clean, with_uids=False)
    write(clean)
    assert content_digest(clean, with_uids=False) != before


@pytest.mark.parametrize(
    "write", [write_patient, write_private, write_uids, write_one_frame, write_group_length]
)
def test_the_original_comes_back_from_under_what_archives_write(
    original: Dataset, clean: Dataset, write: Callable[[Dataset], None]
) -> None:
    write(clean)
    restored, refused = restore_original(original, clean, KEY)
    assert refused == [] and restored == original


def test_a_number_of_frames_that_an_archive_dropped_comes_back(original: Dataset) -> None:
    original.NumberOfFrames = 1
    present, _, _ = deidentify(original, KEY)
    del present.NumberOfFrames
    restored, refused = restore_original(original, present, KEY)
    assert refused == [] and restored == original


@pytest.mark.parametrize("sealed", [1, 2])
def test_a_seal_cannot_change_the_number_of_frames(original: Dataset, sealed: int) -> None:
    present, _, _ = deidentify(original, KEY)
    present.NumberOfFrames = 3
    forged = copy.deepcopy(original)
    forged.NumberOfFrames = sealed
    restored, refused = restore_original(forged, present, KEY)
    assert refused == ["NumberOfFrames"] and restored.NumberOfFrames == 3
