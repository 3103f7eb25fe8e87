"""Turns stored pixels of any scanner into the 256 x 256 x 3 input of the network.

It runs inside the graph and uses the pixels alone. An embedding changes background pixels by a few
grey levels, and the mask of the stego image should be that of the cover. So every statistic here is
a quantile of block means: a change of zero mean inside a block hardly moves it, and an outlier does
not move it at all.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

SIDE = 256
"""Height and width of the network's input, pixels."""

CHANNELS = 3

GRID = 32
"""The quantiles are taken over GRID x GRID block means that cover the whole image."""

DARK_RANK, AIR_RANK, BRIGHT_RANK = 0.02, 0.25, 0.985
"""Ranks of the three levels. The darkest may be padding (CT outside the reconstruction circle,
about 21 % of the frame); the second is then air. The brightest is inside even a small body, and
below metal."""

PADDING_DEPTH = 0.1
"""How far below the air the darkest level must be to count, as a share of the way from air to
bright; only padding is that far below. The lowest of many noisy means is lower in the stego image
than in the cover, and the square root near it would show that everywhere."""

LOG_GAIN = 50.0

QUIET = 0.1
"""Share of the way from air to bright tissue below which brightness is attenuated. In MR stored
with a few dozen grey levels, an embedding leaves noise of this size in the air, and the square root
and the logarithm, steepest at the air, would amplify it. Chosen on slices of the train split and
their stego images."""

MIN_SPAN = 8.0
"""Least span in grey levels, so that a constant image is not divided by 0."""


class Levels(NamedTuple):
    """Dark, air and bright level of each image, float32 [B, 1, 1], grey levels."""

    dark: tf.Tensor
    air: tf.Tensor
    bright: tf.Tensor


class Prepared(NamedTuple):
    """A batch of images, ready for the network.

    Attributes
    ----------
    image : float32 [B, 256, 256, 3]
        Linear, square-root and dark-stretched grey levels, all attenuated near the air, about -1 to
        1.5; 0 right of and below the resized image.
    plane : float32 [B, 256, 256]
        The resized image in grey levels; its last row and column are repeated right of and below
        it.
    levels : Levels
    shape : float32 [2]
        Height and width of the resized image inside the frame, pixels.
    scale : float32 []
        Source pixels per frame pixel.
    """

    image: tf.Tensor
    plane: tf.Tensor
    levels: Levels
    shape: tf.Tensor
    scale: tf.Tensor


def hat_weights(targets: tf.Tensor, size: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """Normalised triangle weights that resample an axis.

    Parameters
    ----------
    targets : float32 [N]
        Positions to sample, in source pixels; the centre of source pixel j is at j + 0.5.
    size : int32 []
        Number of source pixels on the axis.
    radius : float32 []
        Half width of the triangle, source pixels, at least 1.

    Returns
    -------
    float32 [N, size]
        Each row sums to 1.
    """
    centres = tf.cast(tf.range(size), tf.float32) + 0.5
    clamped = tf.clip_by_value(targets, 0.5, tf.cast(size, tf.float32) - 0.5)
    weights = tf.nn.relu(1.0 - tf.abs(clamped[:, tf.newaxis] - centres[tf.newaxis]) / radius)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def area_weights(length: tf.Tensor) -> tf.Tensor:
    """Weights float32 [GRID, SIDE] that average GRID equal parts of the first ``length`` pixels."""
    piece = length / GRID
    start = tf.range(GRID, dtype=tf.float32)[:, tf.newaxis] * piece
    left = tf.range(SIDE, dtype=tf.float32)[tf.newaxis]
    overlap = tf.nn.relu(tf.minimum(start + piece, left + 1.0) - tf.maximum(start, left))
    return overlap / tf.reduce_sum(overlap, axis=1, keepdims=True)


def apply_separable(rows: tf.Tensor, plane: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Compute rows [N, H] @ plane [B, H, W] @ transposed columns [M, W]; float32 [B, N, M]."""
    wide = tf.matmul(rows[tf.newaxis], plane)
    return tf.matmul(wide, columns[tf.newaxis], transpose_b=True)


def measure_levels(plane: tf.Tensor, shape: tf.Tensor) -> Levels:
    """Measure the dark, air and bright level of a resized plane [B, SIDE, SIDE]."""
    means = apply_separable(area_weights(shape[0]), plane, area_weights(shape[1]))
    count = GRID * GRID
    descending = tf.math.top_k(tf.reshape(means, [-1, count]), k=count).values

    def at(rank: float) -> tf.Tensor:
        index = round((1.0 - rank) * (count - 1))
        return descending[:, index : index + 1, tf.newaxis]

    dark, air, bright = at(DARK_RANK), at(AIR_RANK), at(BRIGHT_RANK)
    return Levels(air - tf.nn.relu(air - dark - PADDING_DEPTH * (bright - air)), air, bright)


def attenuate(share: tf.Tensor) -> tf.Tensor:
    """Flatten signed brightness near 0; 0 and 1 stay, values far above `QUIET` hardly change."""
    size = tf.abs(share)
    return share * size / (size + QUIET) * (1.0 + QUIET)


def stretch(plane: tf.Tensor, levels: Levels) -> tf.Tensor:
    """Make the three channels [B, SIDE, SIDE, 3] from a plane [B, SIDE, SIDE] in grey levels."""
    dark, air, bright = levels
    span = tf.maximum(bright - dark, MIN_SPAN)
    linear = tf.clip_by_value(attenuate((plane - dark) / span), -0.25, 1.25)
    root = tf.nn.relu(linear) * tf.math.rsqrt(tf.nn.relu(linear) + QUIET) * (1.0 + QUIET) ** 0.5
    above = attenuate((plane - air) / tf.maximum(bright - air, 0.25 * span))
    steep = tf.math.log(1.0 + LOG_GAIN * tf.minimum(tf.abs(above), 1.25)) / tf.math.log(
        1.0 + LOG_GAIN
    )
    return tf.stack([2.0 * linear - 1.0, 2.0 * root - 1.0, tf.sign(above) * steep], axis=-1)


def prepare(pixels: tf.Tensor) -> Prepared:
    """Resize to the frame's top left corner, aspect ratio kept, and normalise.

    Parameters
    ----------
    pixels : int32 [B, H, W]
        Stored values; any H and W.
    """
    height, width = tf.shape(pixels)[1], tf.shape(pixels)[2]
    size = tf.cast(tf.stack([height, width]), tf.float32)
    scale = tf.reduce_max(size) / SIDE
    shape = size / scale
    targets = (tf.range(SIDE, dtype=tf.float32) + 0.5) * scale
    radius = tf.maximum(scale, 1.0)
    rows, columns = hat_weights(targets, height, radius), hat_weights(targets, width, radius)
    plane = apply_separable(rows, tf.cast(pixels, tf.float32), columns)
    inside_rows = tf.cast(targets < size[0], tf.float32)[tf.newaxis, :, tf.newaxis, tf.newaxis]
    inside_columns = tf.cast(targets < size[1], tf.float32)[tf.newaxis, tf.newaxis, :, tf.newaxis]
    levels = measure_levels(plane, shape)
    image = tf.ensure_shape(
        stretch(plane, levels) * inside_rows * inside_columns, [None, SIDE, SIDE, CHANNELS]
    )
    return Prepared(image, plane, levels, shape, scale)
