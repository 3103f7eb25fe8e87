"""Which blocks carry, and how sure each coefficient's phase is: what a reader finds out before it
counts votes.

The phases of a block that carries cluster at alpha and 1 - alpha. How closely depends on what
happened to the image since: rounding alone, noise, a lossy codec. A mixture of carriers and chance
is fitted for a ladder of noise levels, and the level that explains the phases best is taken. Where
that is more than rounding, or one block's coefficients cannot tell it from chance, its neighbours
are asked: carriers lie together in the air, so that the share of carriers is fitted around each
block, and each coefficient gets a noise level of its own, because codecs spoil high frequencies
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme.quantise import PHASES

ROUNDING_SIGMA = float(np.sqrt(1.0 / 12.0))
"""Standard deviation of a coefficient whose pixels were rounded, grey levels: the basis is
orthonormal.
"""

WIDEST_SIGMA = 0.25
"""Steps. Past a quarter of a step a block's phases say too little to tell that it carries."""

_LOST_SIGMA = 0.5
"""Steps. Of a coefficient that is spoilt so far, phases are as good as even: it has no say."""

_NARROWEST_SIGMA = 1.0 / PHASES
"""Steps. Phases are counted in 1/256."""

_FLOOR = 1e-6
_DISTURBED_FLOOR = 1e-3
"""Density of phases that no bell explains, against chance: impulses and clipping. Small where
nothing disturbed the image.
"""

_PART = 256
"""Rows of a product that is too small for BLAS to share out among threads."""

_FIRST_LOG_ODDS = -3.0
_EM_STEPS = 4

_DOUBTFUL = 0.1
"""Mean doubt (weight times what it lacks to 1) of what carries, above which blocks ask their
neighbours.
"""

_REACH = 3
"""Blocks on either side that count as neighbours: on real slices under JPEG and JPEG 2000, 2 to 3
read best.
"""

_LOCAL_STEPS = 12
_LOCAL_SHARE = (1e-3, 0.999)
_FIRST_LOCAL_SHARE = 0.1
_REFINEMENTS = 2
_FINE = 2.0**0.25
"""Ratio of the noise levels among which each coefficient gets its own."""


@dataclass(frozen=True)
class Carrying:
    """What the phases say of the blocks.

    Attributes
    ----------
    weight : float32 [n]
        Probability that each block carries.
    sigma : tuple of float
        Noise of each carrying coefficient, steps.
    floor : float
        Density of phases that no bell explains.
    """

    weight: NDArray[np.float32]
    sigma: tuple[float, ...]
    floor: float


@lru_cache(maxsize=512)
def densities(
    sigma: float, alpha: float, floor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each phase byte, how much likelier a carrier's 0, and a carrier's 1, makes it than chance
    does; float32 [256] each.
    """
    phase = np.arange(PHASES) / PHASES

    def density(centre: float) -> NDArray[np.float32]:
        turns = np.arange(-2, 3)[:, None]
        bell = np.exp(-((phase - centre + turns) ** 2) / (2 * sigma**2)).sum(axis=0)
        return np.asarray(bell / (sigma * np.sqrt(2 * np.pi)) + floor, dtype=np.float32)

    return density(alpha), density(1 - alpha)


@lru_cache(maxsize=512)
def _evidence_table(sigma: float, alpha: float, floor: float) -> NDArray[np.float32]:
    """For each phase byte, the logarithm of how much likelier a carrier makes it than chance;
    float32 [256].
    """
    zero, one = densities(sigma, alpha, floor)
    return np.asarray(np.log((zero + one) / 2))


@lru_cache(maxsize=32)
def _pair_table(sigma: float, alpha: float, floor: float) -> NDArray[np.float32]:
    """`_evidence_table` for two phase bytes at once: the sum for both, whichever comes first;
    float32 [65536].
    """
    single = _evidence_table(sigma, alpha, floor)
    return (single[:, np.newaxis] + single).reshape(-1)


def _evidence(
    turned: NDArray[np.uint8], sigma: float, alpha: float, floor: float
) -> NDArray[np.float32]:
    """The logarithm of how much likelier carriers make the phases [n, K] of each block than chance
    does; float32 [n].
    """
    if turned.shape[1] % 2:
        each = _evidence_table(sigma, alpha, floor).take(turned, mode="clip")
    else:  # looking up half as many takes half the time
        each = _pair_table(sigma, alpha, floor).take(
            np.ascontiguousarray(turned).view(np.uint16), mode="clip"
        )
    return _row_sums(each)


def _row_sums(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums of the rows of [n, K]; float32 [n].

    A product with ones is ten times as quick as sum. It goes through in parts that BLAS does in
    this thread: threads of its own spin for a while on cores that other frames need.
    """
    ones = np.ones(values.shape[1], dtype=np.float32)
    whole = len(values) // _PART * _PART
    parts = values[:whole].reshape(-1, _PART, values.shape[1]) @ ones
    return np.concatenate([parts.reshape(-1), values[whole:] @ ones])


def _share(evidence: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """The share of carriers that explains the evidence best, by expectation maximisation:
    log-likelihood, each block's probability.
    """
    likelier = _likelier(evidence)
    carrying = likelier * np.float32(np.exp(_FIRST_LOG_ODDS))
    for _ in range(_EM_STEPS):
        share = min(max(float((carrying / (1 + carrying)).mean()), 1.0 / evidence.size), 0.999)
        carrying = likelier * np.float32(share / (1 - share))
    likelihood = float(np.log1p(carrying, dtype=np.float64).sum()) + evidence.size * float(
        np.log(1 - share)
    )
    return likelihood, carrying / (1 + carrying)


def _likelier(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """How many times likelier carriers make what chance makes as likely as it does; float32 as the
    evidence, neither 0 nor infinite.
    """
    return np.asarray(np.exp(np.clip(evidence, -60, 60)), dtype=np.float32)


def neighbourhood_mean(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """The mean of a plane [H, W] over the (2 reach + 1) x (2 reach + 1) values around each, of
    those that there are.
    """
    rows, cols = values.shape
    padded = np.zeros((rows + 2 * reach, cols + 2 * reach), dtype=np.float32)
    padded[reach : reach + rows, reach : reach + cols] = values
    # Adding a few shifted planes is several times as quick as differences of cumulated sums.
    along, both = (
        np.zeros((rows, cols + 2 * reach), dtype=np.float32),
        np.zeros((rows, cols), dtype=np.float32),
    )
    for shift in range(2 * reach + 1):
        along += padded[shift : shift + rows]
    for shift in range(2 * reach + 1):
        both += along[:, shift : shift + cols]
    return np.asarray(both * _shares(rows, reach)[:, np.newaxis] * _shares(cols, reach))


@lru_cache(maxsize=64)
def _shares(size: int, reach: int) -> NDArray[np.float32]:
    """One over the number of places within reach of each of some in a row; float32 [size]."""
    place = np.arange(size)
    count = np.minimum(place + reach + 1, size) - np.maximum(place - reach, 0)
    return np.asarray(1 / count, dtype=np.float32)


def _local_share(
    evidence: NDArray[np.float32], first: NDArray[np.float32]
) -> tuple[float, NDArray[np.float32]]:
    """As `_share`, with a share of carriers for each block's neighbourhood: from evidence [n] and
    the share to start at [Hb, Wb].
    """
    likelier = _likelier(evidence).reshape(first.shape)
    share = first
    for _ in range(_LOCAL_STEPS):
        carrying = share * likelier
        share = np.clip(
            neighbourhood_mean(carrying / (carrying + 1 - share), _REACH), *_LOCAL_SHARE
        )
    carrying = share * likelier
    mixture = carrying + 1 - share
    return float(np.log(mixture).sum()), (carrying / mixture).reshape(-1)


def _ladder(step: float, ratio: float, widest: float = WIDEST_SIGMA) -> list[float]:
    """Noise levels to try, in steps: from rounding alone upwards by a ratio."""
    lowest = max(ROUNDING_SIGMA / step, _NARROWEST_SIGMA)
    levels = int(np.ceil(np.log(widest / lowest) / np.log(ratio))) if lowest < widest else 0
    return [min(lowest * ratio**level, widest) for level in range(levels + 1)]


def _refined(
    turned: NDArray[np.uint8], weight: NDArray[np.float32], levels: list[float], alpha: float
) -> tuple[float, ...]:
    """The noise level of each coefficient that explains its phases best, where blocks carry with
    the given weight.
    """
    tables = np.stack([_evidence_table(sigma, alpha, _DISTURBED_FLOOR) for sigma in levels])
    chosen = []
    for phases in turned.T:
        counted = np.bincount(phases, weights=weight, minlength=PHASES)
        chosen.append(levels[int(np.argmax(tables @ counted))])
    return tuple(chosen)


def carrying(
    turned: NDArray[np.uint8],
    shape: tuple[int, int],
    step: float,
    alpha: float,
    bias: NDArray[np.float32] | float = 0.0,
) -> Carrying:
    """Find the blocks that carry.

    Parameters
    ----------
    turned : uint8 [n, K]
        Phases of the carrying coefficients with the dither taken away, in 1/256.
    shape : (int, int)
        Rows and columns of blocks, n of them.
    step : float
        Grey levels.
    alpha : float
        Place of a 0 between two lattice points.
    bias : float32 [n] or float
        Log-odds that are known beforehand.

    Returns
    -------
    Carrying
    """
    levels = _ladder(step, 2.0)
    best = None
    for sigma in levels:
        likelihood, weight = _share(_evidence(turned, sigma, alpha, _FLOOR) + bias)
        if best is None or likelihood > best[0]:
            best = likelihood, weight, sigma
    assert best is not None
    _, weight, sigma = best
    total = float(weight.sum())
    if sigma == levels[0] and float((weight * (1 - weight)).sum()) <= _DOUBTFUL * total:
        return Carrying(weight, (sigma,) * turned.shape[1], _FLOOR)
    return _asking_neighbours(turned, shape, step, alpha, bias)


def _asking_neighbours(
    turned: NDArray[np.uint8],
    shape: tuple[int, int],
    step: float,
    alpha: float,
    bias: NDArray[np.float32] | float,
) -> Carrying:
    best = None
    for sigma in _ladder(step, 2.0):
        evidence = _evidence(turned, sigma, alpha, _DISTURBED_FLOOR) + bias
        likelihood, weight = _local_share(
            evidence, np.full(shape, _FIRST_LOCAL_SHARE, dtype=np.float32)
        )
        if best is None or likelihood > best[0]:
            best = likelihood, weight, sigma
    assert best is not None
    _, weight, sigma = best
    each = (sigma,) * turned.shape[1]
    fine = _ladder(step, _FINE, _LOST_SIGMA)
    for _ in range(_REFINEMENTS):
        each = _refined(turned, weight, fine, alpha)
        evidence = np.zeros(len(turned), dtype=np.float32) + bias
        for level, phases in zip(each, turned.T, strict=True):
            evidence += _evidence_table(level, alpha, _DISTURBED_FLOOR).take(phases, mode="clip")
        share = np.clip(neighbourhood_mean(weight.reshape(shape), _REACH), *_LOCAL_SHARE)
        _, weight = _local_share(evidence, share)
    return Carrying(weight, each, _DISTURBED_FLOOR)
