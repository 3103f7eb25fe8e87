"""Reading: from measured phases to the modules of the symbol, with no length, no mask and no list
of carriers.

Every position says how much it looks like a lattice point (a block whose 16 coefficients all do was
embedded), and which bit. Blocks vote with the probability that they carry. The symbol's version is
the one whose finder, timing and alignment patterns the votes agree with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coverslip.qr.symbol import VERSIONS, Level, function_modules, side_of
from coverslip.scheme import address
from coverslip.scheme.dct import COEFFICIENTS
from coverslip.scheme.detect import Carrying, carrying, densities
from coverslip.scheme.profiles import Profile

_MASKED_LOG_ODDS = -4.0
_LEAST_WEIGHT = 0.02
_DETECTION_POSITIONS = 40_000
"""Positions that a version is sought with, those of the likeliest carriers: enough to tell, few
enough to try all versions quickly.
"""

DETECTION_THRESHOLD = 7.0
"""Standard deviations by which the known patterns must agree; chance reaches it once in 10^12
versions tried.
"""

_CERTAIN = 12.0
"""Standard deviations from which no other version is tried; chance reaches it once in 10^32.
Agreement is bounded by the square root of the number of known modules, 14 and more."""


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
        Address variant, 0 to 7.
    agreement : float
        How far the known patterns agree, in standard deviations.
    level : Level
        Error correction of the symbol.
    """

    modules: NDArray[np.float32]
    version: int
    variant: int
    agreement: float
    level: Level = Level.L

    def symbol(self) -> NDArray[np.bool_]:
        """The modules' signs, with the patterns that are known drawn in; bool [n, n]."""
        known = function_modules(self.version, self.level)
        return np.where(known == 0, self.modules > 0, known > 0)


def _ratios(
    turned: NDArray[np.uint8], found: Carrying, chosen: NDArray[np.int64], alpha: float
) -> NDArray[np.float32]:
    """Log-likelihood ratio of a 1 against a 0 at each position [m, K] of the chosen blocks [m].

    A block that may be chance cannot outvote one that surely carries: its ratio is bounded by its
    odds.
    """
    carries = found.weight[chosen]
    chance = 1 - carries
    ratios = np.empty((chosen.size, turned.shape[1]), dtype=np.float32)
    for place, sigma in enumerate(found.sigma):
        zero, one = densities(sigma, alpha, found.floor)
        phases = turned[chosen, place]
        ratios[:, place] = np.log(
            (carries * one[phases] + chance) / (carries * zero[phases] + chance)
        )
    return ratios


def _agreement(found: NDArray[np.float32], known: NDArray[np.int8]) -> float:
    """How far the votes for known modules agree with what they are, in standard deviations."""
    length = float(np.sqrt((found**2).sum()))
    return float((found * known).sum()) / length if length > 0 else 0.0


class Reader:
    """The votes of one image's phases for one recipient and one profile.

    Parameters
    ----------
    phases : uint8 [Hb, Wb, 16]
        Measured (c / step) mod 1, in 1/256.
    dither : uint8 [Hb, Wb, 16]
        From `coverslip.scheme.dither.dither_plane`.
    profile : Profile
        With its step settled.
    clear : bool [Hb, Wb], optional
        False where a mask says body; those blocks count for less, never for nothing.
    origin : (int, int)
        Row and column of the first block in the grid that was embedded; not (0, 0) where the image
        was cropped.
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
        turned = (phases + dither).reshape(-1, COEFFICIENTS)
        if len(profile.coefficients) != COEFFICIENTS:
            turned = turned[:, list(profile.coefficients)]
        bias = (
            0.0
            if clear is None
            else np.where(clear.reshape(-1), 0.0, _MASKED_LOG_ODDS).astype(np.float32)
        )
        found = carrying(turned, self._shape, profile.step, profile.alpha, bias)
        self.weight: NDArray[np.float32] = found.weight.reshape(self._shape)
        self._blocks = np.flatnonzero(found.weight > _LEAST_WEIGHT)
        self._ratios = _ratios(turned, found, self._blocks, profile.alpha)
        self._per_block = len(profile.coefficients)
        self._levels = profile.levels
        self._places = self._module_places(profile.turns)

    def _module_places(self, turns: bool) -> NDArray[np.int64]:
        """Which module of its slot each coefficient of the counted blocks carries: int64 [m or 1,
        K].
        """
        places = np.arange(self._per_block)[np.newaxis]
        if not turns:
            return places
        (down, right), (rows, cols) = self._origin, self._shape
        turned = address.turn_plane(rows + down, cols + right, self._per_block)[down:, right:]
        return (places + turned.reshape(-1)[self._blocks, np.newaxis]) % self._per_block

    def _tally(
        self, blocks: NDArray[np.int64] | slice, slots: NDArray[np.int32], count: int
    ) -> NDArray[np.float32]:
        """Sums of what some of the counted blocks say over the blocks of each slot [m]: float32
        [count, K], by module.
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
        return address.gather(self._tally(slice(None), slots, count), side)

    def _agreement(self, version: int, variant: int, chosen: NDArray[np.int64]) -> float:
        """How far what some blocks [m] say of the known patterns agrees with them; no other module
        is counted.
        """
        side = side_of(version)
        known = address.known_modules(side, self._levels[0])
        count, before = address.slot_count(side, self._per_block), side * side - known.size
        first = before // self._per_block
        slots = self._slots(count, variant).reshape(-1)[self._blocks[chosen]]
        here = np.flatnonzero(slots >= first)
        found = self._tally(chosen[here], slots[here] - first, count - first).reshape(-1)
        return _agreement(found[before - first * self._per_block :][: known.size], known)

    def _slots(self, count: int, variant: int) -> NDArray[np.int32]:
        (down, right), (rows, cols) = self._origin, self._shape
        return address.slot_plane(rows + down, cols + right, count, variant)[down:, right:]

    def votes(self, version: int, variant: int = 0) -> Votes:
        """The votes under a known version and variant, and the level that they agree with best."""
        modules = self._modules(version, variant)
        agreement = {}
        for level in self._levels:
            known = function_modules(version, level)
            agreement[level] = _agreement(modules[known != 0], known[known != 0])
        level = max(agreement, key=lambda level: agreement[level])
        return Votes(modules, version, variant, agreement[level], level)

    def find(self) -> Votes | None:
        """The votes under the version and variant that the known patterns agree with; None when
        none does.
        """
        if not self._blocks.size:
            return None
        enough = _DETECTION_POSITIONS // self._per_block
        strongest = np.argsort(-self.weight.reshape(-1)[self._blocks], kind="stable")[:enough]
        for variant in range(address.VARIANTS):
            if (version := self._version(variant, strongest)) is not None:
                return self.votes(version, variant)
        return None

    def _version(self, variant: int, chosen: NDArray[np.int64]) -> int | None:
        """The version whose known patterns some blocks [m] agree with best under a variant, if they
        agree with it at all.
        """
        best, version = 0.0, None
        for candidate in VERSIONS:
            score = self._agreement(candidate, variant, chosen)
            if score > best:
                best, version = score, candidate
            if score >= _CERTAIN:
                break
        return version if best >= DETECTION_THRESHOLD else None
