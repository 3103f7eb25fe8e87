"""``coverslip train annotate``: propose outlines, draw them on contact sheets, and write them for
the VIA tool.

The way is: propose, look at the sheets, correct in VIA what is wrong (or say ``use: no`` there),
then ``coverslip train data --via``. Pictures are named by a digest of the SOP Instance UID
(`slice_name`), and nothing of the header is written into them.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coverslip.cli.batch import Batch, collect, misuse
from coverslip.cli.batch import Source as File
from coverslip.cli.options import open_engine, positive
from coverslip.dicom.instance import read_instance
from coverslip.errors import OutputExistsError
from coverslip_training.annotations import HOLE, Mask, Target
from coverslip_training.classical import outline, shown
from coverslip_training.data import part_segmentations, targets_of

Propose = Callable[[NDArray[np.int32]], Mask]
"""From stored values [H, W] with dark air to a mask."""

TOLERANCE = 0.3
"""Largest distance of a simplified polygon from the mask's edge, pixels. Centres lie at least 0.35
from the edge traced, so that hardly a pixel changes sides."""

SMALLEST_PART = 4
"""Corners below which a part is a speck that a polygon cannot hold."""

CELL, CAPTION, GAP = 200, 16, 6
"""Sizes on a contact sheet, pixels."""

COLUMNS = 6
LINE = {"body": (255, 210, 0), HOLE: (0, 220, 255)}

ANNOTATIONS, INDEX = "annotations.json", "index.csv"


@dataclass(frozen=True)
class Ring:
    """A closed line around body, or around a hole in it.

    Attributes
    ----------
    part : str
        ``body`` or ``hole``.
    points : float64 [N, 2]
        x and y, pixels from the left top corner of the image; the last is joined to the first.
    """

    part: str
    points: NDArray[np.float64]


def rings_of(mask: Mask, tolerance: float = TOLERANCE) -> list[Ring]:
    """The outlines of a mask's parts and holes, simplified (Douglas and Peucker 1973).

    Parameters
    ----------
    mask : uint8 [H, W]
    tolerance : float
        Pixels.

    Returns
    -------
    list of Ring
        One of each connected part, one of each hole.
    """
    import cv2
    from contourpy import FillType, contour_generator

    padded = np.pad(mask.astype(np.float64), 1)
    # Pixel j's centre is at j + 0.5; the padding's first is at -0.5.
    xs, ys = np.arange(padded.shape[1]) - 0.5, np.arange(padded.shape[0]) - 0.5
    # The level between 0 and 1 runs half way between centres, along the pixels' edges.
    generator = contour_generator(xs, ys, padded, fill_type=FillType.OuterOffset)
    points, offsets = cast(
        "tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]]", generator.filled(0.5, np.inf)
    )
    rings = []
    for line, bounds in zip(points, offsets, strict=True):
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            closed = np.asarray(line[start : end - 1], np.float32)[:, np.newaxis]
            kept = cv2.approxPolyDP(closed, tolerance, True)[:, 0].astype(np.float64)
            if len(kept) >= SMALLEST_PART:
                rings.append(Ring(HOLE if number else "body", kept))
    return rings


def via_regions(rings: Sequence[Ring]) -> list[dict[str, Any]]:
    """The rings as regions of VIA 2, to a hundredth of a pixel."""
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
    """A project file of VIA 2.

    Parameters
    ----------
    images : sequence of (file name, size in bytes, rings)
        VIA knows a picture again by its name and size.
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
    part = {
        "type": "dropdown",
        "description": "",
        "options": {"body": "", HOLE: ""},
        "default_options": {"body": True},
    }
    use = {
        "type": "radio",
        "description": "no leaves the slice out",
        "options": {"yes": "", "no": ""},
        "default_options": {"yes": True},
    }
    grid = {
        "img_height": 80,
        "rshape_fill": "none",
        "rshape_fill_opacity": 0.3,
        "rshape_stroke": "yellow",
        "rshape_stroke_width": 2,
    }
    interface = {
        "annotation_editor_height": 25,
        "annotation_editor_fontsize": 0.8,
        "leftsidebar_width": 18,
        "image_grid": {**grid, "show_region_shape": True, "show_image_policy": "all"},
        "image": {
            "region_label": "part",
            "region_color": "part",
            "region_label_font": "10px Sans",
            "on_image_annotation_editor_placement": "NEAR_REGION",
        },
    }
    return {
        "_via_settings": {
            "ui": interface,
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": "coverslip"},
        },
        "_via_img_metadata": metadata,
        "_via_attributes": {"region": {"part": part}, "file": {"use": use}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(metadata),
    }


def draw_cell(plane: NDArray[np.int32], rings: Sequence[Ring], caption: str) -> Image.Image:
    """A slice [H, W] with its outline, in the size of a contact sheet's cell."""
    height, width = plane.shape
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(shown(plane)).resize(size, Image.Resampling.LANCZOS).convert("RGB")
    left, top = (CELL - size[0]) // 2, CAPTION + (CELL - size[1]) // 2
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "black")
    cell.paste(picture, (left, top))
    pen = ImageDraw.Draw(cell)
    for ring in rings:
        corners = [(left + float(x) * scale, top + float(y) * scale) for x, y in ring.points]
        pen.line([*corners, corners[0]], fill=LINE[ring.part], width=1)
    pen.text((2, 1), caption, fill="white", font=ImageFont.load_default(11))
    return cell


class Sheets:
    """Pages of slices with their outlines.

    Parameters
    ----------
    folder : Path
    per_page : int
    """

    def __init__(self, folder: Path, per_page: int) -> None:
        self._folder = folder
        self._per_page = per_page
        self._cells: list[Image.Image] = []
        self.pages = 0

    def add(self, cell: Image.Image) -> None:
        """Put a cell on the page, and the page on the disk when it is full."""
        self._cells.append(cell)
        if len(self._cells) == self._per_page:
            self.finish()

    def finish(self) -> None:
        """Write the page that is begun, if one is."""
        if not self._cells:
            return
        columns = min(COLUMNS, self._per_page)
        rows = -(-len(self._cells) // columns)
        page = Image.new(
            "RGB", (columns * (CELL + GAP) - GAP, rows * (CELL + CAPTION + GAP) - GAP), (70, 70, 70)
        )
        for place, cell in enumerate(self._cells):
            page.paste(
                cell, (place % columns * (CELL + GAP), place // columns * (CELL + CAPTION + GAP))
            )
        self.pages += 1
        page.save(self._folder / f"sheet-{self.pages:03d}.png")
        self._cells.clear()


class Annotator:
    """Proposes an outline for each slice and writes what a person needs to check it.

    Parameters
    ----------
    out : Path
        Gets ``previews/``, ``sheets/``, ``annotations.json``, ``index.csv`` and, if wanted,
        ``masks/``.
    propose : callable
    with_masks : bool
        Write the proposals as 1-bit PNG too.
    per_page : int
        Slices on a contact sheet.
    """

    def __init__(self, out: Path, propose: Propose, with_masks: bool, per_page: int) -> None:
        for name in ("previews", "sheets", *(["masks"] if with_masks else [])):
            (out / name).mkdir(parents=True, exist_ok=True)
        self._out = out
        self._propose = propose
        self._with_masks = with_masks
        self._sheets = Sheets(out / "sheets", per_page)
        self._images: list[tuple[str, int, list[Ring]]] = []
        self._index: list[tuple[int, str, str, int]] = []
        self._names: set[str] = set()

    def add(self, file: File) -> dict[str, Any]:
        """Every frame of a file; how many have an outline, and which numbers they have on the
        sheets.
        """
        first, found = len(self._index) + 1, 0
        for target, plane in targets_of(file, read_instance(file.path)):
            found += self._add(file, target, plane)
        return {"first": first, "slices": len(self._index) + 1 - first, "outlined": found}

    def _add(self, file: File, target: Target, plane: NDArray[np.int32]) -> bool:
        name = target.name
        if name in self._names:
            return False
        self._names.add(name)
        mask = self._propose(plane)
        rings = rings_of(mask)
        preview = self._out / "previews" / f"{name}.png"
        Image.fromarray(shown(plane)).save(preview)
        if self._with_masks and mask.any():
            Image.fromarray(mask.astype(bool)).save(self._out / "masks" / f"{name}.png")
        self._images.append((preview.name, preview.stat().st_size, rings))
        self._index.append((len(self._index) + 1, name, file.path.as_posix(), target.frame))
        self._sheets.add(
            draw_cell(
                plane, rings, f"{len(self._index)}  {name}" + ("" if rings else "  nothing found")
            )
        )
        return bool(rings)

    def finish(self) -> int:
        """Write the rest; how many slices there are."""
        self._sheets.finish()
        (self._out / ANNOTATIONS).write_text(json.dumps(via_project(self._images)) + "\n")
        with (self._out / INDEX).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["number", "name", "file", "frame"])
            table.writerows(self._index)
        return len(self._index)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="PATH", help="DICOM files or folders of them"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for previews, contact sheets and annotations",
    )
    parser.add_argument(
        "--propose",
        choices=("classical", "network"),
        default="classical",
        help="who proposes (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="with --propose network: another model than the released one",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=2,
        metavar="N",
        help="threads of the network (default: %(default)s)",
    )
    parser.add_argument("--masks", action="store_true", help="write the proposals as 1-bit PNG too")
    parser.add_argument(
        "--per-page",
        type=positive,
        default=24,
        metavar="N",
        help="slices on a contact sheet (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace annotations that are there"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each file")


def _proposer(arguments: argparse.Namespace) -> Propose:
    if arguments.propose == "classical":
        return outline
    engine = open_engine(
        argparse.Namespace(engine="litert", model=arguments.model, threads=arguments.threads)
    )
    return lambda plane: engine.segment(plane[np.newaxis]).mask[0]


def _say(result: dict[str, Any]) -> str:
    last = result["first"] + result["slices"] - 1
    if not result["slices"]:
        return "was there before, under the same SOP Instance UID"
    numbers = f"number {last}" if result["slices"] == 1 else f"numbers {result['first']} to {last}"
    return f"{numbers}, outlined: {result['outlined']}"


def run(arguments: argparse.Namespace) -> int:
    """Propose, draw and write."""
    missing = [path for path in arguments.inputs if not path.exists()]
    if missing:
        return misuse(f"{missing[0]} is not there; DICOM files or folders of them were expected")
    if arguments.model and arguments.propose == "classical":
        return misuse("--model is for --propose network")
    if (arguments.out / ANNOTATIONS).exists() and not arguments.overwrite:
        # They may hold hours of somebody's corrections.
        raise OutputExistsError(
            f"there are annotations in {arguments.out}: choose another folder, or say --overwrite"
        )
    annotator = Annotator(arguments.out, _proposer(arguments), arguments.masks, arguments.per_page)
    images, _ = part_segmentations(collect(arguments.inputs))
    batch = Batch(arguments.json, "annotate")
    code = batch.run(images, annotator.add, _say)
    count = annotator.finish()
    if not arguments.json:
        print(
            f"{count} slices in {arguments.out}: look at sheets/, then open {ANNOTATIONS} in VIA "
            "2 and add the files of previews/"
        )
    return code
