"""Body and air told apart without a network: what annotation starts from, and what the network is measured against.

Threshold, opening, largest parts, holes filled, slice by slice. Nothing here was
learned, and the few numbers were chosen on the training split alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMOOTHING = 0.8
"""Standard deviation of the Gaussian before the threshold, pixels."""

COMPACT = 0.3
"""Spread of the tissue's levels (quartile distance over the contrast with air) below which an image is taken for CT."""

CT_SHARE, OTHER_SHARE = 0.65, 0.22
"""Place of the threshold between air and tissue. In CT it lies below fat and above table foam and clothes, at about -350 HU; in MR
fat, muscle and rims under a distant coil are far apart, so that it lies near the air."""

PADDING_SHARE = 0.02
"""Share of the pixels that the lowest value must have to be taken for padding, rather than air."""

OPENING = 0.006
"""Radius of the opening, as a share of the longer side: cuts table tops, sheets and cables off."""

PART = 0.1
"""Area of the smallest part that is kept, as a share of the largest: an arm is, a cushion's edge is not."""

ROUNDS = 12

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


def without_padding(plane: Plane) -> Plane:
    """Raise padding to the level of air, so that three levels become two.

    Padding is a lowest value that many pixels share and that lies far below what comes next.
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


def otsu(values: Plane) -> float:
    """The level that parts values into two classes with the largest variance between them (Otsu 1979, Eq. 18), of 256 levels."""
    low, high = np.percentile(values, [0.5, 99.0])
    counts, edges = np.histogram(np.clip(values, low, high), bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    total, weighted = float(counts.sum()), np.cumsum(counts * centres)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (weighted[:-1] / below - (weighted[-1] - weighted[:-1]) / above) ** 2
    return float(edges[1:-1][int(np.argmax(np.nan_to_num(between)))])


def threshold(plane: Plane) -> float:
    """The level between air and body: from Otsu's, by rounds in which both classes' medians are taken anew."""
    level = otsu(plane)
    for _ in range(ROUNDS):
        above = plane > level
        if not 0 < above.sum() < above.size:
            break
        air = float(np.median(plane[~above]))
        quartiles = np.percentile(plane[above], [25.0, 50.0, 75.0])
        contrast = max(float(quartiles[1]) - air, 1e-6)
        compact = float(quartiles[2] - quartiles[0]) < COMPACT * contrast
        wanted = air + (CT_SHARE if compact else OTHER_SHARE) * contrast
        if abs(wanted - level) < 0.005 * contrast:
            break
        level = wanted
    return level


def open_by(mask: Mask, radius: float) -> Mask:
    """Opening of a mask [H, W] with a disc of this radius in pixels; outside the image counts as body, so that edges stay."""
    if radius < 1.0:
        return mask
    core = ndimage.distance_transform_edt(np.pad(mask, 1, constant_values=True))[1:-1, 1:-1] > radius
    if not core.any():
        return np.zeros_like(mask)
    return np.asarray(ndimage.distance_transform_edt(~core) <= radius) & mask


def largest_parts(mask: Mask, share: float = PART) -> Mask:
    """The connected parts of at least this share of the largest's area."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel())[1:]
    return np.asarray(np.isin(parts, np.flatnonzero(areas >= share * areas.max()) + 1))


def outline(pixels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The body in a slice.

    Parameters
    ----------
    pixels : integers [H, W]
        Stored values with dark air (MONOCHROME2).

    Returns
    -------
    uint8 [H, W]
        1 = body, holes filled; all 0 where nothing stands out.
    """
    plane = without_padding(pixels.astype(np.float32))
    if plane.min() == plane.max():
        return np.zeros(pixels.shape, np.uint8)
    smooth = np.asarray(ndimage.gaussian_filter(plane, SMOOTHING), np.float32)
    body = open_by(smooth > threshold(smooth), OPENING * max(pixels.shape))
    filled = ndimage.binary_fill_holes(largest_parts(body))
    return np.asarray(filled, np.uint8)
