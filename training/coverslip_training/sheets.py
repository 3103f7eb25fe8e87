"""Contact sheets: pages of slices with their outlines drawn, for review by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coverslip_training.classical import grey_without_padding
from coverslip_training.contours import BODY, HOLE, Ring

CELL, CAPTION, GAP = 200, 16, 6
"""Side of a slice, height of its caption, and space between slices; pixels."""

COLUMNS = 6
COLOURS = {BODY: (255, 210, 0), HOLE: (0, 220, 255)}


def draw_cell(plane: NDArray[np.int32], rings: Sequence[Ring], caption: str) -> Image.Image:
    """Draw a slice [H, W] with its outline and caption, in the size of a sheet's cell."""
    height, width = plane.shape
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    slice_image = Image.fromarray(grey_without_padding(plane))
    slice_image = slice_image.resize(size, Image.Resampling.LANCZOS).convert("RGB")
    left, top = (CELL - size[0]) // 2, CAPTION + (CELL - size[1]) // 2
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "black")
    cell.paste(slice_image, (left, top))
    pen = ImageDraw.Draw(cell)
    for ring in rings:
        corners = [(left + float(x) * scale, top + float(y) * scale) for x, y in ring.points]
        pen.line([*corners, corners[0]], fill=COLOURS[ring.part], width=1)
    pen.text((2, 1), caption, fill="white", font=ImageFont.load_default(11))
    return cell


class Sheets:
    """Writes ``sheet-001.png`` and so on.

    Parameters
    ----------
    folder : Path
    per_page : int
        Number of slices on a page.
    """

    def __init__(self, folder: Path, per_page: int) -> None:
        self._folder = folder
        self._per_page = per_page
        self._cells: list[Image.Image] = []
        self.pages = 0

    def add(self, cell: Image.Image) -> None:
        """Add a cell to the page; write the page when it is full."""
        self._cells.append(cell)
        if len(self._cells) == self._per_page:
            self.finish()

    def finish(self) -> None:
        """Write the last page, unless it is empty."""
        if not self._cells:
            return
        columns = min(COLUMNS, self._per_page)
        rows = -(-len(self._cells) // columns)
        page = Image.new(
            "RGB", (columns * (CELL + GAP) - GAP, rows * (CELL + CAPTION + GAP) - GAP), (70, 70, 70)
        )
        for position, cell in enumerate(self._cells):
            row, column = divmod(position, columns)
            page.paste(cell, (column * (CELL + GAP), row * (CELL + CAPTION + GAP)))
        self.pages += 1
        page.save(self._folder / f"sheet-{self.pages:03d}.png")
        self._cells.clear()
