"""Profiles: named choices of step, coefficient set, votes and margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from math import ceil, log2

from coverslip.qr.symbol import ErrorCorrection

LOW_FOUR = (0, 1, 4, 5)
"""DC and the three lowest AC coefficients of a 4 x 4 block."""

LOW_SIX = (0, 1, 2, 4, 5, 8)
"""DC and the five lowest AC coefficients of a 4 x 4 block."""

LOW_TEN = (0, 1, 2, 3, 4, 5, 6, 8, 9, 12)
"""DC and the nine lowest AC coefficients of a 4 x 4 block: row + column <= 3."""

ALL_SIXTEEN = tuple(range(16))

LOWEST_RUNG = 64.0
"""Least step of profiles whose step grows with the image's range, grey levels: near-lossless
JPEG-LS with an error of 8 moves DC by up to 32, independent of the range."""


class Scheme(str, Enum):
    """How coefficients are moved."""

    KEYED = "keyed"
    PAPER = "paper"


@dataclass(frozen=True)
class Profile:
    """The scheme's parameters under a name.

    Attributes
    ----------
    name : str
        What the command line calls it.
    scheme : Scheme
        ``keyed`` is the product's, ``paper`` is Eq. 2 to 9 of Saidi et al. 2024.
    step : float
        Distance between lattice points (Delta), grey levels. Above 0.
    coefficients : tuple of int
        Indices of a block's carrying coefficients; row-major, 0 is DC.
    votes : int
        Blocks wanted for each slot of modules. At least 1.
    alpha : float
        Position of a 0 between two lattice points, in steps; a 1 is at ``1 - alpha``. In (0, 0.5).
    margin : int
        Pixels kept clear around the outlined body. On the slices that the network never saw, a
        margin of 3 and the gate keep every labelled pixel of the body out of blocks that may carry
        (the model card has the table); the default is more than twice that.
    span_share : float
        Least step as a share of the image's own range, to survive codecs whose error grows with
        that range; 0 or above.
    best_variant : bool
        Use the address variant under which a cropped image keeps most, even if another variant
        already reads back.
    least_votes : float
        Mean carriers for each slot below which a frame carries nothing: its record would read back
        now, but not after the disturbances that the profile is for.
    levels : tuple of ErrorCorrection
        Error correction of the symbol, the preferred level first; the others are for records too
        large for those before them.
    turns : bool
        Blocks rotate their modules among their coefficients, so that a module is in different
        coefficients of different blocks.
    tried : bool
        A frame counts only if its record also comes back after moderate cropping and lossy codecs,
        tried on the frame itself.
    fallbacks : tuple of (rungs, votes)
        What to try, in order, if no frame counts: rungs above the profile's own step, and votes
        wanted.
    """

    name: str
    scheme: Scheme
    step: float
    coefficients: tuple[int, ...]
    votes: int
    alpha: float = 0.25
    margin: int = 8
    span_share: float = 0.0
    best_variant: bool = False
    least_votes: float = 0.0
    levels: tuple[ErrorCorrection, ...] = (ErrorCorrection.L,)
    turns: bool = False
    tried: bool = False
    fallbacks: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step is {self.step}; it must be above 0 grey levels")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha is {self.alpha}; it must lie between 0 and 0.5")
        if self.votes < 1:
            raise ValueError(f"votes is {self.votes}; it must be at least 1")
        if not self.span_share >= 0:
            raise ValueError(f"span_share is {self.span_share}; it must be 0 or above")
        if not self.coefficients or not set(self.coefficients) <= set(range(16)):
            raise ValueError("coefficients must be a non-empty choice of 0 to 15")

    def with_beta(self, beta: float, span: int) -> Profile:
        """The same profile with a step from the paper's beta: step = 4 span / beta.

        Parameters
        ----------
        beta : float
            Number of intervals of [0, 4], on the image normalised to [0, 1]. Above 0.
        span : int
            hi - lo, grey levels.
        """
        if not beta > 0:
            raise ValueError(f"beta is {beta}; it must be above 0")
        return replace(self, step=4.0 * span / beta, span_share=0.0)

    def for_span(self, span: int) -> Profile:
        """The same profile with its step resolved for an image's range.

        With a ``span_share``, the step is the lowest rung at or above ``span_share * span`` of a
        ladder that starts at `LOWEST_RUNG` and rises by the square root of 2: a reader who knows
        the range only roughly has few steps to try.

        Parameters
        ----------
        span : int
            Highest minus lowest pixel of the image, grey levels.
        """
        return replace(self, step=_rung(self._lowest_rung(span))) if self.span_share else self

    def choices(self, span: int) -> list[Profile]:
        """`for_span` and the ``fallbacks``, in the order in which a writer tries them."""
        if not self.span_share:
            return [self]
        lowest = self._lowest_rung(span)
        return [
            replace(self, step=_rung(lowest + rungs), votes=votes)
            for rungs, votes in ((0, self.votes), *self.fallbacks)
        ]

    def near_span(self, span: int) -> list[Profile]:
        """The profiles to read with if the image's range may have changed since embedding.

        They have the steps of `choices`, a rung more and a rung less.
        """
        if not self.span_share:
            return [self]
        lowest = self._lowest_rung(span)
        highest = lowest + max((rungs for rungs, _ in self.fallbacks), default=0)
        return [
            replace(self, step=_rung(rung))
            for rung in (*range(lowest, highest + 2), lowest - 1)
            if rung >= 0
        ]

    def _lowest_rung(self, span: int) -> int:
        # The tolerance keeps a rounding error from lifting an exact rung to the next.
        return max(ceil(2 * log2(max(self.span_share * span, 1.0) / LOWEST_RUNG) - 1e-9), 0)


def _rung(number: int) -> float:
    """A step of the ladder, grey levels; whole, so that float32 and a header hold it exactly."""
    return float(round(LOWEST_RUNG * 2 ** (number / 2)))


FAINT = Profile("faint", Scheme.KEYED, 4.0, ALL_SIXTEEN, 1)
DEFAULT = Profile("default", Scheme.KEYED, 8.0, ALL_SIXTEEN, 3)
ROBUST = Profile(
    "robust",
    Scheme.KEYED,
    LOWEST_RUNG,
    LOW_TEN,
    5,
    span_share=1 / 6,
    best_variant=True,
    least_votes=1.5,
    levels=(ErrorCorrection.Q, ErrorCorrection.M, ErrorCorrection.L),
    turns=True,
    tried=True,
    fallbacks=((1, 5), (1, 3), (2, 3), (2, 2), (3, 2)),
)
FIRST_ROBUST = replace(
    ROBUST,
    coefficients=LOW_SIX,
    votes=8,
    least_votes=2.5,
    levels=(ErrorCorrection.L,),
    turns=False,
    tried=False,
    fallbacks=(),
)
"""`ROBUST` in files written with models 1 to 3."""

PAPER_BETA = 1000.0
"""The beta of the paper's Table 3; the step follows from the range that the paper normalises by."""

PAPER = Profile("paper", Scheme.PAPER, 4 * 4095 / PAPER_BETA, ALL_SIXTEEN, 1, alpha=0.02, margin=0)

PROFILES: dict[str, Profile] = {p.name: p for p in (FAINT, DEFAULT, ROBUST, PAPER)}

FORMER: dict[str, tuple[Profile, ...]] = {ROBUST.name: (FIRST_ROBUST,)}
"""Earlier versions of `PROFILES` by name; readers try them after today's."""


def readable(profile: Profile) -> tuple[Profile, ...]:
    """The profiles that files written under a profile's name may have, today's first.

    Of a profile with a caller's own parameters there is only itself.
    """
    known = PROFILES.get(profile.name)
    if known is None or replace(profile, step=known.step, span_share=known.span_share) != known:
        return (profile,)
    former = FORMER.get(profile.name, ())
    return (
        profile,
        *(replace(each, step=profile.step, span_share=profile.span_share) for each in former),
    )
