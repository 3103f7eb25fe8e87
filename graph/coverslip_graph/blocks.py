"""Planes to 4 x 4 blocks and back, and the block DCT on the basis of `tf.signal.dct`.

Blocks keep the four dimensions [B, Hb, Wb, C] and everything but the way back is written as
convolutions of stride 4 or side 1: no shape has to be computed while the graph runs, so LiteRT
plans its memory once for each image size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.scheme.dct import COEFFICIENTS, SIDE


@lru_cache(maxsize=1)
def basis() -> NDArray[np.float64]:
    """The orthonormal basis of the 4 x 4 block DCT, taken from `tf.signal.dct` (type 2, norm
    "ortho").

    Returns
    -------
    float64 [16, 16]
        Row = coefficient, column = pixel of the block, both row-major; orthonormal.
    """
    with tf.init_scope():
        one = tf.signal.dct(np.eye(SIDE), type=2, norm="ortho").numpy().T
    result: NDArray[np.float64] = np.kron(one, one)
    result.setflags(write=False)
    return result


def per_image(values: tf.Tensor) -> tf.Tensor:
    """One number for each image [B] in the shape that multiplies blocks: [B, 1, 1, 1]."""
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def at_least(values: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """1 where a whole number is at least another, else 0; float32, of the shape of both together.

    LiteRT takes twenty times as long to combine booleans as to multiply such numbers.
    """
    return tf.clip_by_value(values - (bound - 1.0), 0.0, 1.0)


def to_blocks(plane: tf.Tensor) -> tf.Tensor:
    """Cut planes into their full 4 x 4 blocks.

    Parameters
    ----------
    plane : float32 [B, H, W]
        Rows and columns past the last full block are left out.

    Returns
    -------
    float32 [B, H // 4, W // 4, 16]
        The pixels of each block, row-major, unchanged (each is multiplied by one and added to
        zeros).
    """
    pick = np.eye(COEFFICIENTS, dtype=np.float32).reshape(SIDE, SIDE, 1, COEFFICIENTS)
    return tf.nn.conv2d(tf.expand_dims(plane, -1), pick, SIDE, "VALID")


def from_blocks(blocks: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Lay blocks back into planes; what no full block covers is 0.

    Parameters
    ----------
    blocks : float32 [B, H // 4, W // 4, 16]
    shape : int32 [3]
        B, H, W.

    Returns
    -------
    float32 [B, H, W]
    """
    # A block's row is a run of four pixels of a plane's row: moving runs is faster than
    # depth_to_space, which moves pixels.
    after = shape % SIDE * np.array([0, 1, 1], np.int32)
    runs = tf.reshape(blocks, [shape[0] * (shape[1] // SIDE), shape[2] // SIDE, SIDE, SIDE])
    rows = tf.transpose(runs, [0, 2, 1, 3])
    return tf.pad(tf.reshape(rows, shape - after), tf.stack([tf.zeros_like(after), after], axis=1))


def apply(matrix: NDArray[np.float64], blocks: tf.Tensor, after: NDArray[np.float64]) -> tf.Tensor:
    """Multiply every block by a constant matrix and add a constant, in one operation of either
    runtime.

    Parameters
    ----------
    matrix : float64 [M, N]
        Rounded to float32.
    blocks : float32 [B, Hb, Wb, N]
    after : float64 [M]
        Added to every product; rounded to float32.

    Returns
    -------
    float32 [B, Hb, Wb, M]
    """
    kernel = np.ascontiguousarray(matrix.T, dtype=np.float32)[None, None]
    return tf.nn.bias_add(tf.nn.conv2d(blocks, kernel, 1, "VALID"), after.astype(np.float32))


def forward(blocks: tf.Tensor, plus: float = 0.0) -> tf.Tensor:
    """DCT of blocks to whose pixels a constant was added; float32 [B, Hb, Wb, 16] both, ``plus`` in
    grey levels.
    """
    return apply(basis(), blocks, basis() @ np.full(COEFFICIENTS, plus))


def inverse(coefficients: tf.Tensor, plus: float = 0.0) -> tf.Tensor:
    """Inverse DCT of coefficients, and a constant added to every pixel; float32 [B, Hb, Wb, 16]
    both, ``plus`` in grey levels.
    """
    return apply(basis().T, coefficients, np.full(COEFFICIENTS, plus))
