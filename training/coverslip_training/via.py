"""Reads and writes annotations of the VGG Image Annotator (VIA).

Shapes are in pixels of the image. 0 is the left (top) edge of the first pixel, so the centre of
pixel j is at j + 0.5, as on VIA's canvas. A pixel belongs to a shape that contains its centre.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverslip_training.annotations import Mask, Target, strip_suffix
from coverslip_training.contours import BODY, HOLE, Ring
from coverslip_training.errors import AnnotationError, RejectedSliceError, SeveralAnnotationsError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def _number(shape: Mapping[str, Any], key: str) -> float:
    value = shape.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    raise AnnotationError(
        f"a region of shape {str(shape.get('name'))[:20]!r} has no number for {key!r}: "
        "draw it again"
    )


def _polygon(shape: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    from pycocotools import mask as coco

    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or len(xs) < 3:
        raise AnnotationError(
            "a polygon needs as many x as y, and at least 3 of each: draw it again"
        )
    flat = [
        _number({"name": "polygon", "point": value}, "point")
        for pair in zip(xs, ys, strict=True)
        for value in pair
    ]
    if max(flat[::2]) > size[1] + 1 or max(flat[1::2]) > size[0] + 1:
        raise AnnotationError(
            f"a polygon reaches {max(flat[::2]):.0f}, {max(flat[1::2]):.0f} (x, y) in an image "
            f"of {size[1]} x {size[0]}: it was drawn on an image of another size"
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
    """Draw a VIA shape; True inside it, bool [H, W].

    Parameters
    ----------
    shape : mapping
        ``shape_attributes`` of a region; ``theta`` of an ellipse is in radians, clockwise on the
        screen.
    size : (int, int)
        Rows and columns.

    Raises
    ------
    AnnotationError
        The shape has no area, as a point, or a number is missing.
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
    """Draw the union of the regions, less those with an attribute of value ``hole``.

    Raises
    ------
    AnnotationError
        A region is not one that `draw_region` draws.
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
    """A project file or JSON export of VIA, version 1 or 2.

    A region with the value ``hole`` in any attribute is taken out of the body. The file attribute
    ``use: no`` rejects an image. An image without regions is not annotated.

    Parameters
    ----------
    path : Path

    Raises
    ------
    AnnotationError
        The file is not JSON, or not from VIA.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        entries = [entry for entry in self._load(path) if entry.get("regions")]
        self._names = [
            strip_suffix(str(entry.get("filename", "")), IMAGE_SUFFIXES) for entry in entries
        ]
        self._entries = dict(zip(self._names, entries, strict=True))
        self._repeated = {name for name, count in Counter(self._names).items() if count > 1}
        self._read: set[str] = set()

    @staticmethod
    def _load(path: Path) -> list[dict[str, Any]]:
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

    def _names_of(self, target: Target) -> list[str]:
        return [name for name in target.names if name in self._entries]

    def has(self, target: Target) -> bool:
        """Whether regions are drawn on this image."""
        return bool(self._names_of(target))

    def read(self, target: Target) -> Mask:
        """Draw the image's regions."""
        names = self._names_of(target)
        self._read.update(names)
        if len(names) > 1 or names[0] in self._repeated:
            raise SeveralAnnotationsError(
                f"{self._path.name} has the same image more than once: keep one of them"
            )
        entry = self._entries[names[0]]
        attributes = entry.get("file_attributes")
        if isinstance(attributes, dict) and str(attributes.get("use", "")).strip().lower() == "no":
            raise RejectedSliceError(f"{self._path.name} says that this slice is not to be used")
        regions = entry["regions"]
        return draw_regions(
            regions.values() if isinstance(regions, dict) else regions, target.shape
        )

    def unused(self) -> list[str]:
        """List the annotated images that have not been read."""
        return sorted(set(self._names) - self._read)


_ATTRIBUTES = {
    "region": {
        "part": {
            "type": "dropdown",
            "description": "",
            "options": {BODY: "", HOLE: ""},
            "default_options": {BODY: True},
        }
    },
    "file": {
        "use": {
            "type": "radio",
            "description": "no leaves the slice out",
            "options": {"yes": "", "no": ""},
            "default_options": {"yes": True},
        }
    },
}
"""Attributes that VIA offers for a region and for an image."""

_INTERFACE = {
    "annotation_editor_height": 25,
    "annotation_editor_fontsize": 0.8,
    "leftsidebar_width": 18,
    "image_grid": {
        "img_height": 80,
        "rshape_fill": "none",
        "rshape_fill_opacity": 0.3,
        "rshape_stroke": "yellow",
        "rshape_stroke_width": 2,
        "show_region_shape": True,
        "show_image_policy": "all",
    },
    "image": {
        "region_label": "part",
        "region_color": "part",
        "region_label_font": "10px Sans",
        "on_image_annotation_editor_placement": "NEAR_REGION",
    },
}
"""Settings of VIA's user interface."""


def via_regions(rings: Sequence[Ring]) -> list[dict[str, Any]]:
    """Convert rings to regions of VIA 2, rounded to a hundredth of a pixel."""
    return [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [round(float(x), 2) for x in ring.points[:, 0]],
                "all_points_y": [round(float(y), 2) for y in ring.points[:, 1]],
            },
            "region_attributes": {"part": ring.part},
        }
        for ring in rings
    ]


def via_project(images: Sequence[tuple[str, int, Sequence[Ring]]]) -> dict[str, Any]:
    """Make a project file of VIA 2.

    Parameters
    ----------
    images : sequence of (file name, size in bytes, rings)
        VIA recognises an image by its name and size.
    """
    metadata = {
        f"{name}{size}": {
            "filename": name,
            "size": size,
            "regions": via_regions(rings),
            "file_attributes": {"use": "yes"},
        }
        for name, size, rings in images
    }
    return {
        "_via_settings": {
            "ui": _INTERFACE,
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": "coverslip"},
        },
        "_via_img_metadata": metadata,
        "_via_attributes": _ATTRIBUTES,
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(metadata),
    }
