"""Draws slices with the outlines that were measured, many on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from coverslip_training.classical import grey_without_padding
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
"""Side of a slice, height of its caption and space between slices, pixels; slices in a row."""

LABEL, NETWORK, CLASSICAL, CARRIER = (60, 220, 60), (255, 60, 60), (70, 130, 255), (255, 200, 0)
TINT = 0.3
"""Opacity of the colour over blocks that may carry."""


def enlarged(plane: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Enlarge a plane [H, W] of 0 and 1, each pixel to a square."""
    height, width = plane.shape
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.NEAREST))


def draw_slice(case: Case, network: Mask, classical: Mask, caption: str) -> Image.Image:
    """Draw a slice with three outlines, and tint the blocks that may carry by the network's."""
    scale = CELL / max(case.pixels.shape)
    grey = Image.fromarray(grey_without_padding(case.pixels))
    carriers = to_pixels(
        possible_carriers(case, distance_to(network), PRODUCT_MARGIN), case.pixels.shape
    )
    tint = enlarged(carriers.astype(np.uint8), scale) > 0
    picture = np.asarray(
        grey.resize((tint.shape[1], tint.shape[0]), Image.Resampling.LANCZOS).convert("RGB")
    ).astype(np.float64)
    picture[tint] = (1 - TINT) * picture[tint] + TINT * np.array(CARRIER)
    # The network's line comes last, so that it is on top where lines coincide.
    for mask, colour in ((classical, CLASSICAL), (case.label, LABEL), (network, NETWORK)):
        picture[rim(enlarged(mask, scale))] = colour
    panel = Image.new("RGB", (CELL, CELL + CAPTION), "black")
    panel.paste(
        Image.fromarray(picture.astype(np.uint8)),
        ((CELL - tint.shape[1]) // 2, CAPTION + (CELL - tint.shape[0]) // 2),
    )
    ImageDraw.Draw(panel).text((3, 1), caption, fill="white", font=ImageFont.load_default(13))
    return panel


def draw_legend(width: int) -> Image.Image:
    """Draw a line that names the colours."""
    strip = Image.new("RGB", (width, CAPTION), "black")
    pen, left = ImageDraw.Draw(strip), 6
    font = ImageFont.load_default(15)
    for text, colour in (
        ("label", LABEL),
        ("network", NETWORK),
        ("classical", CLASSICAL),
        (
            f"may carry: {PRODUCT_MARGIN} pixels from the network's outline and past the gate",
            CARRIER,
        ),
    ):
        pen.text((left, 8), text, fill=colour, font=font)
        left += round(pen.textlength(text, font=font)) + 24
    return strip


def write_page(cells: Sequence[Image.Image], path: Path) -> None:
    """Write the cells in rows below the legend, as PNG."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    width = columns * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, CAPTION + rows * (CELL + CAPTION + GAP)), (70, 70, 70))
    sheet.paste(draw_legend(width), (0, 0))
    for position, picture in enumerate(cells):
        row, column = divmod(position, columns)
        sheet.paste(picture, (column * (CELL + GAP), CAPTION + GAP + row * (CELL + CAPTION + GAP)))
    sheet.save(path)
