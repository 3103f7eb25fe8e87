"""The paper's scheme (Saidi et al. 2024, Eq. 2 to 9), to reproduce its tables and to compare.

It needs the same mask on both sides, takes the blocks in order, moves a coefficient inside its
interval rather than to the nearest point, and loses its message when pixels are rounded and
clipped. Use the keyed scheme for anything that has to come back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import RecordTooLargeError
from coverslip.qr.symbol import VERSIONS, function_modules, side_of
from coverslip.scheme.dct import (
    COEFFICIENTS,
    SIDE,
    forward,
    from_blocks,
    inverse,
    replace_blocks,
    to_blocks,
)
from coverslip.scheme.profiles import Profile

_LEAST_AGREEMENT = 0.8


@dataclass(frozen=True)
class PaperEmbedded:
    """A plane embedded by the paper's scheme.

    Attributes
    ----------
    exact : float64 [H, W]
        The stego image normalised to [0, 1], before it becomes integers: the paper measures PSNR on
        it.
    stego : int32 [H, W]
        De-normalised, rounded and clipped to the legal range.
    carriers : bool [Hb, Wb]
    """

    exact: NDArray[np.float64]
    stego: NDArray[np.int32]
    carriers: NDArray[np.bool_]


def normalise(plane: NDArray[np.int32], low: int, high: int) -> NDArray[np.float64]:
    """(plane - low) / (high - low), Eq. 2; zero for a constant plane."""
    span = max(high - low, 1)
    normal: NDArray[np.float64] = (plane.astype(np.float64) - low) / span
    return normal


def insignificant(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Blocks [Hb, Wb] without a pixel of the mask uint8 [H, W]."""
    return np.asarray(~to_blocks(mask).any(axis=-1))


def beta_of(profile: Profile, low: int, high: int) -> float:
    """The paper's beta for a profile's step on a plane: beta = 4 (high - low) / step."""
    return 4.0 * max(high - low, 1) / profile.step


def quantise(
    coefficients: NDArray[np.float64], message: NDArray[np.float64], beta: float
) -> NDArray[np.float64]:
    """Eq. 7: (4 / beta) (floor(c beta / 4) + m), with m = alpha or 1 - alpha."""
    moved: NDArray[np.float64] = (np.floor(coefficients * beta / 4) + message) * 4 / beta
    return moved


def dequantise(coefficients: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Eq. 9: the position of each coefficient inside its interval, in [0, 1)."""
    scaled = coefficients * beta / 4
    return np.asarray(scaled - np.floor(scaled))


def message_blocks(symbol: NDArray[np.bool_], alpha: float) -> NDArray[np.float64]:
    """The adjusted symbol in 4 x 4 blocks [n, 16]: alpha = dark, 1 - alpha = light (Eq. 3).

    Blocks that extend past the symbol are light there.
    """
    side = symbol.shape[0]
    short = -side % SIDE
    light = np.pad(~symbol, ((0, short), (0, short)), constant_values=True)
    return np.where(to_blocks(light).reshape(-1, COEFFICIENTS), 1 - alpha, alpha)


def embed_paper(
    plane: NDArray[np.int32],
    mask: NDArray[np.uint8],
    symbol: NDArray[np.bool_],
    profile: Profile,
    legal: tuple[int, int],
) -> PaperEmbedded:
    """Algorithm 1 of the paper.

    Parameters
    ----------
    plane : int32 [H, W]
    mask : uint8 [H, W]
        1 = significant.
    symbol : bool [n, n]
        True = dark.
    profile : Profile
        Its ``step`` (as beta) and ``alpha`` are used.
    legal : (lo, hi)

    Raises
    ------
    RecordTooLargeError
        Fewer insignificant blocks than the symbol has.
    """
    low, high = int(plane.min()), int(plane.max())
    message = message_blocks(symbol, profile.alpha)
    index = np.flatnonzero(insignificant(mask))
    if index.size < len(message):
        raise RecordTooLargeError(
            needed=len(message) * COEFFICIENTS // 8, available=index.size * COEFFICIENTS // 8
        )
    index = index[: len(message)]
    normal = normalise(plane, low, high)
    blocks = to_blocks(normal).astype(np.float64).copy()
    flat = blocks.reshape(-1, COEFFICIENTS)
    flat[index] = inverse(quantise(forward(flat[index]), message, beta_of(profile, low, high)))
    exact = replace_blocks(normal, blocks)
    stego = np.clip(np.rint(exact * max(high - low, 1) + low), *legal).astype(np.int32)
    carriers = np.zeros(flat.shape[0], dtype=bool)
    carriers[index] = True
    return PaperEmbedded(exact, stego, carriers.reshape(blocks.shape[:2]))


def find_side(stego: NDArray[np.int32], mask: NDArray[np.uint8], profile: Profile) -> int | None:
    """Modules along the side of the symbol in a stego plane, or None.

    The paper assumes that the reader knows the size. This is the version with the highest share of
    fixed modules read right, at least 80 %.
    """
    best, agreement = None, _LEAST_AGREEMENT
    for version in VERSIONS:
        known = function_modules(version)
        read = extract_paper(stego, mask, side_of(version), profile)
        share = float(np.mean(read[known != 0] == (known[known != 0] > 0)))
        if share > agreement:
            best, agreement = side_of(version), share
    return best


def extract_normalised(
    normal: NDArray[np.float64], mask: NDArray[np.uint8], side: int, beta: float
) -> NDArray[np.bool_]:
    """Algorithm 2 on a normalised image: the symbol bool [side, side], True = dark."""
    tiles = -(-side // SIDE)
    index = np.flatnonzero(insignificant(mask))[: tiles * tiles]
    light = np.zeros((tiles * tiles, COEFFICIENTS), dtype=bool)
    blocks = to_blocks(normal).reshape(-1, COEFFICIENTS)[index]
    light[: len(index)] = dequantise(forward(blocks), beta) >= 0.5
    grid = from_blocks(light.reshape(tiles, tiles, COEFFICIENTS))
    return np.asarray(~grid[:side, :side])


def extract_paper(
    stego: NDArray[np.int32], mask: NDArray[np.uint8], side: int, profile: Profile
) -> NDArray[np.bool_]:
    """Algorithm 2 of the paper: read the symbol of a stego plane with its mask.

    Parameters
    ----------
    stego : int32 [H, W]
    mask : uint8 [H, W]
        1 = significant.
    side : int
        Modules along the symbol's side.
    profile : Profile
        Its ``step`` is used (as beta).

    Returns
    -------
    bool [side, side]
        True = dark.
    """
    low, high = int(stego.min()), int(stego.max())
    return extract_normalised(normalise(stego, low, high), mask, side, beta_of(profile, low, high))
