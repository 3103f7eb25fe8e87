"""The judgement of a header."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pydicom.dataset import Dataset

from coverslip.eligibility.exclusions import EXCLUSIONS, Kind, cannot_be_read
from coverslip.eligibility.header_facts import HeaderFacts

_BY_KIND = {exclusion.kind: exclusion for exclusion in EXCLUSIONS}

ALLOWABLE = tuple(exclusion.kind for exclusion in EXCLUSIONS if exclusion.may_be_allowed)
"""Kinds that an operator may let carry in pixels."""


def describe(kind: Kind) -> str:
    """Say in one sentence why pixels of a kind do not carry.

    Parameters
    ----------
    kind : Kind

    Returns
    -------
    str
    """
    return _BY_KIND[kind].why


@dataclass(frozen=True)
class Judgement:
    """Whether pixels may carry, and what speaks against it.

    Attributes
    ----------
    kinds : tuple of Kind
        All that the header shows, in the order of `EXCLUSIONS`.
    allowed : frozenset of Kind
        What the operator lets carry all the same.
    """

    kinds: tuple[Kind, ...]
    allowed: frozenset[Kind] = frozenset()

    @property
    def excluded_by(self) -> tuple[Kind, ...]:
        """The kinds that keep the record out of the pixels."""
        return tuple(kind for kind in self.kinds if kind not in self.allowed)

    @property
    def may_carry(self) -> bool:
        """Whether the record may be carried in the pixels."""
        return not self.excluded_by


def judge(ds: Dataset, allow: Collection[Kind] = ()) -> Judgement:
    """Judge from a header alone whether the pixels may carry.

    An enhanced instance is judged as a whole: one excluded frame excludes it.

    Parameters
    ----------
    ds : Dataset
        As its source wrote it, with the file meta information where there is one, and with the
        element of the pixel data: its value is not read. Not changed. No value makes this raise.
    allow : collection of Kind
        Kinds that the operator lets carry all the same, out of `ALLOWABLE`.

    Returns
    -------
    Judgement

    Raises
    ------
    ValueError
        ``allow`` holds a kind that can never be allowed.
    """
    never = sorted({kind.value for kind in allow} - {kind.value for kind in ALLOWABLE})
    if never:
        raise ValueError(
            f"pixels of kind {', '.join(never)} never carry; allowable are "
            f"{', '.join(kind.value for kind in ALLOWABLE)}"
        )
    facts = HeaderFacts(ds)
    if cannot_be_read(facts):
        return Judgement((Kind.NO_PIXELS,))
    kinds = tuple(exclusion.kind for exclusion in EXCLUSIONS if exclusion.applies(facts))
    return Judgement(kinds, frozenset(allow))
