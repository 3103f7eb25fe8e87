"""Images that the tests of the pipeline embed into, and an engine that outlines them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from coverslip.crypto.keys import Identity
from coverslip.fake_patient import write_fake_patient
from coverslip.scheme.reference import ReferenceEngine
from tests.outlines import outline_head

IDENTITY = Identity.generate()


ENGINE = ReferenceEngine(outline_head)


def drawn(
    planes: NDArray[np.int32],
    *,
    stored: int = 16,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    seed: int = 1,
) -> FileDataset:
    """A CT image of an invented patient with stored values int32 [F, H, W], explicit VR."""
    frames, rows, cols = planes.shape
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.Modality = CTImageStorage, "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = rows, cols
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    allocated = 8 if stored <= 8 else 16
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, stored, stored - 1
    ds.PixelRepresentation = int(signed)
    words = (planes & ((1 << stored) - 1)).astype(f"<u{allocated // 8}")
    ds.PixelData = words.tobytes() + bytes(words.nbytes % 2)
    ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
    write_fake_patient(ds, seed)
    return ds
