"""Reads the modules of the symbol from measured phases: no length, no mask, no list of carriers.

Every position gives its bit, and how close to a lattice point it is (a block whose 16 coefficients
all are close carries). Blocks vote with the probability that they carry. The symbol's version is
the one whose finder, timing and alignment patterns agree with the votes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.qr.symbol import VERSIONS, ErrorCorrection, function_modules, side_of
from coverslip.scheme import address
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.detect import CarrierEstimate, densities, estimate_carriers
from coverslip.scheme.profiles import Profile

_MASKED_LOG_ODDS = -4.0
_LEAST_WEIGHT = 0.02
_DETECTION_POSITIONS = 40_000
"""Positions used to find the version, those of the likeliest carriers: few enough to try all
versions quickly.
"""

DETECTION_THRESHOLD = 7.0
"""Least agreement of the fixed modules, standard deviations; chance reaches it once in 10^12
versions tried.
"""

_CERTAIN = 12.0
"""Agreement from which no other version is tried, standard deviations; chance reaches it once in
10^32. Agreement is bounded by the square root of the number of fixed modules, at least 14."""


@dataclass(frozen=True)
class Votes:
    """The votes of one image's positions for the modules of one symbol.

    Attributes
    ----------
    modules : float32 [n, n]
        Log-likelihood ratio of each module, above 0 = dark.
    version : int
        QR version, 1 to 40.
    variant : int
        Address variant, 0 to 7.
    agreement : float
        Agreement of the fixed modules, in standard deviations.
    level : ErrorCorrection
        Error correction of the symbol.
    """

    modules: NDArray[np.float32]
    version: int
    variant: int
    agreement: float
    level: ErrorCorrection = ErrorCorrection.L

    def symbol(self) -> NDArray[np.bool_]:
        """The modules' signs, with the fixed modules drawn in; bool [n, n]."""
        fixed = function_modules(self.version, self.level)
        return np.where(fixed == 0, self.modules > 0, fixed > 0)


def _ratios(
    phases: NDArray[np.uint8],
    estimate: CarrierEstimate,
    chosen: NDArray[np.int64],
    alpha: float,
) -> NDArray[np.float32]:
    """Log-likelihood ratio of a 1 against a 0 at each position [m, K] of the chosen blocks [m].

    A block's ratio is bounded by its odds of carrying, so that a block that may be chance cannot
    outvote one that certainly carries.
    """
    carries = estimate.weight[chosen]
    chance = 1 - carries
    ratios = np.empty((chosen.size, phases.shape[1]), dtype=np.float32)
    for place, sigma in enumerate(estimate.sigma):
        zero, one = densities(sigma, alpha, estimate.floor)
        column = phases[chosen, place]
        ratios[:, place] = np.log(
            (carries * one[column] + chance) / (carries * zero[column] + chance)
        )
    return ratios


def _agreement(votes: NDArray[np.float32], fixed: NDArray[np.int8]) -> float:
    """Agreement of the votes for fixed modules with their values, in standard deviations."""
    length = float(np.sqrt((votes**2).sum()))
    return float((votes * fixed).sum()) / length if length > 0 else 0.0


class Reader:
    """The votes of one image's phases for one recipient and one profile.

    Parameters
    ----------
    phases : uint8 [Hb, Wb, 16]
        Measured (c / step) mod 1, in 1/256.
    dither : uint8 [Hb, Wb, 16]
        From `coverslip.scheme.dither.dither_plane`.
    profile : Profile
        With its step resolved for the image.
    clear : bool [Hb, Wb], optional
        False for blocks with body in them; those count for less, never for nothing.
    origin : (int, int)
        Row and column of the first block in the embedded image's grid; (0, 0) unless the image was
        cropped.
    """

    def __init__(
        self,
        phases: NDArray[np.uint8],
        dither: NDArray[np.uint8],
        profile: Profile,
        clear: NDArray[np.bool_] | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        self._shape: tuple[int, int] = (phases.shape[0], phases.shape[1])
        self._origin = origin
        undithered = (phases + dither).reshape(-1, COEFFICIENTS)
        if len(profile.coefficients) != COEFFICIENTS:
            undithered = undithered[:, list(profile.coefficients)]
        bias = (
            0.0
            if clear is None
            else np.where(clear.reshape(-1), 0.0, _MASKED_LOG_ODDS).astype(np.float32)
        )
        estimate = estimate_carriers(undithered, self._shape, profile.step, profile.alpha, bias)
        self.weight: NDArray[np.float32] = estimate.weight.reshape(self._shape)
        self._blocks = np.flatnonzero(estimate.weight > _LEAST_WEIGHT)
        self._ratios = _ratios(undithered, estimate, self._blocks, profile.alpha)
        self._per_block = len(profile.coefficients)
        self._levels = profile.levels
        self._places = self._module_places(profile.turns)

    def _module_places(self, turns: bool) -> NDArray[np.int64]:
        """Index in its slot of the module that each coefficient carries: int64 [m or 1, K]."""
        places = np.arange(self._per_block)[np.newaxis]
        if not turns:
            return places
        (down, right), (rows, cols) = self._origin, self._shape
        plane = address.rotation_plane(rows + down, cols + right, self._per_block)[down:, right:]
        return (places + plane.reshape(-1)[self._blocks, np.newaxis]) % self._per_block

    def _tally(
        self, blocks: NDArray[np.int64] | slice, slots: NDArray[np.int32], count: int
    ) -> NDArray[np.float32]:
        """Sum the votes of some counted blocks.

        Parameters
        ----------
        blocks : int64 [m] or slice
            Which of the counted blocks.
        slots : int32 [m]
            The slot of each.
        count : int
            Number of slots.

        Returns
        -------
        float32 [count, K]
            For each slot, by module.
        """
        places = self._places if len(self._places) == 1 else self._places[blocks]
        index = slots[:, np.newaxis] * self._per_block + places
        summed = np.bincount(
            index.reshape(-1),
            weights=self._ratios[blocks].reshape(-1),
            minlength=count * self._per_block,
        )
        return summed.astype(np.float32).reshape(count, self._per_block)

    def _modules(self, version: int, variant: int) -> NDArray[np.float32]:
        side = side_of(version)
        count = address.slot_count(side, self._per_block)
        slots = self._slots(count, variant).reshape(-1)[self._blocks]
        return address.slots_to_modules(self._tally(slice(None), slots, count), side)

    def _agreement(self, version: int, variant: int, chosen: NDArray[np.int64]) -> float:
        """Agreement of some blocks' votes for the fixed modules; other modules are not counted."""
        side = side_of(version)
        fixed = address.fixed_modules(side, self._levels[0])
        count, before = address.slot_count(side, self._per_block), side * side - fixed.size
        first = before // self._per_block
        slots = self._slots(count, variant).reshape(-1)[self._blocks[chosen]]
        last = np.flatnonzero(slots >= first)
        votes = self._tally(chosen[last], slots[last] - first, count - first).reshape(-1)
        return _agreement(votes[before - first * self._per_block :][: fixed.size], fixed)

    def _slots(self, count: int, variant: int) -> NDArray[np.int32]:
        (down, right), (rows, cols) = self._origin, self._shape
        return address.slot_plane(rows + down, cols + right, count, variant)[down:, right:]

    def votes(self, version: int, variant: int = 0) -> Votes:
        """The votes for a given version and variant, with the level that they agree with best."""
        modules = self._modules(version, variant)
        agreement = {}
        for level in self._levels:
            fixed = function_modules(version, level)
            agreement[level] = _agreement(modules[fixed != 0], fixed[fixed != 0])
        level = max(agreement, key=lambda level: agreement[level])
        return Votes(modules, version, variant, agreement[level], level)

    def find(self) -> Votes | None:
        """The votes for the version and variant whose fixed modules agree, or None."""
        if not self._blocks.size:
            return None
        most = _DETECTION_POSITIONS // self._per_block
        strongest = np.argsort(-self.weight.reshape(-1)[self._blocks], kind="stable")[:most]
        for variant in range(address.VARIANTS):
            if (version := self._version(variant, strongest)) is not None:
                return self.votes(version, variant)
        return None

    def _version(self, variant: int, chosen: NDArray[np.int64]) -> int | None:
        """The version that agrees best with some blocks [m] under a variant, or None."""
        best, version = 0.0, None
        for candidate in VERSIONS:
            score = self._agreement(candidate, variant, chosen)
            if score > best:
                best, version = score, candidate
            if score >= _CERTAIN:
                break
        return version if best >= DETECTION_THRESHOLD else None
