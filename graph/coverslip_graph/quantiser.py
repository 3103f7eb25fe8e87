"""Moving the coefficients of every block to the phases that the caller wants:
`coverslip.scheme.quantise` in float32.

Phases here are signed and counted in steps: [-0.5, 0.5]. Coefficients of 16-bit blocks reach 2^18,
where float32 knows them to a few hundredths. So `measure` never forms c: it takes the phase as the
sum over pixels of pixel times (basis / step), reduces these weights modulo 1 where they are made,
and splits pixels and weights so that the large part of the sum is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.quantise import PHASES, TIE, TOLERANCE
from coverslip_graph.blocks import at_least, basis, forward, inverse, per_image

LIMB = 256
"""Pixels are LIMB * high + low with low in [-128, 128]; high is in [-128, 256] for 16 bits, signed
or not.
"""

GRID = 4096
"""Coarse weights are multiples of 1 / GRID in [-0.5, 0.5]: 16 * (256 + 128) * 0.5 * GRID < 2^24, so
their sums are exact in float32.
"""


@dataclass(frozen=True)
class Moved:
    """Blocks with every carrying coefficient at its phase.

    Attributes
    ----------
    change : float32 [B, Hb, Wb, 16]
        What to add to the pixels; whole grey levels.
    cost : float32 [B, Hb, Wb]
        Sum of squared changes, grey levels squared; exact below 2^24.
    usable : float32 [B, Hb, Wb]
        1 = in the legal range and every phase within `TOLERANCE`, else 0.
    """

    change: tf.Tensor
    cost: tf.Tensor
    usable: tf.Tensor


def phase_weights(step: tf.Tensor) -> tf.Tensor:
    """What a pixel's limbs add to each coefficient's phase, reduced modulo 1.

    Parameters
    ----------
    step : float32 [B]
        Grey levels, above 0.

    Returns
    -------
    float32 [B, 32, 32]
        Rows: 16 high limbs, 16 low limbs. Columns: the coarse part for 16 coefficients, on
        multiples of 1 / GRID, then what is left.

    Notes
    -----
    The floating-point remainder is exact, so two of them are a long division: the first gives (w /
    step) mod 1, the second what of it lies below the grid, each with all its 24 bits.
    """
    exact = np.concatenate([LIMB * basis().T, basis().T])
    head = exact.astype(np.float32)
    tail = (exact - head).astype(np.float32)
    wide = step[:, tf.newaxis, tf.newaxis]
    scaled = tf.math.floormod(np.abs(head)[np.newaxis], wide) * GRID
    below = tf.math.floormod(scaled, wide)
    coarse = tf.round((scaled - below) / wide) * (1 / GRID)
    coarse -= tf.round(coarse)
    fine = below / wide * (1 / GRID)
    sign = np.sign(head)
    return tf.concat([coarse * sign, fine * sign + tail / wide], axis=2)


def measure(blocks: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """The phase of every coefficient.

    Parameters
    ----------
    blocks : float32 [B, Hb, Wb, 16]
        Whole grey levels of at most 16 bits, signed or not.
    step : float32 [B]
        Grey levels.

    Returns
    -------
    float32 [B, Hb, Wb, 16]
        (c / step) less the nearest whole number, in steps; may pass -0.5 or 0.5 by less than 0.1.
        The error is below 1e-6 of a step.
    """
    high = tf.round(blocks * (1 / LIMB))
    weights = tf.expand_dims(phase_weights(step), 1)
    # Two products and a sum take less time than putting the limbs side by side for one.
    sums = tf.matmul(high, weights[:, :, :COEFFICIENTS]) + tf.matmul(
        blocks - high * LIMB, weights[:, :, COEFFICIENTS:]
    )
    coarse, fine = tf.split(sums, 2, axis=3)
    return coarse - tf.round(coarse) + fine


def to_bytes(phases: tf.Tensor) -> tf.Tensor:
    """Signed phases in steps as bytes in 1/256 of a step, rounded to nearest; negative ones wrap to
    the upper half.
    """
    return tf.cast(tf.cast(tf.round(phases * PHASES), tf.int32), tf.uint8)


def move(
    blocks: tf.Tensor, phases: tf.Tensor, coefficients: tf.Tensor, step: tf.Tensor, legal: tf.Tensor
) -> Moved:
    """Move the carrying coefficients to the nearest point with the wanted phase, lift into range,
    round.

    Parameters
    ----------
    blocks : float32 [B, Hb, Wb, 16]
        Pixels, row-major.
    phases : uint8 [B, Hb, Wb, 16]
        Wanted (c / step) mod 1, in 1/256.
    coefficients : float32 [B, 16]
        1 = carries, 0 = is left alone.
    step : float32 [B]
        Grey levels.
    legal : float32 [B, 2]
        Lowest and highest legal pixel, inclusive.

    Returns
    -------
    Moved
    """
    carries = coefficients[:, tf.newaxis, tf.newaxis, :]
    wide = per_image(step)
    delta = tf.cast(phases, tf.float32) * (1 / PHASES) - measure(blocks, step)
    delta = (delta - tf.round(delta - TIE)) * (carries * wide)
    shifted = inverse(delta, plus=-TIE)
    lift = _lift(blocks + tf.round(shifted), wide / SIDE, legal)
    shifted += lift.rest
    rounded = tf.round(shifted)
    change = rounded + lift.whole
    # What rounding moved is all that stands between a coefficient and its phase: measured alone, it
    # is small and so precise.
    off = tf.abs(forward(rounded - shifted, plus=-TIE) * (carries / wide))
    usable = lift.fits * tf.cast(tf.reduce_max(off, axis=3) <= TOLERANCE, tf.float32)
    return Moved(change, tf.reduce_sum(change * change, axis=3), usable)


@dataclass(frozen=True)
class _Lift:
    """What to add to a block's pixels, taken apart so that whole grey levels stay exact.

    Attributes
    ----------
    whole, rest : float32 [B, Hb, Wb, 1]
        Grey levels: a whole number, and what is left, in [-0.5, 0.5].
    fits : float32 [B, Hb, Wb]
        1 = the block is in the legal range then, else 0.
    """

    whole: tf.Tensor
    rest: tf.Tensor
    fits: tf.Tensor


def _lift(rounded: tf.Tensor, rise: tf.Tensor, legal: tf.Tensor) -> _Lift:
    """DC moved by the fewest whole steps that bring a block's pixels [B, Hb, Wb, 16] into range:
    `coverslip.scheme.quantise.lift`.
    """
    lo, hi = per_image(legal[:, 0]), per_image(legal[:, 1])
    lowest, highest = (
        tf.reduce_min(rounded, axis=3, keepdims=True),
        tf.reduce_max(rounded, axis=3, keepdims=True),
    )
    below, above = tf.nn.relu(lo - lowest), tf.nn.relu(highest - hi)
    spare = tf.minimum(tf.math.ceil(rise) - tf.floor(rise), 1.0) * tf.minimum(below + above, 1.0)
    lift = tf.math.ceil((below + tf.minimum(below, spare)) / rise) - tf.math.ceil(
        (above + tf.minimum(above, spare)) / rise
    )
    lift *= rise
    whole = tf.round(lift - TIE)
    fits = at_least(lowest + whole - spare, lo) * at_least(hi, highest + whole + spare)
    return _Lift(whole, lift - whole, tf.squeeze(fits, 3))
