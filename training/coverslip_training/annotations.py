"""Outlines of the body that people made, from 1-bit PNG, the VIA tool and DICOM SEG, as masks.

Each kind of source answers two questions about an image: whether it has an annotation, and what its
mask is. An image is known to them by its place below its folder, by its SOP Instance UID, or by the
name that previews have (`slice_name`); the last part of the place alone would mix up two patients'
``0001.dcm``.

VIA's shapes are in the image's pixels with 0 at the left (top) edge of the first, so that the
centre of pixel j is at j + 0.5 (its canvas coordinates). A pixel belongs to a shape that holds its
centre.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from coverslip.errors import (
    AnnotationError,
    AnnotationSizeError,
    EmptyMaskError,
    RejectedSliceError,
    SeveralAnnotationsError,
)

Mask = NDArray[np.uint8]
"""uint8 [H, W], 1 = body."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NAME_DIGITS = 16
HOLE = "hole"
"""Value of a VIA region's attribute that takes the region out of the body."""


def slice_name(uid: str, frame: int = 1, frames: int = 1) -> str:
    """The name of a slice in previews and records: a digest of its SOP Instance UID, and of a
    multi-frame image the frame from 1.

    A file's own name may be a patient's, and a UID leads back to an archive; who has the images can
    make the digest again, who has only the records or previews can not go back.
    """
    digest = hashlib.sha256(b"coverslip slice " + uid.encode()).hexdigest()[:NAME_DIGITS]
    return f"{digest}-{frame:04d}" if frames > 1 else digest


def without_suffix(name: str, suffixes: Sequence[str]) -> str:
    """A file's name without one of these suffixes; UIDs are full of dots, so that others stay."""
    lowered = name.lower()
    return next((name[: -len(suffix)] for suffix in suffixes if lowered.endswith(suffix)), name)


@dataclass(frozen=True)
class Target:
    """An image that an annotation may be of.

    Attributes
    ----------
    place : str
        Path below the folder that was named, with ``/``.
    uid : str
        SOP Instance UID.
    frame, frames : int
        Number from 1, and how many the instance has.
    shape : (int, int)
        Rows and columns.
    """

    place: str
    uid: str
    frame: int
    frames: int
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """See `slice_name`."""
        return slice_name(self.uid, self.frame, self.frames)

    @property
    def names(self) -> tuple[str, ...]:
        """Names, without suffix, by which a picture of it may go; those of a frame end in its
        number.
        """
        bases = (without_suffix(self.place, DICOM_SUFFIXES), self.uid)
        if self.frames == 1:
            return (*bases, self.name)
        return (
            *(f"{base}-{self.frame:04d}" for base in bases),
            *(f"{base}-{self.frame}" for base in bases),
            self.name,
        )


class Source(Protocol):
    """Annotations of one kind."""

    def has(self, target: Target) -> bool:
        """Whether one is of this image."""
        ...

    def read(self, target: Target) -> Mask:
        """The mask of an image that it has.

        Raises
        ------
        AnnotationError, AnnotationSizeError, RejectedSliceError
        """
        ...

    def unused(self) -> list[str]:
        """Annotations that no image asked for, in words."""
        ...


class MaskFolder:
    """PNG files of two values, 0 and another, which is the body; named as their image, below the
    folder as it is below its own.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise AnnotationError(f"{folder} is no folder; one with mask PNG files was expected")
        self._files = {
            path.relative_to(folder).as_posix()[: -len(".png")]: path
            for path in sorted(folder.rglob("*.png"))
        }
        self._seen: set[str] = set()

    def _names(self, target: Target) -> list[str]:
        return [name for name in target.names if name in self._files]

    def has(self, target: Target) -> bool:
        """Whether a file is named as this image."""
        return bool(self._names(target))

    def read(self, target: Target) -> Mask:
        """The mask in the one file."""
        names = self._names(target)
        self._seen.update(names)
        if len(names) > 1:
            raise SeveralAnnotationsError(
                f"{' and '.join(names)} are masks of the same image: keep one of them"
            )
        return read_mask(self._files[names[0]])

    def unused(self) -> list[str]:
        """Files that are no image's."""
        return sorted(set(self._files) - self._seen)


def read_mask(path: Path) -> Mask:
    """The mask in a PNG of at most two values, of which 0 is air.

    Raises
    ------
    AnnotationError
        No PNG, in colour, or of more values.
    """
    try:
        with Image.open(path) as image:
            plane = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise AnnotationError(
            f"{path.name} is no picture that can be read; a 1-bit PNG was expected: write it again"
        ) from None
    if plane.ndim != 2:
        raise AnnotationError(
            f"{path.name} is in colour; one channel with 0 and one other value was expected: "
            "save it as 1-bit PNG"
        )
    others = np.unique(plane[plane != 0])
    if others.size > 1:
        raise AnnotationError(
            f"{path.name} has {others.size} values besides 0 where a mask has one: draw it "
            "without smooth edges, or choose one label"
        )
    return (plane != 0).astype(np.uint8)


def _number(shape: Mapping[str, Any], key: str) -> float:
    value = shape.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    raise AnnotationError(
        f"a region of shape {str(shape.get('name'))[:20]!r} has no number for {key!r}: draw it "
        "again"
    )


def _polygon(shape: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or len(xs) < 3:
        raise AnnotationError(
            "a polygon needs as many x as y, and at least 3 of them: draw it again"
        )
    flat = [
        _number({"name": "polygon", "point": value}, "point")
        for pair in zip(xs, ys, strict=True)
        for value in pair
    ]
    if max(flat[::2]) > size[1] + 1 or max(flat[1::2]) > size[0] + 1:
        raise AnnotationError(
            f"a polygon reaches {max(flat[::2]):.0f}, {max(flat[1::2]):.0f} (x, y) in an image "
            f"of {size[1]} x {size[0]}: "
            "it was drawn on a picture of another size"
        )
    return np.asarray(coco.decode(coco.frPyObjects([flat], *size))[..., 0] > 0)


def _oval(shape: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    circle = shape["name"] == "circle"
    radii = [_number(shape, key) for key in (("r", "r") if circle else ("rx", "ry"))]
    if min(radii) <= 0:
        raise AnnotationError(
            f"a region of shape {shape['name']!r} has a radius of 0: draw it again"
        )
    turn = _number(shape, "theta") if "theta" in shape else 0.0
    down = np.arange(size[0])[:, np.newaxis] + 0.5 - _number(shape, "cy")
    right = np.arange(size[1])[np.newaxis] + 0.5 - _number(shape, "cx")
    along = np.cos(turn) * right + np.sin(turn) * down
    across = np.cos(turn) * down - np.sin(turn) * right
    return np.asarray((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1.0)


def _rect(shape: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    left, top = _number(shape, "x"), _number(shape, "y")
    down, right = np.arange(size[0])[:, np.newaxis] + 0.5, np.arange(size[1])[np.newaxis] + 0.5
    inside_rows = (down >= top) & (down <= top + _number(shape, "height"))
    return np.asarray(inside_rows & (right >= left) & (right <= left + _number(shape, "width")))


SHAPES = {"polygon": _polygon, "circle": _oval, "ellipse": _oval, "rect": _rect}


def draw_region(shape: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a VIA shape.

    Parameters
    ----------
    shape : mapping
        ``shape_attributes`` of a region; ``theta`` of an ellipse in radians, clockwise on the
        screen.
    size : (int, int)
        Rows and columns.

    Raises
    ------
    AnnotationError
        A shape without area, such as a point, or one with a number missing.
    """
    draw = SHAPES.get(str(shape.get("name")))
    if draw is None:
        expected = ", ".join(sorted(SHAPES))
        raise AnnotationError(
            f"a region of shape {str(shape.get('name'))[:20]!r} has no area; {expected} were "
            "expected: draw it again"
        )
    return draw(shape, size)


def _is_hole(region: Mapping[str, Any]) -> bool:
    attributes = region.get("region_attributes")
    values = attributes.values() if isinstance(attributes, dict) else ()
    return any(isinstance(value, str) and value.strip().lower() == HOLE for value in values)


def draw_regions(regions: Iterable[Mapping[str, Any]], size: tuple[int, int]) -> Mask:
    """The union of the regions without those that an attribute of the value ``hole`` takes out,
    uint8 [H, W].

    Raises
    ------
    AnnotationError
    """
    body, holes = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
    for region in regions:
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        if not isinstance(shape, dict):
            raise AnnotationError(
                "a region has no shape_attributes: export the annotations from VIA again"
            )
        into = holes if _is_hole(region) else body
        into |= draw_region(shape, size)
    return (body & ~holes).astype(np.uint8)


class ViaFile:
    """A project or an annotation export (JSON) of the VGG Image Annotator, version 1 or 2.

    The regions' attribute ``hole``, under any name, takes a region out; the file's attribute
    ``use`` of the value ``no`` leaves the image out. Images without regions count as not annotated.

    Parameters
    ----------
    path : Path

    Raises
    ------
    AnnotationError
        The file is not JSON, or not VIA's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        entries = [entry for entry in self._entries(path) if entry.get("regions")]
        self._names = [
            without_suffix(str(entry.get("filename", "")), PICTURE_SUFFIXES) for entry in entries
        ]
        self._entry = dict(zip(self._names, entries, strict=True))
        self._twice = {name for name, count in Counter(self._names).items() if count > 1}
        self._seen: set[str] = set()

    @staticmethod
    def _entries(path: Path) -> list[dict[str, Any]]:
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            raise AnnotationError(
                f"{path} cannot be read as JSON; a project or an export of VIA 2 was expected"
            ) from None
        if isinstance(content, dict):
            content = content.get("_via_img_metadata", content)
        entries = list(content.values()) if isinstance(content, dict) else []
        if not entries or not all(
            isinstance(entry, dict) and "filename" in entry for entry in entries
        ):
            raise AnnotationError(
                f"{path} holds no images of VIA; a project, or its annotations exported as JSON, "
                "was expected"
            )
        return entries

    def _found(self, target: Target) -> list[str]:
        return [name for name in target.names if name in self._entry]

    def has(self, target: Target) -> bool:
        """Whether regions were drawn on a picture of this image."""
        return bool(self._found(target))

    def read(self, target: Target) -> Mask:
        """The regions drawn."""
        names = self._found(target)
        self._seen.update(names)
        if len(names) > 1 or names[0] in self._twice:
            raise SeveralAnnotationsError(
                f"{self._path.name} has the same image more than once: keep one of them"
            )
        entry = self._entry[names[0]]
        attributes = entry.get("file_attributes")
        if isinstance(attributes, dict) and str(attributes.get("use", "")).strip().lower() == "no":
            raise RejectedSliceError(f"{self._path.name} says that this slice is not to be used")
        regions = entry["regions"]
        return draw_regions(
            regions.values() if isinstance(regions, dict) else regions, target.shape
        )

    def unused(self) -> list[str]:
        """Pictures with regions that are no image's."""
        return sorted(set(self._names) - self._seen)


@lru_cache(maxsize=2)
def _read_seg(path: Path) -> Any:
    import highdicom

    try:
        return highdicom.seg.segread(path)
    except Exception as error:
        # Parsers of foreign files fail in many ways; what they say may quote a header.
        raise AnnotationError(
            f"{path.name} is no DICOM SEG that can be read ({type(error).__name__}): write it again"
        ) from None


def is_seg(dataset: Any) -> bool:
    """Whether a data set is a segmentation (Segmentation Storage, or Label Map Segmentation
    Storage; PS3.4 section B.5).
    """
    return str(dataset.get("SOPClassUID", "")) in (
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7",
    )


def referenced_uids(segmentation: Any) -> set[str]:
    """SOP Instance UIDs that a segmentation's frames were derived from (PS3.3 section
    C.7.6.16.2.6).
    """
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
    """DICOM segmentations; the union of their segments, or of those with a label, is the body.

    Parameters
    ----------
    paths : iterable of Path
    label : str, optional
        Segment Label of the segments that count; all of them if None.
    """

    def __init__(self, paths: Iterable[Path], label: str | None = None) -> None:
        self._label = label
        self._of: dict[str, list[Path]] = {}
        self.bad: list[tuple[str, str]] = []
        """Files that cannot be used: name, what is wrong."""
        for path in paths:
            self._add(path)
        self._seen: set[str] = set()

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
                    "it does not say which images it was made from (no Source Image Sequence): "
                    "write it with them",
                )
            )
        for uid in uids:
            self._of.setdefault(uid, []).append(path)

    def has(self, target: Target) -> bool:
        """Whether a segmentation refers to this instance."""
        return target.uid in self._of

    def read(self, target: Target) -> Mask:
        """The segments on this frame, joined."""
        self._seen.add(target.uid)
        masks = [self._mask(path, target) for path in self._of[target.uid]]
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
        # Fractional segments are probabilities or occupancies of 0 to 1.
        return np.asarray((planes[0] >= 0.5).any(axis=-1))

    def _segments(self, segmentation: Any, path: Path) -> list[int]:
        described = segmentation.SegmentSequence
        chosen = [
            int(item.SegmentNumber)
            for item in described
            if self._label in (None, str(item.SegmentLabel))
        ]
        if not chosen:
            raise AnnotationError(
                f"{path.name} has no segment with the label asked for: choose one that it has"
            )
        return chosen

    def unused(self) -> list[str]:
        """Segmentations, with the number of images that they refer to and that are not there."""
        missing = Counter(
            path.name for uid, paths in self._of.items() if uid not in self._seen for path in paths
        )
        return [f"{name} ({count} of its images)" for name, count in sorted(missing.items())]


def read_annotation(sources: Iterable[Source], target: Target) -> Mask | None:
    """The mask of an image; None where nothing annotates it.

    Raises
    ------
    SeveralAnnotationsError, AnnotationError, RejectedSliceError
        See the sources.
    AnnotationSizeError
        The mask is not of the image's size.
    EmptyMaskError
        Nothing is outlined.
    """
    having = [source for source in sources if source.has(target)]
    if not having:
        return None
    masks = [source.read(target) for source in having]
    if len(masks) > 1:
        raise SeveralAnnotationsError(
            f"{len(masks)} sources annotate this image: name only one of them"
        )
    mask = masks[0]
    if mask.shape != target.shape:
        raise AnnotationSizeError((mask.shape[0], mask.shape[1]), target.shape)
    if not mask.any():
        raise EmptyMaskError(
            "nothing is outlined; a body was expected: annotate it, or leave the image out"
        )
    return mask
