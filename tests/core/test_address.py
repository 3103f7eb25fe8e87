import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverslip.scheme import address
from coverslip.scheme.profiles import ALL_SIXTEEN, LOW_FOUR

versions = st.integers(1, 40)


@given(versions)
def test_module_order_names_every_module_once(version):
    side = 17 + 4 * version
    assert np.array_equal(np.sort(address.module_order(side)), np.arange(side * side))


def test_a_slot_is_a_tile_of_the_symbol():
    rows, cols = np.divmod(address.module_order(21)[:16], 21)
    assert (rows.max(), cols.max()) == (3, 3)


@given(versions, st.sampled_from([ALL_SIXTEEN, LOW_FOUR]), st.integers(0, 2**32 - 1))
def test_gather_undoes_tiles(version, coefficients, seed):
    side = 17 + 4 * version
    symbol = np.random.default_rng(seed).random((side, side)) < 0.5
    bits = address.tiles(symbol, coefficients)
    votes = np.where(bits[:, list(coefficients)], 1, -1).astype(np.float32)
    assert np.array_equal(address.gather(votes, side) > 0, symbol)


@pytest.mark.parametrize("variant", range(address.VARIANTS))
@given(slots=st.integers(1, 1000))
def test_a_whole_image_reaches_every_slot_evenly(variant, slots):
    plane = address.slot_plane(128, 128, slots, variant)
    counts = np.bincount(plane.reshape(-1), minlength=slots)
    assert counts.size == slots
    assert counts.min() >= 128 * 128 // slots * 0.5


@given(st.integers(0, 20), st.integers(0, 20), st.integers(2, 500))
def test_cutting_rows_and_columns_moves_every_block_by_the_same_number_of_slots(down, right, slots):
    whole = address.slot_plane(40, 40, slots).astype(int)
    cut = address.slot_plane(20, 20, slots).astype(int)
    moved = (whole[down : down + 20, right : right + 20] - cut) % slots
    assert (moved == moved[0, 0]).all()


def test_a_row_of_blocks_visits_all_slots_before_it_comes_back():
    assert len(set(address.slot_plane(1, 371, 371)[0].tolist())) == 371
