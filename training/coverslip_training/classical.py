"""Outlines the body without a network: a threshold, an opening, the largest parts, filled holes.

It proposes outlines for annotation, and the network is compared with it. It works on each slice
alone. Nothing here is learned; the few numbers were chosen on the training split alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from coverslip.picture import grey

SMOOTHING = 0.8
"""Standard deviation of the Gaussian before the threshold, pixels."""

SOFT_TISSUE, SOFT_SPREAD, SOFT_SHARE = 980.0, 160.0, 0.45
"""An image is in Hounsfield units if more than `SOFT_SHARE` of its bright pixels are within
`SOFT_SPREAD` of `SOFT_TISSUE` above its air: fat and muscle are 900 to 1100 HU above air (-1000
HU), at any offset. On the training split that share is below 0.41 in MR and above 0.5 in CT."""

HOUNSFIELD = 650.0
"""Threshold above air in CT, HU: below fat, above table foam and clothes."""

SHARE = 0.22
"""Threshold outside CT, as a share of the way from air to the median of the bright pixels. Fat,
muscle and tissue far from the coil differ much in brightness, so it must be near the air."""

PADDING_SHARE = 0.02
"""Least share of pixels with the lowest value for that value to be padding rather than air."""

CT_OPENING, OPENING = 0.009, 0.005
"""Radius of the opening in CT and elsewhere, as a share of the longer side; it cuts off table tops,
sheets and cables."""

CLOSING = 0.012
"""Radius of the closing outside CT, as a share of the longer side; it bridges dark rims and airways
that reach the skin."""

LEAST_PART = 0.04
"""Area of the smallest part that is kept, as a share of the largest: an arm is kept, the edge of a
cushion is not."""

ROUNDS = 12

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


def without_padding(plane: Plane) -> Plane:
    """Raise padding to the level of air, so that the image has two levels instead of three.

    Padding is a lowest value that many pixels have and that is far below the next one.
    """
    lowest = plane.min()
    padded = plane == lowest
    if not PADDING_SHARE < padded.mean() < 1.0:
        return plane
    rest = plane[~padded]
    low, middle, high = np.percentile(rest, [0.5, 10.0, 95.0])
    if low - lowest < 0.2 * (high - lowest):
        return plane
    return np.where(padded, middle, plane).astype(np.float32)


def grey_without_padding(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Convert stored values [H, W] to 8 bits for viewing; padding becomes as dark as air."""
    return grey(np.rint(without_padding(pixels.astype(np.float32))).astype(np.int32))


def otsu(values: Plane) -> float:
    """Find the level, of 256, with the largest variance between classes (Otsu 1979, Eq. 18)."""
    low, high = np.percentile(values, [0.5, 99.0])
    counts, edges = np.histogram(np.clip(values, low, high), bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    total, weighted = float(counts.sum()), np.cumsum(counts * centres)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (
            below * above * (weighted[:-1] / below - (weighted[-1] - weighted[:-1]) / above) ** 2
        )
    return float(edges[1:-1][int(np.argmax(np.nan_to_num(between)))])


def threshold(plane: Plane) -> tuple[float, bool]:
    """Find the level between air and body, and whether the image is in Hounsfield units."""
    level, low = otsu(plane), float(np.percentile(plane, 1.0))
    tissue = float(np.median(plane[plane > level])) if (plane > level).any() else level
    # In MR the dark class may contain half of the body; only its darkest end is air.
    air = float(np.median(plane[plane <= low + 0.2 * (tissue - low)]))
    level = air + SHARE * (tissue - air)
    above = plane[plane > level]
    if np.mean(np.abs(above - air - SOFT_TISSUE) < SOFT_SPREAD) > SOFT_SHARE:
        return air + HOUNSFIELD, True
    for _ in range(ROUNDS):
        before, level = level, air + SHARE * (float(np.median(plane[plane > level])) - air)
        if abs(level - before) < 0.005 * (level - air):
            break
    return level, False


def open_mask(mask: Mask, radius: float) -> Mask:
    """Open a mask [H, W] with a disc of this radius in pixels.

    Outside the image counts as body, so that edges stay.
    """
    if radius < 1.0:
        return mask
    core = (
        ndimage.distance_transform_edt(np.pad(mask, 1, constant_values=True))[1:-1, 1:-1] > radius
    )
    if not core.any():
        return np.zeros_like(mask)
    return np.asarray(ndimage.distance_transform_edt(~core) <= radius) & mask


def close_mask(mask: Mask, radius: float) -> Mask:
    """Close a mask [H, W] with a disc of this radius in pixels; outside the image counts as air."""
    if radius < 1.0 or not mask.any():
        return mask
    near = ndimage.distance_transform_edt(~mask) <= radius
    return np.asarray(ndimage.distance_transform_edt(near) > radius) | mask


def largest_parts(mask: Mask, share: float = LEAST_PART) -> Mask:
    """Keep connected parts with at least this share of the largest part's area."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel())[1:]
    return np.asarray(np.isin(parts, np.flatnonzero(areas >= share * areas.max()) + 1))


def outline(pixels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Outline the body in a slice.

    Parameters
    ----------
    pixels : integers [H, W]
        Stored values with dark air (MONOCHROME2).

    Returns
    -------
    uint8 [H, W]
        1 = body, holes filled; all 0 in a constant image.
    """
    plane = without_padding(pixels.astype(np.float32))
    if plane.min() == plane.max():
        return np.zeros(pixels.shape, np.uint8)
    smooth = np.asarray(ndimage.gaussian_filter(plane, SMOOTHING), np.float32)
    level, hounsfield = threshold(smooth)
    side = max(pixels.shape)
    body = largest_parts(open_mask(smooth > level, (CT_OPENING if hounsfield else OPENING) * side))
    if not hounsfield:
        body = close_mask(body, CLOSING * side)
    return np.asarray(ndimage.binary_fill_holes(body), np.uint8)
