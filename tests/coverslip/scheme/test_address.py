from __future__ import annotations

import numpy as np
import pytest
import qrcode
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.qr.symbol import function_modules
from coverslip.scheme import address
from coverslip.scheme.profiles import ALL_SIXTEEN, LOW_FOUR

versions = st.integers(1, 40)


@given(versions)
def test_module_order_names_every_module_once(version: int) -> None:
    side = 17 + 4 * version
    assert np.array_equal(np.sort(address.module_order(side)), np.arange(side * side))


@pytest.mark.parametrize("version", [1, 2, 7, 15, 40])
def test_the_order_is_that_of_the_codewords(version: int) -> None:
    """One codeword changed in the library's data changes that codeword's eight modules alone."""
    code = qrcode.QRCode(version=version, error_correction=1, border=0, mask_pattern=0)
    code.add_data("A1" * 4)
    code.make(fit=False)
    known = function_modules(version)

    def drawn(data: list[int]) -> NDArray[np.bool_]:
        code.modules = [[None if value == 0 else value > 0 for value in row] for row in known]
        code.map_data(data, 0)
        return np.array(code.modules, dtype=bool).reshape(-1)

    before = drawn(code.data_cache)
    order = address.module_order(len(known))
    for place in (0, 1, 5, len(code.data_cache) - 1):
        changed = list(code.data_cache)
        changed[place] ^= 0xFF
        differing = np.flatnonzero(before != drawn(changed))
        assert sorted(differing) == sorted(order[8 * place : 8 * place + 8])


@given(versions, st.sampled_from([ALL_SIXTEEN, LOW_FOUR]), st.integers(0, 2**32 - 1))
def test_the_bits_of_slots_come_back_as_modules(
    version: int, coefficients: tuple[int, ...], seed: int
) -> None:
    side = 17 + 4 * version
    symbol = np.random.default_rng(seed).random((side, side)) < 0.5
    bits = address.slot_bits(symbol, coefficients)
    votes = np.where(bits[:, list(coefficients)], 1, -1).astype(np.float32)
    assert np.array_equal(address.slots_to_modules(votes, side) > 0, symbol)


@pytest.mark.parametrize("variant", range(address.VARIANTS))
@given(slots=st.integers(1, 1000))
def test_a_whole_image_reaches_every_slot_evenly(variant: int, slots: int) -> None:
    plane = address.slot_plane(128, 128, slots, variant)
    counts = np.bincount(plane.reshape(-1), minlength=slots)
    assert counts.size == slots
    assert counts.min() >= 128 * 128 // slots * 0.5


@given(st.integers(0, 20), st.integers(0, 20), st.integers(2, 500))
def test_cutting_rows_and_columns_moves_every_block_by_the_same_number_of_slots(
    down: int, right: int, slots: int
) -> None:
    whole = address.slot_plane(40, 40, slots).astype(int)
    cut = address.slot_plane(20, 20, slots).astype(int)
    moved = (whole[down : down + 20, right : right + 20] - cut) % slots
    assert (moved == moved[0, 0]).all()


@pytest.mark.parametrize("per_block", [4, 6, 10, 16])
def test_turns_are_even_and_differ_between_neighbours(per_block: int) -> None:
    turns = address.rotation_plane(64, 96, per_block)
    counts = np.bincount(turns.reshape(-1), minlength=per_block)
    assert counts.size == per_block
    assert counts.min() > 0.95 * turns.size / per_block
    assert np.mean(turns[1:] == turns[:-1]) < 0.05 and np.mean(turns[:, 1:] == turns[:, :-1]) < 0.05


def test_a_row_of_blocks_visits_all_slots_before_it_comes_back() -> None:
    assert len(set(address.slot_plane(1, 371, 371)[0].tolist())) == 371
