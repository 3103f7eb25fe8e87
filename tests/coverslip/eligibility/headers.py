"""Headers to judge."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
)


def header(sop_class: str, modality: str, **values: Any) -> Dataset:
    """An image of 64 x 64 pixels of 16 bits, with other values where they are given."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = sop_class
    ds.Modality = modality
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = ds.Columns = 64
    ds.BitsAllocated = ds.BitsStored = 16
    ds.PixelData = bytes(2 * 64 * 64)
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def ct(*image_type: str, **values: Any) -> Dataset:
    kinds = list(image_type) or ["ORIGINAL", "PRIMARY", "AXIAL"]
    return header(CTImageStorage, "CT", **{"ImageType": kinds, **values})


def mr(*image_type: str, **values: Any) -> Dataset:
    kinds = list(image_type) or ["ORIGINAL", "PRIMARY", "OTHER"]
    return header(MRImageStorage, "MR", **{"ImageType": kinds, **values})


def original_mr(*terms: str, **values: Any) -> Dataset:
    return mr("ORIGINAL", "PRIMARY", *terms, **values)


def item(**values: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def enhanced_mr(*frames: dict[str, Any], **values: Any) -> Dataset:
    """With a frame for each of the frame descriptions."""
    kinds = values.pop("ImageType", ["ORIGINAL", "PRIMARY", "T1", "NONE"])
    ds = header(EnhancedMRImageStorage, "MR", ImageType=kinds, **values)
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        item(MRImageFrameTypeSequence=Sequence([item(**frame)])) for frame in frames
    )
    return ds


def enhanced_ct(image_type: list[str], **values: Any) -> Dataset:
    return header(EnhancedCTImageStorage, "CT", ImageType=image_type, **values)
