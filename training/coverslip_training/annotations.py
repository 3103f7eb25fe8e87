"""Finds the annotation of an image, and reads masks from PNG files.

The other two kinds of annotation are in `coverslip_training.via` and
`coverslip_training.segmentations`. An annotation names its image by the image's path below its
folder, by its SOP Instance UID, or by the name of its preview (`slice_name`). The file name alone
would confuse two patients' ``0001.dcm``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from coverslip_training.errors import (
    AnnotationError,
    AnnotationSizeError,
    EmptyMaskError,
    SeveralAnnotationsError,
)

Mask = NDArray[np.uint8]
"""uint8 [H, W], 1 = body."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NAME_DIGITS = 16


def slice_name(uid: str, frame: int = 1, frames: int = 1) -> str:
    """Name a slice in previews and records by a digest of its SOP Instance UID.

    The name of a frame of a multi-frame image also ends in the frame's number, from 1. A file name
    may hold a patient's name, and a UID leads back to an archive. Whoever has the images can
    compute the digest again; whoever has only records or previews cannot reverse it.
    """
    digest = hashlib.sha256(b"coverslip slice " + uid.encode()).hexdigest()[:NAME_DIGITS]
    return f"{digest}-{frame:04d}" if frames > 1 else digest


def strip_suffix(name: str, suffixes: Sequence[str]) -> str:
    """Remove one of these suffixes from a file name; others stay, since UIDs are full of dots."""
    lowered = name.lower()
    return next((name[: -len(suffix)] for suffix in suffixes if lowered.endswith(suffix)), name)


@dataclass(frozen=True)
class Target:
    """An image to find the annotation of.

    Attributes
    ----------
    path : str
        Path below the given folder, with ``/``.
    uid : str
        SOP Instance UID.
    frame, frames : int
        Number of the frame, from 1, and number of frames of the instance.
    shape : (int, int)
        Rows and columns.
    """

    path: str
    uid: str
    frame: int
    frames: int
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """The slice's name in previews and records; see `slice_name`."""
        return slice_name(self.uid, self.frame, self.frames)

    @property
    def names(self) -> tuple[str, ...]:
        """Names without suffix that its annotation may have; those of a frame end in its number."""
        bases = (strip_suffix(self.path, DICOM_SUFFIXES), self.uid)
        if self.frames == 1:
            return (*bases, self.name)
        return (
            *(f"{base}-{self.frame:04d}" for base in bases),
            *(f"{base}-{self.frame}" for base in bases),
            self.name,
        )


class AnnotationSource(Protocol):
    """Annotations of one kind."""

    def has(self, target: Target) -> bool:
        """Whether it annotates this image."""
        ...

    def read(self, target: Target) -> Mask:
        """Read the mask of an image that it annotates.

        Raises
        ------
        AnnotationError, AnnotationSizeError, RejectedSliceError
        """
        ...

    def unused(self) -> list[str]:
        """List the annotations that have not been read."""
        ...


class MaskFolder:
    """A folder of mask PNG files with two values, 0 and that of the body.

    Parameters
    ----------
    folder : Path
        Its files have the same paths as the images below theirs, or other names of `Target.names`.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise AnnotationError(
                f"{folder} is not a folder; a folder of mask PNG files was expected"
            )
        self._files = {
            path.relative_to(folder).as_posix()[: -len(".png")]: path
            for path in sorted(folder.rglob("*.png"))
        }
        self._read: set[str] = set()

    def _names(self, target: Target) -> list[str]:
        return [name for name in target.names if name in self._files]

    def has(self, target: Target) -> bool:
        """Whether a file has one of the image's names."""
        return bool(self._names(target))

    def read(self, target: Target) -> Mask:
        """Read the image's only mask file; raises SeveralAnnotationsError if there are several."""
        names = self._names(target)
        self._read.update(names)
        if len(names) > 1:
            raise SeveralAnnotationsError(
                f"{' and '.join(names)} are masks of the same image: keep one of them"
            )
        return read_mask(self._files[names[0]])

    def unused(self) -> list[str]:
        """List the files that have not been read."""
        return sorted(set(self._files) - self._read)


def read_mask(path: Path) -> Mask:
    """Read a mask from a PNG of at most two values, of which 0 is air.

    Raises
    ------
    AnnotationError
        Not an image, in colour, or with more than two values.
    """
    try:
        with Image.open(path) as image:
            plane = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise AnnotationError(
            f"{path.name} cannot be read as a picture; a 1-bit PNG was expected: write it again"
        ) from None
    if plane.ndim != 2:
        raise AnnotationError(
            f"{path.name} is in colour; one channel with 0 and one other value was expected: "
            "save it as 1-bit PNG"
        )
    others = np.unique(plane[plane != 0])
    if others.size > 1:
        raise AnnotationError(
            f"{path.name} has {others.size} values besides 0, but a mask has one: draw it "
            "without smooth edges, or choose one label"
        )
    return (plane != 0).astype(np.uint8)


def read_annotation(sources: Iterable[AnnotationSource], target: Target) -> Mask | None:
    """Read the mask of an image; None if no source annotates it.

    Raises
    ------
    SeveralAnnotationsError
        More than one annotation of the image.
    AnnotationError, RejectedSliceError
        Raised by the source.
    AnnotationSizeError
        The mask has another size than the image.
    EmptyMaskError
        Nothing is outlined.
    """
    annotating = [source for source in sources if source.has(target)]
    if not annotating:
        return None
    masks = [source.read(target) for source in annotating]
    if len(masks) > 1:
        raise SeveralAnnotationsError(
            f"{len(masks)} sources annotate this image: give only one of them"
        )
    mask = masks[0]
    if mask.shape != target.shape:
        raise AnnotationSizeError((mask.shape[0], mask.shape[1]), target.shape)
    if not mask.any():
        raise EmptyMaskError(
            "nothing is outlined; a body was expected: annotate it, or leave the image out"
        )
    return mask
