"""Augments slices with random geometry and intensities, as of scanners that the data do not have.

It works on stored values, before the graph's preprocessing. Every function takes a random generator
and float32 planes [H, W] and returns new planes; labels are float32, 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from coverslip_training.records import Slice

Plane = NDArray[np.float32]

CANVAS = 256
"""Longer side of an augmented image, pixels."""

SHRUNK = 352
"""Longer side to which slices are shrunk (by area) before the warp, so that the warp need not
filter."""


@dataclass(frozen=True)
class SourceSlice:
    """A slice prepared for augmentation.

    Attributes
    ----------
    pixels : float32 [H, W]
        Stored values.
    label : float32 [H, W]
        Share of body in each pixel.
    modality : str
    air : float
        Typical level outside body and padding, grey levels.
    padding : float or None
        Level of the padding, grey levels; None if there is none below the air.
    tissue : float
        Median of the body, grey levels.
    """

    pixels: Plane
    label: Plane
    modality: str
    air: float
    padding: float | None
    tissue: float


def shrink(plane: Plane) -> Plane:
    """Shrink a plane to a longer side of at most `SHRUNK`."""
    scale = SHRUNK / max(plane.shape)
    if scale >= 1.0:
        return plane
    size = (max(1, round(plane.shape[1] * scale)), max(1, round(plane.shape[0] * scale)))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def make_source(item: Slice) -> SourceSlice:
    """Shrink a slice and measure its levels."""
    outside = item.pixels[item.label == 0]
    lowest = float(item.pixels.min())
    tissue = float(np.median(item.pixels[item.label == 1]))
    above = outside[outside > lowest + 0.1 * (tissue - lowest)]
    padded = (
        item.modality == "CT"
        and above.size > 0.02 * outside.size
        and np.mean(item.pixels == lowest) > 0.02
    )
    padding = lowest if padded and float(np.median(above)) - lowest > 300 else None
    levels = above if padding is not None else outside
    air = float(np.median(levels)) if levels.size else lowest
    return SourceSlice(
        shrink(item.pixels.astype(np.float32)),
        shrink(item.label.astype(np.float32)),
        item.modality,
        air,
        padding,
        tissue,
    )


def size_of(plane: Plane) -> tuple[int, int]:
    """Height and width."""
    return int(plane.shape[0]), int(plane.shape[1])


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """Make a smooth random field with values of about -1 to 1."""
    coarse = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32
    )


def canvas_size(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, int]:
    """Choose height and width of the new image: the slice's shape, or a random one."""
    aspect = shape[0] / shape[1]
    if rng.random() < 0.3:
        aspect = float(np.exp(rng.uniform(np.log(0.6), np.log(1.67))))
    if aspect >= 1.0:
        return CANVAS, max(96, round(CANVAS / aspect))
    return max(96, round(CANVAS * aspect)), CANVAS


def placement(
    rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Make a random affine map [2, 3] from slice to new image: rotate, flip, scale, shift."""
    angle = np.deg2rad(rng.normal(0.0, 8.0)) * (rng.random() < 0.7)
    angle += np.pi / 2 * rng.choice(4, p=[0.76, 0.08, 0.08, 0.08])
    zoom = np.exp(
        rng.uniform(np.log(0.62), np.log(1.0))
        if rng.random() < 0.35
        else rng.uniform(-0.1, np.log(1.4))
    )
    scale = zoom * max(size) / max(shape)
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    flips = np.where(rng.random(2) < [0.5, 0.35], -1.0, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.diag([flips[0] * stretch, flips[1] / stretch])
    middle = np.array([size[1], size[0]]) / 2 * (1.0 + rng.uniform(-0.2, 0.2, 2))
    offset = middle - linear @ (np.array([shape[1], shape[0]]) / 2)
    return np.column_stack([linear, offset])


def warp(rng: np.random.Generator, source: SourceSlice) -> tuple[Plane, Plane, Plane]:
    """Warp a slice; return pixels, label, and 1 where the new image is slice rather than fill."""
    size = canvas_size(rng, size_of(source.pixels))
    for _ in range(8):
        matrix = placement(rng, size_of(source.pixels), size)
        label = cv2.warpAffine(source.label, matrix, (size[1], size[0]))
        if label.sum() > 0.02 * label.size:
            break
    else:
        matrix = np.array(
            [[size[1] / source.label.shape[1], 0, 0], [0, size[0] / source.label.shape[0], 0]]
        )
        label = cv2.warpAffine(source.label, matrix, (size[1], size[0]))
    known = cv2.warpAffine(np.ones_like(source.label), matrix, (size[1], size[0]))
    fill = source.padding if source.padding is not None and rng.random() < 0.5 else source.air
    pixels = cv2.warpAffine(source.pixels, matrix, (size[1], size[0]), borderValue=(float(fill),))
    return pixels.astype(np.float32), label.astype(np.float32), known.astype(np.float32)


def add_limbs(
    rng: np.random.Generator, pixels: Plane, label: Plane, source: SourceSlice
) -> tuple[Plane, Plane]:
    """Add arms beside the trunk, kept clear of it."""
    height, width = label.shape
    near = cv2.dilate(label, np.ones((7, 7), np.uint8)) > 0
    limbs = np.zeros_like(label)
    for side in (0.0, 1.0):
        centre = (
            side * width + rng.uniform(-0.05, 0.16) * width * (1 - 2 * side),
            rng.uniform(0.2, 0.9) * height,
        )
        axes = (rng.uniform(0.04, 0.1) * width, rng.uniform(0.05, 0.14) * height)
        box = (centre, (2 * axes[0], 2 * axes[1]), rng.uniform(0, 180))
        cv2.ellipse(limbs, box, (1.0,), -1, cv2.LINE_AA)
    limbs[near] = 0.0
    bone = cv2.erode(limbs, np.ones((13, 13), np.uint8))
    span = source.tissue - source.air
    tissue = source.tissue + span * (
        0.15 * smooth_field(rng, size_of(label), 12) + rng.uniform(0, 0.6) * bone
    )
    return (pixels * (1 - limbs) + tissue * limbs).astype(np.float32), np.maximum(label, limbs)


def add_table(rng: np.random.Generator, pixels: Plane, label: Plane, span: float) -> Plane:
    """Add arcs and lines outside the body, as of tables, blankets, head rests and coils."""
    height, width = label.shape
    drawn = np.zeros_like(label)
    for _ in range(rng.integers(1, 5)):
        thickness = int(rng.choice([1, 1, 2, 3, 6]))
        bright = span * float(np.exp(rng.uniform(np.log(0.02), np.log(0.8))))
        layer = np.zeros_like(label)
        middle = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        axes = (int(rng.uniform(0.2, 1.2) * width), int(rng.uniform(0.05, 1.0) * height))
        start = rng.uniform(0, 360)
        cv2.ellipse(
            layer,
            middle,
            axes,
            rng.uniform(-10, 10),
            start,
            start + rng.uniform(30, 200),
            (1.0,),
            thickness,
            cv2.LINE_AA,
        )
        drawn = np.maximum(drawn, layer * bright)
    return (pixels + drawn * (1.0 - label)).astype(np.float32)


def rician(rng: np.random.Generator, signal: Plane, sigma: float) -> Plane:
    """Add Rician noise: Gaussian noise on a complex signal (Gudbjartsson and Patz 1995)."""
    noise = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(signal + noise[0], noise[1]), np.float32)


def coil_shading(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Make a multiplicative bias field, up to a factor of about 3 either way."""
    return np.asarray(
        np.exp(rng.uniform(0.1, 1.1) * smooth_field(rng, shape, int(rng.integers(2, 5)))),
        np.float32,
    )


def ct_as_mr(rng: np.random.Generator, pixels: Plane, label: Plane, source: SourceSlice) -> Plane:
    """Make a CT look like MR: random tissue intensities, a dark rim at times, shading, noise."""
    relative = (pixels - source.air) / max(source.tissue - source.air, 1.0)
    knots = np.array([0.0, 0.5, 0.88, 0.97, 1.03, 1.12, 1.5, 2.2])
    tissue = np.concatenate([[0.0, rng.uniform(0.02, 0.3)], rng.uniform(0.08, 1.0, 6)])
    signal = np.interp(relative, knots, tissue).astype(np.float32)
    inside = np.maximum(signal, rng.uniform(0.01, 0.08)) * label
    if rng.random() < 0.4:
        width = int(rng.integers(1, 5))
        core = cv2.erode(label, np.ones((2 * width + 1,) * 2, np.uint8))
        inside = inside * (core + (1.0 - core) * np.float32(rng.uniform(0.2, 0.9)))
    inside = inside * coil_shading(rng, size_of(label))
    sigma = float(np.exp(rng.uniform(np.log(0.002), np.log(0.05))))
    blurred = np.asarray(cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.3, 0.8)), np.float32)
    return rician(rng, blurred, sigma)


def vary_mr(rng: np.random.Generator, pixels: Plane, span: float) -> Plane:
    """Vary an MR by gamma, shading, ghosts and noise; the result is relative (1 = tissue)."""
    signal = np.maximum(pixels, 0.0) / max(span, 1.0)
    if rng.random() < 0.4:
        signal = signal ** rng.uniform(0.7, 1.5)
    if rng.random() < 0.5:
        signal = signal * coil_shading(rng, size_of(signal))
    if rng.random() < 0.15:
        signal = signal + rng.uniform(0.01, 0.06) * np.roll(
            signal, int(rng.integers(20, 120)), axis=int(rng.integers(2))
        )
    if rng.random() < 0.4:
        signal = rician(
            rng, signal.astype(np.float32), float(np.exp(rng.uniform(np.log(0.003), np.log(0.06))))
        )
    return signal.astype(np.float32)


def vary_ct(rng: np.random.Generator, pixels: Plane, source: SourceSlice) -> Plane:
    """Vary a CT by noise and by filling its padding with air; grey levels."""
    span = max(source.tissue - source.air, 1.0)
    padding = np.zeros(pixels.shape, bool)
    level = source.padding
    if level is not None:
        padding = pixels < (source.air + level) / 2
        if rng.random() < 0.4:
            pixels = np.where(padding, source.air, pixels)
            padding[:] = False
    if rng.random() < 0.4:
        pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(
            span * rng.uniform(0.003, 0.07)
        )
    if level is not None:
        pixels = np.where(padding, level, pixels)
    return pixels.astype(np.float32)


def cut_circle(
    rng: np.random.Generator, pixels: Plane, label: Plane, source: SourceSlice
) -> tuple[Plane, Plane]:
    """Cut pixels and label to a reconstruction circle, with padding at or below the air outside."""
    height, width = label.shape
    rows, columns = np.ogrid[:height, :width]
    centre = (height / 2 + rng.normal(0, 4), width / 2 + rng.normal(0, 4))
    radius = max(height, width) / 2 * rng.uniform(0.97, 1.08)
    outside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 > radius**2
    span = max(source.tissue - source.air, 1.0)
    level = source.air - span * float(rng.choice([0.0, 0.024, 1.0, 2.024]))
    return np.where(outside, level, pixels).astype(np.float32), np.where(
        outside, 0.0, label
    ).astype(np.float32)


def add_metal(rng: np.random.Generator, pixels: Plane, label: Plane, span: float) -> Plane:
    """Add a few very bright spots in the body."""
    pixels = pixels.copy()
    rows, columns = np.nonzero(label > 0.9)
    for pick in rng.integers(0, rows.size, int(rng.integers(1, 4))) if rows.size else []:
        spot = (int(columns[pick]), int(rows[pick]))
        radius, level = int(rng.integers(1, 6)), float(pixels.max() + span * rng.uniform(2, 20))
        cv2.circle(pixels, spot, radius, (level,), -1)
    return pixels


def store(rng: np.random.Generator, relative: Plane, modality: str) -> NDArray[np.int32]:
    """Convert to stored integers, with the gain and offset of some scanner; 1 is about tissue."""
    if modality == "CT":
        gain, offset = 1000.0 * rng.uniform(0.9, 1.1), float(rng.choice([0.0, -1024.0, -1000.0]))
    else:
        # Some MR is stored with tissue at a few dozen grey levels, where an embedding is strong.
        low, high = (25.0, 120.0) if rng.random() < 0.25 else (60.0, 6000.0)
        gain, offset = (
            float(np.exp(rng.uniform(np.log(low), np.log(high)))),
            float(rng.choice([0, 0, 0, 20, -100])),
        )
    return np.rint(np.clip(relative * gain + offset, -32768, 65535)).astype(np.int32)


def augment(
    rng: np.random.Generator, source: SourceSlice
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Make a new image int32 [h, w] and its label float32 [h, w], longer side 256 pixels."""
    pixels, label, known = warp(rng, source)
    span = max(source.tissue - source.air, 1.0)
    if source.modality == "CT" and rng.random() < 0.08:
        pixels, label = add_limbs(rng, pixels, label, source)
    if rng.random() < 0.3:
        pixels = add_table(rng, pixels, label * known, span)
    if source.modality == "CT" and rng.random() < 0.4:
        relative, modality = ct_as_mr(rng, pixels, label, source), "MR"
    elif source.modality == "CT":
        pixels = vary_ct(rng, pixels, source)
        if rng.random() < 0.2:
            pixels, label = cut_circle(rng, pixels, label, source)
        if rng.random() < 0.05:
            pixels = add_metal(rng, pixels, label, span)
        relative, modality = ((pixels - source.air) / span).astype(np.float32), "CT"
        if rng.random() < 0.12:
            relative = np.clip(relative, rng.uniform(-0.1, 0.75), rng.uniform(1.1, 1.6)).astype(
                np.float32
            )
    else:
        relative, modality = vary_mr(rng, pixels, max(source.tissue, 1.0)), "MR"
    stored = store(rng, relative, modality)
    if rng.random() < 0.45:
        stored = stego_like(rng, stored, label)
    return stored, label


def stego_like(
    rng: np.random.Generator, stored: NDArray[np.int32], label: Plane
) -> NDArray[np.int32]:
    """Add the noise to the background that an embedding leaves after a resize to half.

    The step is 4 to 64 grey levels, in some or all of the blocks (2 x 2 pixels here). The noise is
    fine, as when all coefficients carry, or constant in a block, as when the low ones do.
    """
    step = float(np.exp(rng.uniform(np.log(4), np.log(64))))
    height, width = stored.shape
    blocks = ((height + 1) // 2, (width + 1) // 2)

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]

    noise = rng.uniform(-step / 4, step / 4, stored.shape)
    if rng.random() < 0.4:
        noise = spread(rng.uniform(-step / 4, step / 4, blocks))
    if rng.random() < 0.5:
        noise = noise * spread((rng.random(blocks) < rng.uniform(0.05, 0.5)).astype(np.float64))
    return np.where(label < 0.01, np.rint(stored + noise), stored).astype(np.int32)
