"""The orthonormal 4 x 4 block DCT (Eq. 4 and 6 of Saidi et al. 2024), as one 16 x 16 matrix.

With A[u, m] = a(u) cos((2 m + 1) u pi / 8), a(0) = 1/2, a(u > 0) = sqrt(1/2), a block X has C = A X
A^T and X = A^T C A. Flattened row by row this is ``C = BASIS @ X``; BASIS is orthonormal, so its
transpose is the inverse.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
"""Type of a pixel: cutting into blocks and joining them works for any."""

SIDE = 4
"""Pixels along a block's side."""

COEFFICIENTS = SIDE * SIDE
"""Coefficients in a block, row-major: index ``4 u + v``, 0 is DC."""


def _basis() -> NDArray[np.float64]:
    u = np.arange(SIDE)[:, None]
    m = np.arange(SIDE)[None, :]
    a = np.cos((2 * m + 1) * u * np.pi / (2 * SIDE)) * np.sqrt(2.0 / SIDE)
    a[0] = np.sqrt(1.0 / SIDE)
    return np.kron(a, a)


BASIS: NDArray[np.float64] = _basis()
"""float64 [16, 16]: row = coefficient, column = pixel of the block, both row-major."""


def block_view(plane: NDArray[Scalar]) -> NDArray[Scalar]:
    """A view of the full 4 x 4 blocks of a plane [H, W]: [H // 4, W // 4, 4, 4]."""
    rows, cols = plane.shape[0] // SIDE, plane.shape[1] // SIDE
    return plane[: rows * SIDE, : cols * SIDE].reshape(rows, SIDE, cols, SIDE).transpose(0, 2, 1, 3)


def to_blocks(plane: NDArray[Scalar]) -> NDArray[Scalar]:
    """Cut a plane into its full 4 x 4 blocks.

    Parameters
    ----------
    plane : ndarray [H, W]
        Rows and columns past the last full block are left out.

    Returns
    -------
    ndarray [H // 4, W // 4, 16]
        The pixels of each block, row-major.
    """
    view = block_view(plane)
    return view.reshape(*view.shape[:2], COEFFICIENTS)


def from_blocks(blocks: NDArray[Scalar]) -> NDArray[Scalar]:
    """Join blocks [Hb, Wb, 16] into a plane [4 Hb, 4 Wb]."""
    rows, cols = blocks.shape[:2]
    return (
        blocks.reshape(rows, cols, SIDE, SIDE)
        .transpose(0, 2, 1, 3)
        .reshape(rows * SIDE, cols * SIDE)
    )


def replace_blocks(plane: NDArray[Scalar], blocks: NDArray[Scalar]) -> NDArray[Scalar]:
    """A copy of a plane [H, W] with other blocks [H // 4, W // 4, 16]; odd edges stay."""
    replaced = plane.copy()
    rows, cols = blocks.shape[:2]
    replaced[: rows * SIDE, : cols * SIDE] = from_blocks(blocks)
    return replaced


def forward(blocks: NDArray[Any]) -> NDArray[np.float64]:
    """DCT of blocks [..., 16] in grey levels; coefficients float64 [..., 16] in grey levels."""
    result: NDArray[np.float64] = blocks.astype(np.float64) @ BASIS.T
    return result


def inverse(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse DCT of coefficients [..., 16]; pixels float64 [..., 16], not rounded."""
    result: NDArray[np.float64] = coefficients @ BASIS
    return result
