"""Synthetic labelled slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from coverslip_training.records import Slice


def make_slice(
    name: str, patient: str, modality: str = "CT", seed: int = 0, lowest: int = 0
) -> Slice:
    """A bright ellipse, 130 x 110 pixels, with its label; the darkest pixel is ``lowest``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:130, :110]
    label = (((rows - 60) / 40) ** 2 + ((columns - 55) / 35) ** 2 < 1).astype(np.uint8)
    pixels = (
        lowest + 1000 * label.astype(np.int32) + rng.integers(0, 40, label.shape, dtype=np.int32)
    )
    pixels[0, 0] = lowest
    return Slice(name, patient, modality, pixels.astype(np.int32), label)


def write_dicom(path: Path, pixels: NDArray[np.int32]) -> None:
    """Write a minimal DICOM file with these pixels, 0 to 65535."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, UID("1.2.3")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
