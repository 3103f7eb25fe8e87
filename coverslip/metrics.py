"""Figures of merit: PSNR in three conventions, NCC, IoU, capacity, payload, ternary bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAPER_PEAK = 255.0
"""The paper's figures are 10 log10(255^2 / MSE), with the MSE of images normalised to [0, 1]."""

SIXTEEN_BIT_PEAK = 65535.0


def mse(cover: NDArray[Any], stego: NDArray[Any]) -> float:
    """Mean squared error, grey levels squared (Eq. 11)."""
    difference = stego.astype(np.float64) - cover.astype(np.float64)
    return float(np.mean(difference * difference))


def psnr(error: float, peak: float) -> float:
    """10 log10(peak^2 / error), dB (Eq. 12); infinite for an error of 0."""
    return float("inf") if error == 0 else float(10 * np.log10(peak * peak / error))


@dataclass(frozen=True)
class Psnr:
    """PSNR in three conventions, dB.

    Attributes
    ----------
    stored : float
        Standard, peak = 2^BitsStored - 1.
    sixteen_bit : float
        Standard, peak = 65535.
    paper : float
        The paper's convention: peak 255 on images normalised to [0, 1] by the cover's own range.
    """

    stored: float
    sixteen_bit: float
    paper: float


def format_psnr(figures: Psnr) -> str:
    """The three figures with their peaks, for a sentence of a report.

    ``PSNR 60.8 dB (peak of the stored bits), 84.9 dB (peak 65535), 108.9 dB (the paper's
    convention)``
    """
    return (
        f"PSNR {figures.stored:.1f} dB (peak of the stored bits), "
        f"{figures.sixteen_bit:.1f} dB (peak {SIXTEEN_BIT_PEAK:.0f}), "
        f"{figures.paper:.1f} dB (the paper's convention)"
    )


def psnr_three(cover: NDArray[Any], stego: NDArray[Any], legal: tuple[int, int]) -> Psnr:
    """PSNR of a stego image in the three conventions.

    Parameters
    ----------
    cover, stego : [H, W] or [F, H, W], grey levels
    legal : (lo, hi)
        ``hi - lo`` is the peak of ``stored``.
    """
    return psnr_of(mse(cover, stego), float(cover.max()) - float(cover.min()), legal)


def psnr_of(error: float, span: float, legal: tuple[int, int]) -> Psnr:
    """As `psnr_three`, for a mean squared error and the range of the cover, in grey levels."""
    span = max(span, 1.0)
    return Psnr(
        stored=psnr(error, float(legal[1] - legal[0])),
        sixteen_bit=psnr(error, SIXTEEN_BIT_PEAK),
        paper=psnr(error / (span * span), PAPER_PEAK),
    )


def ncc(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Normalised correlation coefficient (Eq. 13), -1 to 1.

    It is 1 for two equal constant images, 0 for other pairs with a constant one.
    """
    a = first.astype(np.float64) - float(np.mean(first))
    b = second.astype(np.float64) - float(np.mean(second))
    length = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if length == 0:
        return 1.0 if np.array_equal(first, second) else 0.0
    return float((a * b).sum()) / length


def iou(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Intersection over union of two masks (Eq. 10), 0 to 1; 1 for two empty ones."""
    a, b = first > 0, second > 0
    union = int((a | b).sum())
    return float((a & b).sum()) / union if union else 1.0


def capacity(mask: NDArray[Any]) -> float:
    """Share of the image outside the body: the capacity of the paper's Table 5."""
    return float(np.mean(mask == 0))


def payload(carriers: NDArray[Any], coefficients: int, pixels: int) -> float:
    """Carrying coefficients per pixel of the image: payload in the paper's Table 5."""
    return float(np.count_nonzero(carriers)) * coefficients / pixels


def ternary_bound(bits: int, pixels: int, peak: float = SIXTEEN_BIT_PEAK) -> float:
    """Highest PSNR that any scheme which changes pixels by one grey level can reach.

    At the bound the change rate q solves H(q) + q = bits / pixels, and MSE = q.

    Returns
    -------
    float
        dB at ``peak``.
    """
    rate = bits / pixels
    low, high = 0.0, 2.0 / 3.0
    for _ in range(60):
        q = (low + high) / 2
        entropy = 0.0 if q in (0.0, 1.0) else -q * np.log2(q) - (1 - q) * np.log2(1 - q)
        low, high = (q, high) if entropy + q < rate else (low, q)
    return psnr(low, peak)
