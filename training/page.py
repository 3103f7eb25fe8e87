"""Contact sheets of an evaluation: slices with their outlines and what becomes carrier, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from coverslip.training.classical import shown
from coverslip.training.measures import rim
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIDE = 448
"""Longer side of a slice on the sheet, pixels."""

LINE = 17
GAP = 6
COLUMNS = 6
COLOURS = {"label": (90, 230, 90), "network": (255, 80, 60), "classical": (60, 210, 255)}
CARRIER = np.array([60, 90, 255], np.float64)


@dataclass(frozen=True)
class Cell:
    """One slice of a sheet.

    Attributes
    ----------
    pixels : int32 [H, W]
    outlines : mapping of str to uint8 [H, W]
        Masks to outline, by the names of `COLOURS`.
    tinted : bool [H, W]
        What becomes, or became, carrier.
    caption : sequence of str
        Lines above the picture.
    """

    pixels: NDArray[np.int32]
    outlines: Mapping[str, NDArray[np.uint8]] = field(repr=False)
    tinted: NDArray[np.bool_] = field(repr=False)
    caption: Sequence[str]


def enlarged(plane: NDArray[np.uint8], sharp: bool) -> NDArray[np.uint8]:
    """A plane [H, W] with its longer side `SIDE` pixels long."""
    scale = SIDE / max(plane.shape)
    size = (max(round(plane.shape[1] * scale), 1), max(round(plane.shape[0] * scale), 1))
    how = Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(plane).resize(size, how))


def draw(cell: Cell) -> Image.Image:
    """A cell as a picture."""
    base = np.repeat(enlarged(shown(cell.pixels), sharp=False)[..., None], 3, axis=2).astype(np.float64)
    where = enlarged(cell.tinted.astype(np.uint8), sharp=True) > 0
    base[where] = 0.6 * base[where] + 0.4 * CARRIER
    for name, mask in cell.outlines.items():
        base[rim(enlarged(mask, sharp=True))] = COLOURS[name]
    top = LINE * len(cell.caption) + 4
    picture = Image.new("RGB", (SIDE, SIDE + top), "black")
    left, down = (SIDE - base.shape[1]) // 2, (SIDE - base.shape[0]) // 2
    picture.paste(Image.fromarray(base.astype(np.uint8)), (left, top + down))
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(cell.caption):
        pen.text((3, 1 + LINE * number), line, fill="white", font=ImageFont.load_default(13))
    return picture


def save_sheet(cells: Sequence[Cell], title: str, path: Path) -> None:
    """Write cells as one PNG, row by row, under a title and the colours' names.

    Parameters
    ----------
    cells : sequence of Cell
        At least one, with captions of the same number of lines.
    title : str
    path : Path
    """
    pictures = [draw(cell) for cell in cells]
    width, height = pictures[0].size
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    top = 2 * LINE + GAP
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, top + rows * (height + GAP) - GAP), (70, 70, 70))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    pen.text((4, 1), title, fill="white", font=font)
    at = 4
    for name, colour in [*COLOURS.items(), ("carriers", (110, 140, 255))]:
        pen.text((at, LINE + 1), name, fill=colour, font=font)
        at += 90
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % columns * (width + GAP), top + place // columns * (height + GAP)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
