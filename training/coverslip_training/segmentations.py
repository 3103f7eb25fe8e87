"""Reads annotations from DICOM segmentations (SEG)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from coverslip_training.annotations import Mask, Target
from coverslip_training.errors import AnnotationError, AnnotationSizeError

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes Segmentation Storage and Label Map Segmentation Storage (PS3.4 section B.5)."""

INSIDE = 0.5
"""Value of a fractional segment (probability or occupancy, 0 to 1) from which a pixel is inside."""


@lru_cache(maxsize=2)
def _read_seg(path: Path) -> Segmentation:
    import highdicom

    try:
        return highdicom.seg.segread(path)
    except Exception as error:
        # Parsers of foreign files fail in many ways, and their messages may quote the header.
        raise AnnotationError(
            f"{path.name} cannot be read as DICOM SEG ({type(error).__name__}): write it again"
        ) from None


def is_seg(dataset: Dataset) -> bool:
    """Whether a data set is a DICOM segmentation."""
    return str(dataset.get("SOPClassUID", "")) in SEG_CLASSES


def referenced_uids(segmentation: Segmentation) -> set[str]:
    """SOP Instance UIDs of the images that were segmented (PS3.3 section C.7.6.16.2.6)."""
    groups = [
        *segmentation.get("SharedFunctionalGroupsSequence", []),
        *segmentation.get("PerFrameFunctionalGroupsSequence", []),
    ]
    derivations = [item for group in groups for item in group.get("DerivationImageSequence", [])]
    return {
        str(image.ReferencedSOPInstanceUID)
        for item in derivations
        for image in item.get("SourceImageSequence", [])
    }


class SegFiles:
    """DICOM segmentations; the body is the union of their segments, or of those with a label.

    Parameters
    ----------
    paths : iterable of Path
    label : str, optional
        Segment Label of the segments that are body; all segments if None.
    """

    def __init__(self, paths: Iterable[Path], label: str | None = None) -> None:
        self._label = label
        self._paths: dict[str, list[Path]] = {}  # by SOP Instance UID of the image
        self.bad: list[tuple[str, str]] = []
        """Name of each unusable file, with the reason."""
        for path in paths:
            self._add(path)
        self._read: set[str] = set()

    def _add(self, path: Path) -> None:
        try:
            uids = referenced_uids(_read_seg(path))
        except AnnotationError as error:
            self.bad.append((path.name, str(error)))
            return
        if not uids:
            self.bad.append(
                (
                    path.name,
                    "it does not name the images it was made from (no Source Image Sequence): "
                    "write it with them",
                )
            )
        for uid in uids:
            self._paths.setdefault(uid, []).append(path)

    def has(self, target: Target) -> bool:
        """Whether a segmentation refers to this instance."""
        return target.uid in self._paths

    def read(self, target: Target) -> Mask:
        """Join the segments of this frame."""
        self._read.add(target.uid)
        masks = [self._mask(path, target) for path in self._paths[target.uid]]
        for mask in masks:
            if mask.shape != target.shape:
                raise AnnotationSizeError((mask.shape[0], mask.shape[1]), target.shape)
        return np.asarray(np.any(masks, axis=0), np.uint8)

    def _mask(self, path: Path, target: Target) -> NDArray[np.bool_]:
        segmentation = _read_seg(path)
        options = {
            "segment_numbers": self._segments(segmentation, path),
            "ignore_spatial_locations": True,
            "assert_missing_frames_are_empty": True,
        }
        try:
            if target.frames > 1:
                planes = segmentation.get_pixels_by_source_frame(
                    target.uid, [target.frame], **options
                )
            else:
                planes = segmentation.get_pixels_by_source_instance([target.uid], **options)
        except Exception as error:
            raise AnnotationError(
                f"{path.name} gives no mask for this image ({type(error).__name__}): write it again"
            ) from None
        return np.asarray((planes[0] >= INSIDE).any(axis=-1))

    def _segments(self, segmentation: Segmentation, path: Path) -> list[int]:
        chosen = [
            int(item.SegmentNumber)
            for item in segmentation.SegmentSequence
            if self._label in (None, str(item.SegmentLabel))
        ]
        if not chosen:
            raise AnnotationError(
                f"{path.name} has no segment with the given label: choose one that it has"
            )
        return chosen

    def unused(self) -> list[str]:
        """List segmentations whose images were not all read, with the number of missing images."""
        missing = Counter(
            path.name
            for uid, paths in self._paths.items()
            if uid not in self._read
            for path in paths
        )
        return [f"{name} ({count} of its images)" for name, count in sorted(missing.items())]
