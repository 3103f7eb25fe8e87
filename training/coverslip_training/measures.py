"""Measures an outline: overlap, distances between rims, and body in blocks that may carry.

An outline is measured as it is used, with the safety margin around it and the intensity gate behind
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
"""Safety margins to measure, pixels; `PRODUCT_MARGIN` is one of them."""

PRODUCT_MARGIN = DEFAULT.margin
"""Safety margin that Coverslip uses, pixels."""

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A slice, ready for an engine.

    Attributes
    ----------
    name : str
        File name of the slice in its data set.
    patient, modality, anatomy, scanner : str
    instance : Instance
    pixels : int32 [H, W]
        Stored values with dark air.
    legal : (lo, hi)
        Legal range, grey levels, inclusive.
    padding : int
        Pixel padding value; below the legal range if there is none.
    label : uint8 [H, W]
        1 = body; all 0 if there is no label.
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
        """Replace the stored values [H, W]; air must be dark."""
        return replace(self, pixels=pixels)


def case_of(item: Slice, instance: Instance) -> Case:
    """Make a case of a labelled slice and its instance, of which the first frame is measured."""
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
class RimDistances:
    """Distances between the rims of mask and label, pixels of the image.

    If one of the two is empty, all are the longer side of the image.

    Attributes
    ----------
    mean : float
        Mean symmetric surface distance: over the rim pixels of both, the mean distance to the other
        rim.
    p95 : float
        95th percentile of the same distances.
    hausdorff : float
        Largest of the same distances.
    signed : float
        Mean over the mask's rim, positive outside the label; above 0 if the mask is too large.
    """

    mean: float
    p95: float
    hausdorff: float
    signed: float


@dataclass(frozen=True)
class OutlineScore:
    """Measures of one outline of one slice.

    Attributes
    ----------
    iou : float
        Intersection over union with the label (Eq. 10), 0 to 1.
    distances : RimDistances
    empty : bool
        Nothing was outlined: an embedding would be refused.
    needed : int
        Least margin that covers all labelled body, pixels; the longer side of the image if nothing
        was outlined.
    missed : tuple of int
        Number of body pixels outside the mask dilated by each of `MARGINS`.
    in_carriers : tuple of int
        Number of body pixels in blocks that may carry, after each of `MARGINS` and the gate.
    background : tuple of float
        Share of the blocks without body that may carry, 0 to 1, after each of `MARGINS` and the
        gate.
    """

    iou: float
    distances: RimDistances
    empty: bool
    needed: int
    missed: tuple[int, ...]
    in_carriers: tuple[int, ...]
    background: tuple[float, ...]

    @property
    def body_in_carriers(self) -> int:
        """Number of body pixels in blocks that may carry, at the product's margin."""
        return self.in_carriers[MARGINS.index(PRODUCT_MARGIN)]


def rim(mask: Mask) -> NDArray[np.bool_]:
    """Outermost body pixels of a mask [H, W]; the edge of the image is not a rim."""
    return np.asarray((mask > 0) & ~ndimage.binary_erosion(mask > 0, border_value=1))


def rim_distances(mask: Mask, label: Mask) -> RimDistances:
    """Measure the distances between the rims of a mask and a label, both [H, W]."""
    ours, theirs = rim(mask), rim(label)
    if not ours.any() or not theirs.any():
        same = np.array_equal(mask, label)
        far = 0.0 if same else float(max(mask.shape))
        return RimDistances(
            far, far, far, 0.0 if same else far * (1.0 if mask.sum() > label.sum() else -1.0)
        )
    to_label = ndimage.distance_transform_edt(~theirs)[ours]
    both = np.concatenate([to_label, ndimage.distance_transform_edt(~ours)[theirs]])
    signed = np.where(label[ours] > 0, -to_label, to_label)
    return RimDistances(
        float(both.mean()), float(np.percentile(both, 95)), float(both.max()), float(signed.mean())
    )


def distance_to(mask: Mask) -> NDArray[np.int64]:
    """Chessboard distance of each pixel from the mask, pixels; the longer side if it is empty."""
    if not mask.any():
        return np.full(mask.shape, max(mask.shape), np.int64)
    return np.asarray(ndimage.distance_transform_cdt(mask == 0, metric="chessboard"), np.int64)


def to_pixels(blocks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Expand blocks [H // 4, W // 4] to pixels [H, W]; pixels outside full blocks are False."""
    pixels = np.zeros(shape, bool)
    grown = blocks.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    pixels[: grown.shape[0], : grown.shape[1]] = grown
    return pixels


def possible_carriers(case: Case, distance: NDArray[np.int64], margin: int) -> NDArray[np.bool_]:
    """Blocks [H // 4, W // 4] that margin and gate allow, from the distances of `distance_to`."""
    # The dilation by a margin is where the distance is at most the margin; dilating for each margin
    # would take longer than all the rest.
    return allowed_blocks(
        case.pixels, (distance <= margin).astype(np.uint8), case.legal, case.padding, 0
    )


def measure(case: Case, mask: Mask) -> OutlineScore:
    """Compare a mask [H, W] with the label."""
    distance = distance_to(mask)
    outside = distance[case.label > 0]
    free = clear_blocks(case.pixels, case.label, case.legal, case.padding, 0)
    allowed = [possible_carriers(case, distance, margin) for margin in MARGINS]
    body = case.label > 0
    return OutlineScore(
        iou=metrics.iou(mask, case.label),
        distances=rim_distances(mask, case.label),
        empty=not mask.any(),
        needed=int(outside.max(initial=0)),
        missed=tuple(int(np.count_nonzero(outside > margin)) for margin in MARGINS),
        in_carriers=tuple(
            int(np.count_nonzero(to_pixels(blocks, body.shape) & body)) for blocks in allowed
        ),
        background=tuple(
            float(np.count_nonzero(blocks & free) / max(np.count_nonzero(free), 1))
            for blocks in allowed
        ),
    )


def brightness(case: Case, where: NDArray[np.bool_]) -> float:
    """Brightness of the cover's brightest pixel among those where ``where`` is True.

    0 is the darkest pixel of the cover and 1 its 98th percentile; 0 if there is no such pixel.
    Padding is neither dark nor bright, and is left out.
    """
    real = case.pixels[case.pixels != case.padding]
    chosen = case.pixels[where & (case.pixels != case.padding)]
    if not real.size or not chosen.size:
        return 0.0
    low, high = float(real.min()), float(np.percentile(real, 98))
    return float((chosen.max() - low) / max(high - low, 1.0))
