"""Turns a mask into simplified polygons around its parts and holes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from coverslip_training.annotations import Mask

BODY, HOLE = "body", "hole"
"""Parts of an outline; a hole is taken out of the body."""

TOLERANCE = 0.3
"""Largest distance of a simplified polygon from the mask's edge, pixels. Pixel centres are at least
0.35 from the traced edge, so hardly any pixel changes sides."""

LEAST_CORNERS = 4
"""Number of corners below which a part is a speck and is dropped."""


@dataclass(frozen=True)
class Ring:
    """A closed line around body, or around a hole in it.

    Attributes
    ----------
    part : str
        `BODY` or `HOLE`.
    points : float64 [N, 2]
        x and y in pixels from the image's top left corner; the last is joined to the first.
    """

    part: str
    points: NDArray[np.float64]


def trace_rings(mask: Mask, tolerance: float = TOLERANCE) -> list[Ring]:
    """Trace a mask's parts and holes, and simplify the lines (Douglas and Peucker 1973).

    Parameters
    ----------
    mask : uint8 [H, W]
    tolerance : float
        Largest distance from the traced line, pixels.

    Returns
    -------
    list of Ring
        One for each connected part, one for each hole.
    """
    import cv2
    from contourpy import FillType, contour_generator

    padded = np.pad(mask.astype(np.float64), 1)
    # The centre of pixel j is at j + 0.5; that of the first padded pixel is at -0.5.
    xs, ys = np.arange(padded.shape[1]) - 0.5, np.arange(padded.shape[0]) - 0.5
    # The level 0.5 runs half way between centres, along the edges of the pixels.
    generator = contour_generator(xs, ys, padded, fill_type=FillType.OuterOffset)
    points, offsets = cast(
        "tuple[list[NDArray[np.float64]], list[NDArray[np.uint32]]]", generator.filled(0.5, np.inf)
    )
    rings = []
    for line, bounds in zip(points, offsets, strict=True):
        for number, (start, end) in enumerate(itertools.pairwise(bounds)):
            closed = np.asarray(line[start : end - 1], np.float32)[:, np.newaxis]
            corners = cv2.approxPolyDP(closed, tolerance, True)[:, 0].astype(np.float64)
            if len(corners) >= LEAST_CORNERS:
                rings.append(Ring(HOLE if number else BODY, corners))
    return rings
