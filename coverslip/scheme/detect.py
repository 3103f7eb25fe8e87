"""Estimates which blocks carry, and how noisy each coefficient is, before votes are counted.

The phases of a carrier cluster at alpha and 1 - alpha. How closely depends on what happened to the
image since: rounding alone, noise, a lossy codec. A mixture of carriers and chance is fitted for a
ladder of noise levels, and the level that explains the phases best is kept. If that is more than
rounding, or if one block's coefficients cannot tell it from chance, its neighbours count too:
carriers lie together in the air. The share of carriers is then fitted around each block, and each
coefficient gets a noise level of its own, because codecs spoil high frequencies first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme.quantise import PHASES

ROUNDING_SIGMA = float(np.sqrt(1.0 / 12.0))
"""Standard deviation of a coefficient of rounded pixels, grey levels: the basis is orthonormal."""

WIDEST_SIGMA = 0.25
"""Steps. Above a quarter of a step, phases no longer tell a carrier from another block."""

_LOST_SIGMA = 0.5
"""Steps. A coefficient as noisy as this has practically uniform phases: it has no vote."""

_NARROWEST_SIGMA = 1.0 / PHASES
"""Steps. Phases are counted in 1/256."""

_FLOOR = 1e-6
_DISTURBED_FLOOR = 1e-3
"""Density of phases outside both bells, against chance: impulses and clipping. The first is for
undisturbed images.
"""

_PART = 256
"""Rows of a product that is too small for BLAS to split among threads."""

_FIRST_LOG_ODDS = -3.0
_EM_STEPS = 4

_DOUBTFUL = 0.1
"""Mean doubt, weight (1 - weight), of carriers above which a block's neighbours count too."""

_REACH = 3
"""Blocks on either side that are neighbours: under JPEG and JPEG 2000, 2 to 3 read best."""

_LOCAL_STEPS = 12
_LOCAL_SHARE = (1e-3, 0.999)
_FIRST_LOCAL_SHARE = 0.1
_REFINEMENTS = 2
_FINE = 2.0**0.25
"""Ratio of successive noise levels to choose from for each coefficient."""


@dataclass(frozen=True)
class CarrierEstimate:
    """Which blocks carry, and how noisy they are, as estimated from their phases.

    Attributes
    ----------
    weight : float32 [n]
        Probability that each block carries.
    sigma : tuple of float
        Noise of each carrying coefficient, steps.
    floor : float
        Density of phases outside both bells, against chance.
    """

    weight: NDArray[np.float32]
    sigma: tuple[float, ...]
    floor: float


@lru_cache(maxsize=512)
def densities(
    sigma: float, alpha: float, floor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Likelihood of each phase byte under a carrier's 0 and under its 1, relative to chance.

    Returns
    -------
    zero, one : float32 [256]
    """
    phase = np.arange(PHASES) / PHASES

    def density(centre: float) -> NDArray[np.float32]:
        wraps = np.arange(-2, 3)[:, None]
        bell = np.exp(-((phase - centre + wraps) ** 2) / (2 * sigma**2)).sum(axis=0)
        return np.asarray(bell / (sigma * np.sqrt(2 * np.pi)) + floor, dtype=np.float32)

    return density(alpha), density(1 - alpha)


@lru_cache(maxsize=512)
def _evidence_table(sigma: float, alpha: float, floor: float) -> NDArray[np.float32]:
    """Log-likelihood ratio of a carrier against chance for each phase byte; float32 [256]."""
    zero, one = densities(sigma, alpha, floor)
    return np.asarray(np.log((zero + one) / 2))


@lru_cache(maxsize=32)
def _pair_table(sigma: float, alpha: float, floor: float) -> NDArray[np.float32]:
    """`_evidence_table` summed over two phase bytes, in either byte order; float32 [65536]."""
    single = _evidence_table(sigma, alpha, floor)
    return (single[:, np.newaxis] + single).reshape(-1)


def _evidence(
    phases: NDArray[np.uint8], sigma: float, alpha: float, floor: float
) -> NDArray[np.float32]:
    """Log-likelihood ratio of a carrier against chance for phases [n, K]; float32 [n]."""
    if phases.shape[1] % 2:
        each = _evidence_table(sigma, alpha, floor).take(phases, mode="clip")
    else:  # half as many look-ups take half the time
        each = _pair_table(sigma, alpha, floor).take(
            np.ascontiguousarray(phases).view(np.uint16), mode="clip"
        )
    return _row_sums(each)


def _row_sums(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of the rows of [n, K]; float32 [n].

    A product with ones is ten times as fast as ``sum``. It is computed in parts small enough for
    BLAS to stay in this thread: its own threads would spin on cores that other frames need.
    """
    ones = np.ones(values.shape[1], dtype=np.float32)
    whole = len(values) // _PART * _PART
    parts = values[:whole].reshape(-1, _PART, values.shape[1]) @ ones
    return np.concatenate([parts.reshape(-1), values[whole:] @ ones])


def _fit_share(evidence: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """Fit the share of carriers to the evidence [n] by expectation maximisation.

    Returns
    -------
    log_likelihood : float
    weight : float32 [n]
        Probability that each block carries.
    """
    ratio = _likelihood_ratio(evidence)
    odds = ratio * np.float32(np.exp(_FIRST_LOG_ODDS))
    for _ in range(_EM_STEPS):
        share = min(max(float((odds / (1 + odds)).mean()), 1.0 / evidence.size), 0.999)
        odds = ratio * np.float32(share / (1 - share))
    log_likelihood = float(np.log1p(odds, dtype=np.float64).sum()) + evidence.size * float(
        np.log(1 - share)
    )
    return log_likelihood, odds / (1 + odds)


def _likelihood_ratio(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Likelihood ratio of a carrier against chance, bounded to stay above 0 and finite."""
    return np.asarray(np.exp(np.clip(evidence, -60, 60)), dtype=np.float32)


def neighbourhood_mean(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The mean around each value of a plane [H, W], as far as ``reach`` in rows and columns.

    Beyond the edges there are no values: the mean is over those inside.
    """
    rows, cols = values.shape
    padded = np.zeros((rows + 2 * reach, cols + 2 * reach), dtype=np.float32)
    padded[reach : reach + rows, reach : reach + cols] = values
    # Adding a few shifted planes is several times as fast as differences of cumulative sums.
    along, both = (
        np.zeros((rows, cols + 2 * reach), dtype=np.float32),
        np.zeros((rows, cols), dtype=np.float32),
    )
    for shift in range(2 * reach + 1):
        along += padded[shift : shift + rows]
    for shift in range(2 * reach + 1):
        both += along[:, shift : shift + cols]
    return np.asarray(
        both * _reciprocal_counts(rows, reach)[:, np.newaxis] * _reciprocal_counts(cols, reach)
    )


@lru_cache(maxsize=64)
def _reciprocal_counts(size: int, reach: int) -> NDArray[np.float32]:
    """One over the number of places within reach of each place in a row; float32 [size]."""
    place = np.arange(size)
    count = np.minimum(place + reach + 1, size) - np.maximum(place - reach, 0)
    return np.asarray(1 / count, dtype=np.float32)


def _fit_local_share(
    evidence: NDArray[np.float32], first: NDArray[np.float32]
) -> tuple[float, NDArray[np.float32]]:
    """As `_fit_share`, with a share of its own for each block's neighbourhood.

    Parameters
    ----------
    evidence : float32 [n]
    first : float32 [Hb, Wb]
        Share of carriers around each block to start from.
    """
    ratio = _likelihood_ratio(evidence).reshape(first.shape)
    share = first
    for _ in range(_LOCAL_STEPS):
        carrying = share * ratio
        share = np.clip(
            neighbourhood_mean(carrying / (carrying + 1 - share), _REACH), *_LOCAL_SHARE
        )
    carrying = share * ratio
    mixture = carrying + 1 - share
    return float(np.log(mixture).sum()), (carrying / mixture).reshape(-1)


def _noise_levels(step: float, ratio: float, widest: float = WIDEST_SIGMA) -> list[float]:
    """Noise levels to try, in steps: from rounding alone upwards by a ratio."""
    lowest = max(ROUNDING_SIGMA / step, _NARROWEST_SIGMA)
    levels = int(np.ceil(np.log(widest / lowest) / np.log(ratio))) if lowest < widest else 0
    return [min(lowest * ratio**level, widest) for level in range(levels + 1)]


def _fit_sigma(
    phases: NDArray[np.uint8], weight: NDArray[np.float32], levels: list[float], alpha: float
) -> tuple[float, ...]:
    """The noise level that explains each coefficient's phases best, given the blocks' weights."""
    tables = np.stack([_evidence_table(sigma, alpha, _DISTURBED_FLOOR) for sigma in levels])
    chosen = []
    for column in phases.T:
        counted = np.bincount(column, weights=weight, minlength=PHASES)
        chosen.append(levels[int(np.argmax(tables @ counted))])
    return tuple(chosen)


def estimate_carriers(
    phases: NDArray[np.uint8],
    shape: tuple[int, int],
    step: float,
    alpha: float,
    bias: NDArray[np.float32] | float = 0.0,
) -> CarrierEstimate:
    """Estimate which blocks carry, and their noise.

    Parameters
    ----------
    phases : uint8 [n, K]
        Phases of the carrying coefficients without the dither, in 1/256.
    shape : (int, int)
        Rows and columns of blocks, n of them.
    step : float
        Grey levels.
    alpha : float
        Place of a 0 between two lattice points.
    bias : float32 [n] or float
        Prior log-odds of carrying.

    Returns
    -------
    CarrierEstimate
    """
    levels = _noise_levels(step, 2.0)
    best = None
    for sigma in levels:
        log_likelihood, weight = _fit_share(_evidence(phases, sigma, alpha, _FLOOR) + bias)
        if best is None or log_likelihood > best[0]:
            best = log_likelihood, weight, sigma
    assert best is not None
    _, weight, sigma = best
    total = float(weight.sum())
    if sigma == levels[0] and float((weight * (1 - weight)).sum()) <= _DOUBTFUL * total:
        return CarrierEstimate(weight, (sigma,) * phases.shape[1], _FLOOR)
    return _estimate_with_neighbours(phases, shape, step, alpha, bias)


def _estimate_with_neighbours(
    phases: NDArray[np.uint8],
    shape: tuple[int, int],
    step: float,
    alpha: float,
    bias: NDArray[np.float32] | float,
) -> CarrierEstimate:
    best = None
    for sigma in _noise_levels(step, 2.0):
        evidence = _evidence(phases, sigma, alpha, _DISTURBED_FLOOR) + bias
        log_likelihood, weight = _fit_local_share(
            evidence, np.full(shape, _FIRST_LOCAL_SHARE, dtype=np.float32)
        )
        if best is None or log_likelihood > best[0]:
            best = log_likelihood, weight, sigma
    assert best is not None
    _, weight, sigma = best
    sigmas = (sigma,) * phases.shape[1]
    fine = _noise_levels(step, _FINE, _LOST_SIGMA)
    for _ in range(_REFINEMENTS):
        sigmas = _fit_sigma(phases, weight, fine, alpha)
        evidence = np.zeros(len(phases), dtype=np.float32) + bias
        for level, column in zip(sigmas, phases.T, strict=True):
            evidence += _evidence_table(level, alpha, _DISTURBED_FLOOR).take(column, mode="clip")
        share = np.clip(neighbourhood_mean(weight.reshape(shape), _REACH), *_LOCAL_SHARE)
        _, weight = _fit_local_share(evidence, share)
    return CarrierEstimate(weight, sigmas, _DISTURBED_FLOOR)
