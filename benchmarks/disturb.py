"""Disturbs stego images: noise, lossy codecs, cropping, on integer planes in their legal range.

Noise has the strength of the paper's Table 6 (Saidi et al. 2024). Its PSNR has the image's own
range as the peak, because the paper first stretches every image between its lowest and highest
pixel. The 8-bit scaling for JPEG is over that range too.
"""

from __future__ import annotations

from collections.abc import Callable

import jpeg_ls
import numpy as np
from numpy.typing import NDArray

from coverslip.pipeline import trials

Plane = NDArray[np.int32]
Disturbance = Callable[[Plane, tuple[int, int], np.random.Generator], Plane]
"""Disturbs a plane int32 [H, W], given its legal range and a random generator."""

GAUSSIAN_DB, UNIFORM_DB, IMPULSE_DB = 53.36, 53.33, 53.39
"""PSNR of the paper's Table 6."""

HARSH_IMPULSES = 0.01
JPEG_LS_NEAR = 8


def own_range(plane: Plane) -> tuple[int, int]:
    """Lowest and highest pixel."""
    return int(plane.min()), int(plane.max())


def deviation(plane: Plane, decibel: float) -> float:
    """Standard deviation, grey levels, of noise with this PSNR (peak: the image's own range)."""
    lo, hi = own_range(plane)
    return float((hi - lo) / 10 ** (decibel / 20))


def _whole(plane: NDArray[np.float64], legal: tuple[int, int]) -> Plane:
    return np.clip(np.rint(plane), *legal).astype(np.int32)


def gaussian(plane: Plane, legal: tuple[int, int], random: np.random.Generator) -> Plane:
    """White Gaussian noise at the paper's strength."""
    return _whole(plane + random.normal(0, deviation(plane, GAUSSIAN_DB), plane.shape), legal)


def uniform(plane: Plane, legal: tuple[int, int], random: np.random.Generator) -> Plane:
    """White uniform noise at the paper's strength."""
    reach = np.sqrt(3) * deviation(plane, UNIFORM_DB)
    return _whole(plane + random.uniform(-reach, reach, plane.shape), legal)


def impulses(plane: Plane, share: float, random: np.random.Generator) -> Plane:
    """Set a share of the pixels to the image's lowest or highest value, half of them to each."""
    lo, hi = own_range(plane)
    chance = random.random(plane.shape)
    return np.where(chance < share / 2, lo, np.where(chance > 1 - share / 2, hi, plane)).astype(
        np.int32
    )


def salt_and_pepper(plane: Plane, _legal: tuple[int, int], random: np.random.Generator) -> Plane:
    """Impulses at the paper's strength, which are few."""
    lo, hi = own_range(plane)
    each = ((plane - float(lo)) ** 2 + (float(hi) - plane) ** 2).mean() / 2
    return impulses(plane, deviation(plane, IMPULSE_DB) ** 2 / each, random)


def harsh_salt_and_pepper(
    plane: Plane, _legal: tuple[int, int], random: np.random.Generator
) -> Plane:
    """Impulses on one pixel in a hundred; not in the paper."""
    return impulses(plane, HARSH_IMPULSES, random)


def jpeg2000(plane: Plane, legal: tuple[int, int], _random: np.random.Generator) -> Plane:
    """JPEG 2000, as Coverslip tries it when it embeds."""
    return trials.jpeg2000(plane, legal)


def jpeg_ls_near(plane: Plane, legal: tuple[int, int], _random: np.random.Generator) -> Plane:
    """Near-lossless JPEG-LS (CharLS), every pixel within 8 grey levels."""
    shifted = (plane - legal[0]).astype(np.uint16)
    coded = np.frombuffer(
        bytes(jpeg_ls.encode_array(shifted, lossy_error=JPEG_LS_NEAR)), dtype=np.uint8
    )
    return _whole(jpeg_ls.decode(coded).astype(np.float64) + legal[0], legal)


def jpeg(plane: Plane, legal: tuple[int, int], _random: np.random.Generator) -> Plane:
    """JPEG, as Coverslip tries it when it embeds."""
    return trials.jpeg(plane, legal)


def edges(share: float, shape: tuple[int, int], random: np.random.Generator) -> tuple[slice, slice]:
    """Choose the rows and columns left when each edge loses from 1 to this share of the side."""
    top, bottom = random.integers(1, max(int(share * shape[0]), 1) + 1, 2)
    left, right = random.integers(1, max(int(share * shape[1]), 1) + 1, 2)
    return slice(int(top), int(shape[0] - bottom)), slice(int(left), int(shape[1] - right))


def cropping(share: float) -> Disturbance:
    """Cut rows and columns away as `edges` chooses; the grid of blocks moves with them."""

    def crop(plane: Plane, _legal: tuple[int, int], random: np.random.Generator) -> Plane:
        rows, columns = edges(share, (plane.shape[0], plane.shape[1]), random)
        return np.ascontiguousarray(plane[rows, columns])

    return crop


def untouched(plane: Plane, _legal: tuple[int, int], _random: np.random.Generator) -> Plane:
    """Return the plane unchanged."""
    return plane


CROPS = {
    "cropped by up to 3 %": 0.03,
    "cropped by up to 6 %": 0.06,
    "cropped by up to 12 %": 0.12,
    "cropped by up to 25 %": 0.25,
}
"""Most that is cut off each edge, as a share of the side."""

LISTED_CROP = 0.06
"""Largest of these shares that `robust` is meant to survive."""

LISTED: dict[str, Disturbance] = {
    "nothing": untouched,
    "Gaussian noise": gaussian,
    "uniform noise": uniform,
    "salt and pepper": salt_and_pepper,
    "JPEG 2000, 20:1": jpeg2000,
    "JPEG-LS, NEAR 8": jpeg_ls_near,
    "JPEG, quality 75": jpeg,
    **{name: cropping(share) for name, share in CROPS.items() if share <= LISTED_CROP},
}
"""Disturbances that `robust` is meant to survive."""

HARSHER: dict[str, Disturbance] = {
    "salt and pepper, 1 %": harsh_salt_and_pepper,
    **{name: cropping(share) for name, share in CROPS.items() if share > LISTED_CROP},
}
"""Harsher disturbances, reported beside them."""
