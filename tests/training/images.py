"""DICOM files of fake patients, and segmentations of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

HEIGHT, WIDTH = 96, 112


def body(row: float = 48, column: float = 56, radius: float = 34) -> NDArray[np.uint8]:
    """A disc in [HEIGHT, WIDTH] with a hole right of its centre."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    disc = np.hypot(rows + 0.5 - row, columns + 0.5 - column) <= radius
    hole = np.hypot(rows + 0.5 - row, columns + 0.5 - column - radius / 2) <= radius / 4
    return (disc & ~hole).astype(np.uint8)


def write_image(
    path: Path,
    masks: Sequence[NDArray[np.uint8]],
    patient: str = "INVENTED-1",
    **header: str | int | list[str],
) -> Dataset:
    """Write a CT of noise around 0 (air) and 1000 (body), a frame for each mask; return it."""
    rng = np.random.default_rng(len(masks))
    dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    planes = np.stack([1000 * mask.astype(np.uint16) for mask in masks])
    planes = (planes + rng.integers(0, 30, planes.shape)).astype("<u2")
    dataset.Rows, dataset.Columns = planes.shape[1:]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
    for keyword in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        if keyword in dataset:
            delattr(dataset, keyword)
    if len(masks) > 1:
        dataset.NumberOfFrames = len(masks)
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PatientID, dataset.PatientName = patient, "Invented^Person"
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = planes.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def write_seg(
    path: Path, images: Sequence[Dataset], segments: Mapping[str, NDArray[np.uint8]]
) -> None:
    """Write a DICOM SEG of images of one series; ``segments`` has masks [images, H, W] by label."""
    import highdicom as hd
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name="invented", version="1", family=codes.DCM.ArtificialIntelligence
    )
    described = [
        SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Body
            if hasattr(codes.SCT, "Body")
            else codes.SCT.Abdomen,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, label in enumerate(segments, start=1)
    ]
    Segmentation(
        source_images=list(images),
        pixel_array=np.stack(list(segments.values()), axis=-1),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        series_instance_uid=hd.UID(),
        series_number=2,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Invented",
        manufacturer_model_name="Invented",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)


def make_enhanced(dataset: Dataset) -> Dataset:
    """Add the positions of the frames, as in an Enhanced CT (PS3.3 section C.7.6.16)."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 1
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number in range(dataset.NumberOfFrames):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, number]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset
