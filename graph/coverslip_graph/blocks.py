"""Cuts planes into 4 x 4 blocks and back; block DCT on the basis of `tf.signal.dct`.

Blocks keep four dimensions [B, Hb, Wb, C], and everything except `from_blocks` is a convolution of
stride 4 or side 1. No shape has to be computed while the graph runs, so LiteRT plans its memory
once for each image size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.scheme.dct import COEFFICIENTS, SIDE


@lru_cache(maxsize=1)
def basis() -> NDArray[np.float64]:
    """Orthonormal basis of the 4 x 4 block DCT, from `tf.signal.dct` (type 2, norm "ortho").

    Returns
    -------
    float64 [16, 16]
        Row = coefficient, column = pixel of the block, both row-major.
    """
    with tf.init_scope():
        one = tf.signal.dct(np.eye(SIDE), type=2, norm="ortho").numpy().T
    result: NDArray[np.float64] = np.kron(one, one)
    result.setflags(write=False)
    return result


def per_image(values: tf.Tensor) -> tf.Tensor:
    """Reshape one number per image [B] to [B, 1, 1, 1], so that it multiplies blocks."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def at_least(values: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """Compare whole numbers: 1 where a value is at least the bound, else 0; float32, broadcast.

    Numbers rather than booleans: LiteRT takes twenty times as long to combine booleans.
    """
    return tf.clip_by_value(values - (bound - 1.0), 0.0, 1.0)


def to_blocks(plane: tf.Tensor) -> tf.Tensor:
    """Cut planes into their full 4 x 4 blocks.

    Parameters
    ----------
    plane : float32 [B, H, W]
        Rows and columns past the last full block are dropped.

    Returns
    -------
    float32 [B, H // 4, W // 4, 16]
        The pixels of each block, row-major; exact, since each is multiplied by 1 and added to 0.
    """
    pick = np.eye(COEFFICIENTS, dtype=np.float32).reshape(SIDE, SIDE, 1, COEFFICIENTS)
    return tf.nn.conv2d(tf.expand_dims(plane, -1), pick, SIDE, "VALID")


def from_blocks(blocks: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Put blocks back into planes; pixels outside every full block are 0.

    Parameters
    ----------
    blocks : float32 [B, H // 4, W // 4, 16]
    shape : int32 [3]
        B, H, W.

    Returns
    -------
    float32 [B, H, W]
    """
    # Each row of a block is a run of four pixels in the plane. Moving whole runs is faster than
    # depth_to_space, which moves single pixels.
    remainder = shape % SIDE * np.array([0, 1, 1], np.int32)
    runs = tf.reshape(blocks, [shape[0] * (shape[1] // SIDE), shape[2] // SIDE, SIDE, SIDE])
    rows = tf.transpose(runs, [0, 2, 1, 3])
    return tf.pad(
        tf.reshape(rows, shape - remainder),
        tf.stack([tf.zeros_like(remainder), remainder], axis=1),
    )


def apply(matrix: NDArray[np.float64], blocks: tf.Tensor, added: NDArray[np.float64]) -> tf.Tensor:
    """Multiply every block by a constant matrix and add a constant, as one operation.

    Parameters
    ----------
    matrix : float64 [M, N]
        Rounded to float32.
    blocks : float32 [B, Hb, Wb, N]
    added : float64 [M]
        Constant added to every product; rounded to float32.

    Returns
    -------
    float32 [B, Hb, Wb, M]
    """
    kernel = np.ascontiguousarray(matrix.T, dtype=np.float32)[None, None]
    return tf.nn.bias_add(tf.nn.conv2d(blocks, kernel, 1, "VALID"), added.astype(np.float32))


def forward(blocks: tf.Tensor, plus: float = 0.0) -> tf.Tensor:
    """DCT of float32 [B, Hb, Wb, 16], with ``plus`` grey levels added to every pixel first."""
    return apply(basis(), blocks, basis() @ np.full(COEFFICIENTS, plus))


def inverse(coefficients: tf.Tensor, plus: float = 0.0) -> tf.Tensor:
    """Inverse DCT of float32 [B, Hb, Wb, 16], with ``plus`` grey levels added to every pixel."""
    return apply(basis().T, coefficients, np.full(COEFFICIENTS, plus))
