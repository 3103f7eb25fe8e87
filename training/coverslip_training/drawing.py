"""Slices with the outlines that were measured on them, many on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coverslip_training.classical import shown
from coverslip_training.measures import (
    PRODUCT_MARGIN,
    Case,
    Mask,
    distance_to,
    possible_carriers,
    rim,
    to_pixels,
)

CELL, CAPTION, GAP, COLUMNS = 340, 36, 8, 6
"""Sizes on the page, pixels, and slices in a row."""

LABEL, NETWORK, CLASSICAL, CARRIER = (60, 220, 60), (255, 60, 60), (70, 130, 255), (255, 200, 0)
TINT = 0.3


def enlarged(plane: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A plane [H, W] of 0 and 1 at another size, every pixel a square."""
    height, width = plane.shape
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.NEAREST))


def cell(case: Case, network: Mask, classical: Mask, caption: str) -> Image.Image:
    """A slice with label, network's and classical outline, and the blocks that may carry by the
    network's.
    """
    scale = CELL / max(case.pixels.shape)
    grey = Image.fromarray(shown(case.pixels))
    carriers = to_pixels(
        possible_carriers(case, distance_to(network), PRODUCT_MARGIN), case.pixels.shape
    )
    tint = enlarged(carriers.astype(np.uint8), scale) > 0
    picture = np.asarray(
        grey.resize((tint.shape[1], tint.shape[0]), Image.Resampling.LANCZOS).convert("RGB")
    ).astype(np.float64)
    picture[tint] = (1 - TINT) * picture[tint] + TINT * np.array(CARRIER)
    # Where lines run together the network's is on top: it is the one to look at.
    for mask, colour in ((classical, CLASSICAL), (case.label, LABEL), (network, NETWORK)):
        picture[rim(enlarged(mask, scale))] = colour
    panel = Image.new("RGB", (CELL, CELL + CAPTION), "black")
    panel.paste(
        Image.fromarray(picture.astype(np.uint8)),
        ((CELL - tint.shape[1]) // 2, CAPTION + (CELL - tint.shape[0]) // 2),
    )
    ImageDraw.Draw(panel).text((3, 1), caption, fill="white", font=ImageFont.load_default(13))
    return panel


def legend(width: int) -> Image.Image:
    """A line that says which colour is what."""
    strip = Image.new("RGB", (width, CAPTION), "black")
    pen, place = ImageDraw.Draw(strip), 6
    font = ImageFont.load_default(15)
    for text, colour in (
        ("label", LABEL),
        ("network", NETWORK),
        ("classical", CLASSICAL),
        (
            f"may carry, {PRODUCT_MARGIN} pixels off the network's outline and behind the gate",
            CARRIER,
        ),
    ):
        pen.text((place, 8), text, fill=colour, font=font)
        place += round(pen.textlength(text, font=font)) + 24
    return strip


def page(cells: Sequence[Image.Image], path: Path) -> None:
    """The cells in rows, below the legend, as PNG."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    width = columns * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, CAPTION + rows * (CELL + CAPTION + GAP)), (70, 70, 70))
    sheet.paste(legend(width), (0, 0))
    for place, picture in enumerate(cells):
        row, column = divmod(place, columns)
        sheet.paste(picture, (column * (CELL + GAP), CAPTION + GAP + row * (CELL + CAPTION + GAP)))
    sheet.save(path)
