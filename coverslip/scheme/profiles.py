"""Profiles: named choices of step, coefficient set, votes and margin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

LOW_FOUR = (0, 1, 4, 5)
"""DC and the three lowest AC coefficients of a 4 x 4 block."""

ALL_SIXTEEN = tuple(range(16))

EVERY_CARRIER = 1 << 14
"""Votes wanted when every carrier is to be used."""


class Scheme(str, Enum):
    """How coefficients are moved."""

    KEYED = "keyed"
    PAPER = "paper"


@dataclass(frozen=True)
class Profile:
    """A choice of the scheme's numbers.

    Attributes
    ----------
    name : str
        What the command line calls it.
    scheme : Scheme
        ``keyed`` is the product's, ``paper`` is Eq. 2 to 9 of Saidi et al. 2024.
    step : float
        Distance of lattice points (Delta), grey levels. Above 0.
    coefficients : tuple of int
        Which of the 16 coefficients of a block carry; row-major, 0 is DC.
    votes : int
        Blocks wanted for each group of modules. At least 1.
    alpha : float
        Place of a 0 between two lattice points, in steps; a 1 stands at ``1 - alpha``. In (0, 0.5).
    margin : int
        Pixels kept clear around the outlined body. On the slices that the network never saw, 6 and the gate leave no labelled pixel
        of the body in a block that may carry; the default is one third more.
    """

    name: str
    scheme: Scheme
    step: float
    coefficients: tuple[int, ...]
    votes: int
    alpha: float = 0.25
    margin: int = 8

    def __post_init__(self) -> None:
        if not self.step > 0:
            raise ValueError(f"step is {self.step}; it must be above 0 grey levels")
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"alpha is {self.alpha}; it must lie between 0 and 0.5")
        if self.votes < 1:
            raise ValueError(f"votes is {self.votes}; it must be at least 1")
        if not self.coefficients or not set(self.coefficients) <= set(range(16)):
            raise ValueError("coefficients must be a non-empty choice of 0 to 15")

    def with_beta(self, beta: float, span: int) -> Profile:
        """The same profile with the step given as the paper's beta: step = 4 span / beta.

        Parameters
        ----------
        beta : float
            Intervals that [0, 4] is cut into, on the image normalised to [0, 1]. Above 0.
        span : int
            hi - lo, grey levels.
        """
        if not beta > 0:
            raise ValueError(f"beta is {beta}; it must be above 0")
        return replace(self, step=4.0 * span / beta)


FAINT = Profile("faint", Scheme.KEYED, 4.0, ALL_SIXTEEN, 1)
DEFAULT = Profile("default", Scheme.KEYED, 8.0, ALL_SIXTEEN, 3)
ROBUST = Profile("robust", Scheme.KEYED, 64.0, LOW_FOUR, EVERY_CARRIER)
PAPER_BETA = 1000.0
"""The beta of the paper's Table 3; its step follows from the image's own range, by which the paper normalises."""

PAPER = Profile("paper", Scheme.PAPER, 4 * 4095 / PAPER_BETA, ALL_SIXTEEN, 1, alpha=0.02, margin=0)

PROFILES: dict[str, Profile] = {p.name: p for p in (FAINT, DEFAULT, ROBUST, PAPER)}
