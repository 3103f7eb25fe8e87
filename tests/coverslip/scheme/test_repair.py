from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.errors import DamagedMessageError
from coverslip.qr import symbol as symbols
from coverslip.qr.symbol import ErrorCorrection
from coverslip.scheme.address import module_order
from coverslip.scheme.reader import Votes
from coverslip.scheme.repair import block_layout, repair


def votes_of(symbol: NDArray[np.bool_], level: ErrorCorrection = ErrorCorrection.L) -> Votes:
    return Votes(
        np.where(symbol, 5.0, -5.0).astype(np.float32),
        symbols.version_of(len(symbol)),
        0,
        20.0,
        level,
    )


def without_slots(votes: Votes, share: float, seed: int) -> Votes:
    """Votes in which a share of the slots of 16 modules has none."""
    rng = np.random.default_rng(seed)
    modules = votes.modules.copy().reshape(-1)
    order = module_order(len(votes.modules))
    slots = [order[i : i + 16] for i in range(0, len(order), 16)]
    for slot in rng.permutation(len(slots))[: int(share * len(slots))]:
        modules[slots[slot]] = rng.normal(0, 1e-3, len(slots[slot]))
    return replace(votes, modules=modules.reshape(votes.modules.shape))


@pytest.mark.parametrize("level", ErrorCorrection)
@pytest.mark.parametrize("version", symbols.VERSIONS)
def test_every_codeword_has_one_place(version: int, level: ErrorCorrection) -> None:
    index, sizes = block_layout(version, level)
    assert sorted(index[index >= 0]) == list(range(sum(total for total, _ in sizes)))


@pytest.mark.slow
@given(st.integers(1, 1200), st.integers(0, 2**32 - 1), st.sampled_from(ErrorCorrection))
@settings(max_examples=25, deadline=None)
def test_a_whole_symbol_is_drawn_as_it_was(size: int, seed: int, level: ErrorCorrection) -> None:
    symbol = symbols.draw(np.random.default_rng(seed).bytes(size), level)
    repaired = repair(votes_of(symbol, level))
    assert repaired is not None and np.array_equal(repaired, symbol)


@pytest.mark.parametrize(
    ("level", "missing"),
    [(ErrorCorrection.L, 0.12), (ErrorCorrection.M, 0.2), (ErrorCorrection.Q, 0.35)],
)
@pytest.mark.parametrize("size", [300, 640, 1100])
def test_repairs_missing_slots_that_defeat_a_reader(
    size: int, level: ErrorCorrection, missing: float
) -> None:
    frame = np.random.default_rng(size).bytes(size)
    symbol = symbols.draw(frame, level)
    votes = without_slots(votes_of(symbol, level), missing, seed=1)
    with pytest.raises(DamagedMessageError):
        symbols.read(votes.symbol())
    repaired = repair(votes)
    assert repaired is not None
    assert symbols.read(repaired) == frame


def test_too_much_missing_is_none_not_garbage() -> None:
    symbol = symbols.draw(np.random.default_rng(2).bytes(600))
    assert repair(without_slots(votes_of(symbol), 0.4, seed=1)) is None
