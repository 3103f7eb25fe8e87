"""Covers that tests embed into."""

from __future__ import annotations

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from coverslip.invented import write_invented_patient

HEAD = "J2K_pixelrep_mismatch.dcm"


def head_ct(seed: int) -> Dataset:
    """A real 512 x 512 head CT that comes with pydicom, with an invented patient in its header."""
    dataset = dcmread(get_testdata_file(HEAD, download=False))
    write_invented_patient(dataset, seed=seed)
    return dataset
