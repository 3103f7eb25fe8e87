"""Covers that tests embed into."""

from __future__ import annotations

import copy
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from coverslip.dicom.instance import read_instance
from coverslip.fake_patient import write_fake_patient

HEAD = "J2K_pixelrep_mismatch.dcm"


def head_ct(seed: int) -> Dataset:
    """A real 512 x 512 head CT that comes with pydicom, with an invented patient in its header."""
    dataset = dcmread(get_testdata_file(HEAD, download=False))
    write_fake_patient(dataset, seed=seed)
    return dataset


def crop(source: Path, kept: tuple[slice, slice], target: Path) -> None:
    """Write an instance with these rows and columns alone, uncompressed."""
    instance = read_instance(source)
    dataset = copy.deepcopy(instance.dataset)
    plane = instance.planes[0][kept]
    dataset.Rows, dataset.Columns = plane.shape
    dataset.PixelData = plane.astype(
        f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    ).tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(target)
