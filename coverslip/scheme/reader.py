"""Reading: from measured phases to the modules of the symbol, with no length, no mask and no list of carriers.

Every position says how much it looks like a lattice point (a block whose 16 coefficients all do was embedded), and which bit.
Blocks vote with the probability that they carry. The symbol's version is the one whose finder, timing and alignment patterns
the votes agree with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from coverslip.scheme import address
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.quantise import PHASES
from coverslip.symbol import VERSIONS, function_modules, side_of

ROUNDING_SIGMA = float(np.sqrt(1.0 / 12.0))
"""Standard deviation of a coefficient whose pixels were rounded, grey levels: the basis is orthonormal."""

_NOISE_FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_WIDEST_SIGMA = 0.25
"""Past a quarter of a step the phase says nothing."""

_FLOOR = 1e-6
_FIRST_LOG_ODDS = -3.0
_EM_STEPS = 4
_MASKED_LOG_ODDS = -4.0
_LEAST_WEIGHT = 0.02
_DETECTION_BLOCKS = 2500
DETECTION_THRESHOLD = 7.0
"""Standard deviations by which the known patterns must agree; chance reaches it once in 10^12 versions tried."""


@dataclass(frozen=True)
class Votes:
    """What the positions of one image say of one symbol.

    Attributes
    ----------
    modules : float32 [n, n]
        Log-likelihood ratio of each module, above 0 = dark.
    version : int
        QR version, 1 to 40.
    variant : int
        Address variant, 0 to 3.
    agreement : float
        How far the known patterns agree, in standard deviations.
    """

    modules: NDArray[np.float32]
    version: int
    variant: int
    agreement: float

    def symbol(self) -> NDArray[np.bool_]:
        """The modules' signs, with the patterns that are known drawn in; bool [n, n]."""
        known = function_modules(self.version)
        return np.where(known == 0, self.modules > 0, known > 0)


@lru_cache(maxsize=64)
def _densities(sigma: float, alpha: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each phase byte, how much likelier a carrier's 0, and a carrier's 1, makes it than chance does."""
    phase = np.arange(PHASES) / PHASES

    def density(centre: float) -> NDArray[np.float32]:
        turns = np.arange(-2, 3)[:, None]
        bell = np.exp(-((phase - centre + turns) ** 2) / (2 * sigma**2)).sum(axis=0)
        return np.asarray(bell / (sigma * np.sqrt(2 * np.pi)) + _FLOOR, dtype=np.float32)

    return density(alpha), density(1 - alpha)


def _share(evidence: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    """The share of carriers that explains the evidence best, by expectation maximisation, and each block's probability."""
    log_odds = _FIRST_LOG_ODDS
    weight = expit(evidence + log_odds)
    for _ in range(_EM_STEPS):
        share = min(max(float(weight.mean()), 1.0 / evidence.size), 0.999)
        log_odds = float(np.log(share / (1 - share)))
        weight = expit(evidence + log_odds)
    likelihood = float((np.logaddexp(0.0, evidence + log_odds) - np.log1p(np.exp(log_odds))).sum())
    return likelihood, weight


def expit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), for any x."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), dtype=np.float32)


def _carrying(
    turned: NDArray[np.uint8], step: float, alpha: float, bias: NDArray[np.float32] | float
) -> tuple[NDArray[np.float32], float]:
    """Probability that each block carries [n], under the noise level that explains the phases best; and that level's sigma."""
    best: tuple[float, NDArray[np.float32], float] | None = None
    for factor in _NOISE_FACTORS:
        sigma = min(ROUNDING_SIGMA * factor / step, _WIDEST_SIGMA)
        zero, one = _densities(sigma, alpha)
        evidence = np.log((zero + one) / 2)[turned].sum(axis=-1) + bias
        likelihood, weight = _share(evidence)
        if best is None or likelihood > best[0]:
            best = likelihood, weight, sigma
        if sigma == _WIDEST_SIGMA:
            break
    assert best is not None
    return best[1], best[2]


def _ratios(
    turned: NDArray[np.uint8], weight: NDArray[np.float32], sigma: float, alpha: float
) -> NDArray[np.float32]:
    """Log-likelihood ratio of a 1 against a 0 at each position [n, K], when a block carries with probability ``weight`` [n].

    A block that may be chance cannot outvote one that surely carries: its ratio is bounded by its odds.
    """
    zero, one = _densities(sigma, alpha)
    chance = 1 - weight[:, None]
    carrying = weight[:, None]
    return np.asarray(np.log((carrying * one[turned] + chance) / (carrying * zero[turned] + chance)))


def _tally(
    ratios: NDArray[np.float32], slots: NDArray[np.int32], count: int
) -> NDArray[np.float32]:
    """Sum weighted ratios [n, K] over the blocks of each slot: float32 [count, K]."""
    per_block = ratios.shape[1]
    index = slots[:, None] * per_block + np.arange(per_block)
    summed = np.bincount(index.reshape(-1), weights=ratios.reshape(-1), minlength=count * per_block)
    return summed.astype(np.float32).reshape(count, per_block)


def _agreement(modules: NDArray[np.float32], version: int) -> float:
    known = function_modules(version)
    values = modules[known != 0]
    length = float(np.sqrt((values**2).sum()))
    return float((values * known[known != 0]).sum()) / length if length > 0 else 0.0


class Reader:
    """The votes of one image's phases for one recipient and one profile.

    Parameters
    ----------
    phases : uint8 [Hb, Wb, 16]
        Measured (c / step) mod 1, in 1/256.
    dither : uint8 [Hb, Wb, 16]
        From `coverslip.scheme.dither.dither_plane`.
    step : float
        Grey levels.
    coefficients : tuple of int
        Which coefficients carry.
    alpha : float
        Place of a 0 between two lattice points.
    clear : bool [Hb, Wb], optional
        False where a mask says body; those blocks count for less, never for nothing.
    origin : (int, int)
        Row and column of the first block in the grid that was embedded; not (0, 0) where the image was cropped.
    """

    def __init__(
        self,
        phases: NDArray[np.uint8],
        dither: NDArray[np.uint8],
        step: float,
        coefficients: tuple[int, ...],
        alpha: float,
        clear: NDArray[np.bool_] | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self._shape = phases.shape[:2]
        self._origin = origin
        turned = (phases + dither).reshape(-1, COEFFICIENTS)
        if len(coefficients) != COEFFICIENTS:
            turned = turned[:, list(coefficients)]
        bias = 0.0 if clear is None else np.where(clear.reshape(-1), 0.0, _MASKED_LOG_ODDS).astype(np.float32)
        weight, sigma = _carrying(turned, step, alpha, bias)
        self.weight: NDArray[np.float32] = weight.reshape(self._shape)
        self._blocks = np.flatnonzero(weight > _LEAST_WEIGHT)
        self._ratios = _ratios(turned[self._blocks], weight[self._blocks], sigma, alpha)
        self._per_block = len(coefficients)

    def _modules(self, version: int, variant: int, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        side = side_of(version)
        count = address.slot_count(side, self._per_block)
        slots = self._slots(count, variant).reshape(-1)[self._blocks[chosen]]
        return address.gather(_tally(self._ratios[chosen], slots, count), side)

    def _slots(self, count: int, variant: int) -> NDArray[np.int32]:
        (down, right), (rows, cols) = self._origin, self._shape
        return address.slot_plane(rows + down, cols + right, count, variant)[down:, right:]

    def votes(self, version: int, variant: int = 0) -> Votes:
        """The votes under a known version and variant."""
        modules = self._modules(version, variant, np.arange(self._blocks.size))
        return Votes(modules, version, variant, _agreement(modules, version))

    def find(self) -> Votes | None:
        """The votes under the version and variant that the known patterns agree with; None when none does."""
        if not self._blocks.size:
            return None
        strongest = np.argsort(-self.weight.reshape(-1)[self._blocks], kind="stable")[:_DETECTION_BLOCKS]
        for variant in range(address.VARIANTS):
            scores = {v: _agreement(self._modules(v, variant, strongest), v) for v in VERSIONS}
            version = max(scores, key=lambda v: scores[v])
            if scores[version] >= DETECTION_THRESHOLD:
                return self.votes(version, variant)
        return None
