"""What an outline of the body is measured by: overlap, distance of the rims, and what of the body
may become carrier.

An outline is judged as it is used: with the safety margin around it and the intensity gate behind
it, both from the core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from coverslip import metrics
from coverslip.dicom.instance import Instance
from coverslip.pipeline import engine_planes
from coverslip.scheme.carriers import allowed_blocks, clear_blocks
from coverslip.scheme.dct import SIDE
from coverslip.scheme.profiles import DEFAULT
from coverslip_training.records import Slice

MARGINS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24)
"""Safety margins tried, pixels; the product's own is among them."""

PRODUCT_MARGIN = DEFAULT.margin

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A slice as an engine sees it.

    Attributes
    ----------
    name : str
        File name in the data set.
    patient, modality, anatomy, scanner : str
    instance : Instance
    pixels : int32 [H, W]
        Stored values with dark air.
    legal : (lo, hi)
        Legal range, grey levels, inclusive.
    padding : int
        Pixel padding value; below the legal range for none.
    label : uint8 [H, W]
        1 = body; empty where nobody knows.
    """

    name: str
    patient: str
    modality: str
    anatomy: str
    scanner: str
    instance: Instance
    pixels: NDArray[np.int32]
    legal: tuple[int, int]
    padding: int
    label: Mask

    def with_pixels(self, pixels: NDArray[np.int32]) -> Case:
        """The same with other stored values [H, W], which have dark air too."""
        return replace(self, pixels=pixels)


def case_of(item: Slice, instance: Instance) -> Case:
    """A labelled slice and the instance it was read from as a case; the first frame is measured."""
    planes = engine_planes(instance)
    return Case(
        item.name,
        item.patient,
        item.modality,
        item.anatomy or "not said",
        item.scanner or "not said",
        instance,
        planes.pixels[0],
        planes.legal,
        planes.padding,
        item.label,
    )


@dataclass(frozen=True)
class Distances:
    """Between the rims of mask and label, pixels of the image; the longer side of the image where
    one of them is empty.

    Attributes
    ----------
    mean : float
        Mean symmetric surface distance: over the rim pixels of both, the mean distance to the other
        rim.
    p95 : float
        95th percentile of the same.
    hausdorff : float
        The largest of them.
    signed : float
        Mean over the mask's rim, positive where it lies outside the label: a mask that is too
        large.
    """

    mean: float
    p95: float
    hausdorff: float
    signed: float


@dataclass(frozen=True)
class Outlined:
    """What one outline of one slice is worth.

    Attributes
    ----------
    iou : float
        Intersection over union with the label (Eq. 10), 0 to 1.
    distances : Distances
    empty : bool
        Nothing was outlined: an embedding would be refused.
    needed : int
        Smallest margin, pixels, that leaves no body outside; the longer side of the image where
        nothing was outlined.
    missed : tuple of int
        Body pixels outside the mask dilated by each of `MARGINS`.
    carriers : tuple of int
        Body pixels in blocks that may carry, after each of `MARGINS` and the gate.
    found : tuple of float
        Share of the blocks without body, 0 to 1, that may carry after each of `MARGINS` and the
        gate.
    """

    iou: float
    distances: Distances
    empty: bool
    needed: int
    missed: tuple[int, ...]
    carriers: tuple[int, ...]
    found: tuple[float, ...]

    @property
    def in_carriers(self) -> int:
        """Body pixels in blocks that may carry, at the product's margin."""
        return self.carriers[MARGINS.index(PRODUCT_MARGIN)]


def rim(mask: Mask) -> NDArray[np.bool_]:
    """The outermost body pixels of a mask [H, W]; the frame of the image is no rim."""
    return np.asarray((mask > 0) & ~ndimage.binary_erosion(mask > 0, border_value=1))


def rim_distances(mask: Mask, label: Mask) -> Distances:
    """Distances between the rims of a mask and a label, both [H, W]."""
    ours, theirs = rim(mask), rim(label)
    if not ours.any() or not theirs.any():
        same = np.array_equal(mask, label)
        far = 0.0 if same else float(max(mask.shape))
        return Distances(
            far, far, far, 0.0 if same else far * (1.0 if mask.sum() > label.sum() else -1.0)
        )
    away = ndimage.distance_transform_edt(~theirs)[ours]
    both = np.concatenate([away, ndimage.distance_transform_edt(~ours)[theirs]])
    signed = np.where(label[ours] > 0, -away, away)
    return Distances(
        float(both.mean()), float(np.percentile(both, 95)), float(both.max()), float(signed.mean())
    )


def distance_to(mask: Mask) -> NDArray[np.int64]:
    """Distance of each pixel from the mask, pixels, as a square dilation counts it; the longer side
    when the mask is empty.
    """
    if not mask.any():
        return np.full(mask.shape, max(mask.shape), np.int64)
    return np.asarray(ndimage.distance_transform_cdt(mask == 0, metric="chessboard"), np.int64)


def to_pixels(blocks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Blocks [H // 4, W // 4] as pixels [H, W]; edges that are no full block are False."""
    pixels = np.zeros(shape, bool)
    grown = blocks.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    pixels[: grown.shape[0], : grown.shape[1]] = grown
    return pixels


def possible_carriers(case: Case, away: NDArray[np.int64], margin: int) -> NDArray[np.bool_]:
    """Blocks [H // 4, W // 4] that margin and gate allow around a mask that each pixel is ``away``
    from (`distance_to`).
    """
    # A square dilation by a margin is what lies within it; growing it again would cost more than
    # all the rest.
    return allowed_blocks(
        case.pixels, (away <= margin).astype(np.uint8), case.legal, case.padding, 0
    )


def measure(case: Case, mask: Mask) -> Outlined:
    """Hold a mask [H, W] against the label."""
    away = distance_to(mask)
    outside = away[case.label > 0]
    free = clear_blocks(case.pixels, case.label, case.legal, case.padding, 0)
    allowed = [possible_carriers(case, away, margin) for margin in MARGINS]
    body = case.label > 0
    return Outlined(
        iou=metrics.iou(mask, case.label),
        distances=rim_distances(mask, case.label),
        empty=not mask.any(),
        needed=int(outside.max(initial=0)),
        missed=tuple(int(np.count_nonzero(outside > margin)) for margin in MARGINS),
        carriers=tuple(
            int(np.count_nonzero(to_pixels(blocks, body.shape) & body)) for blocks in allowed
        ),
        found=tuple(
            float(np.count_nonzero(blocks & free) / max(np.count_nonzero(free), 1))
            for blocks in allowed
        ),
    )


def brightness(case: Case, where: NDArray[np.bool_]) -> float:
    """The brightest pixel of the cover among some, as a share of the way from the darkest to the
    98th percentile; 0 where there is none.

    Padding is neither dark nor bright: it is left out.
    """
    real = case.pixels[case.pixels != case.padding]
    chosen = case.pixels[where & (case.pixels != case.padding)]
    if not real.size or not chosen.size:
        return 0.0
    low, high = float(real.min()), float(np.percentile(real, 98))
    return float((chosen.max() - low) / max(high - low, 1.0))
