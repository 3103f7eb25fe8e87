from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from coverslip.scheme import quantise
from coverslip.scheme.profiles import ALL_SIXTEEN, LOW_FOUR

steps = st.sampled_from([4.0, 8.0, 13.7, 64.0])
sets = st.sampled_from([ALL_SIXTEEN, LOW_FOUR])
ranges = st.sampled_from([(0, 255), (0, 4095), (0, 65535), (-2048, 2047), (-32768, 32767)])


def selected(chosen: tuple[int, ...]) -> NDArray[np.float32]:
    coefficients = np.zeros(16, dtype=np.float32)
    coefficients[list(chosen)] = 1
    return coefficients


@st.composite
def adversarial_blocks(draw: st.DrawFn, legal: tuple[int, int]) -> NDArray[np.int32]:
    lo, hi = legal
    kind = draw(st.sampled_from(["random", "floor", "ceiling", "extremes", "dark"]))
    if kind == "random":
        return draw(hnp.arrays(np.int32, (12, 16), elements=st.integers(lo, hi)))
    if kind == "floor":
        return np.full((12, 16), lo, dtype=np.int32)
    if kind == "ceiling":
        return np.full((12, 16), hi, dtype=np.int32)
    if kind == "extremes":
        return np.tile(np.array([lo, hi] * 8, dtype=np.int32), (12, 1))
    return draw(hnp.arrays(np.int32, (12, 16), elements=st.integers(lo, min(lo + 20, hi))))


@given(st.data(), ranges, steps, sets, st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_usable_blocks_are_legal_and_carry_the_phases_that_were_wanted(
    data: st.DataObject, legal: tuple[int, int], step: float, chosen: tuple[int, ...], seed: int
) -> None:
    blocks = data.draw(adversarial_blocks(legal))
    wanted = np.random.default_rng(seed).integers(0, 256, blocks.shape, dtype=np.uint8)
    moved = quantise.move(blocks, wanted, selected(chosen), step, legal)
    pixels = moved.pixels[moved.usable]
    assert pixels.size == 0 or (pixels.min() >= legal[0] and pixels.max() <= legal[1])
    off = (quantise.measure(pixels, step) - wanted[moved.usable] / 256)[:, list(chosen)]
    assert np.all(np.abs(off - np.rint(off)) <= quantise.TOLERANCE)


@given(ranges, st.integers(0, 2**32 - 1))
def test_dark_noise_is_always_usable_at_step_8(legal: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = (legal[0] + rng.integers(0, 30, (50, 16))).astype(np.int32)
    moved = quantise.move(
        blocks, rng.integers(0, 256, (50, 16), dtype=np.uint8), selected(ALL_SIXTEEN), 8.0, legal
    )
    # Rounding moves a coefficient by at most 2 grey levels, a quarter of this step; 0.2 of it is
    # passed now and then.
    assert moved.usable.mean() > 0.95


def test_moving_costs_a_twelfth_of_the_squared_step_and_the_rounding() -> None:
    rng = np.random.default_rng(5)
    blocks = rng.integers(1000, 1100, (4000, 16)).astype(np.int32)
    moved = quantise.move(
        blocks,
        rng.integers(0, 256, (4000, 16), dtype=np.uint8),
        selected(ALL_SIXTEEN),
        8.0,
        (0, 4095),
    )
    assert abs(moved.cost.mean() / 16 - (64 / 12 + 1 / 12)) < 0.1


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_choose_takes_the_cheapest_usable_blocks_of_each_slot(votes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    slots = rng.integers(0, 7, (9, 11)).astype(np.int32)
    cost, usable = rng.integers(0, 40, slots.shape), rng.random(slots.shape) < 0.8
    chosen = quantise.choose(cost, usable, slots, votes)
    assert not (chosen & ~usable).any()
    for slot in range(7):
        here = (slots == slot) & usable
        kept = chosen & here
        assert kept.sum() == min(votes, here.sum())
        if kept.any() and (here & ~kept).any():
            assert cost[kept].max() <= cost[here & ~kept].min()


def test_blocks_near_the_body_carry_only_where_farther_ones_are_too_few() -> None:
    cost = np.array([[10, 70_000], [5, 1]])
    near = np.array([[False, False], [True, True]])
    one_slot, usable = np.zeros((2, 2), dtype=np.int32), np.ones((2, 2), dtype=bool)
    ranked = quantise.rank(cost, near, np.zeros((2, 2), dtype=bool))
    assert quantise.choose(ranked, usable, one_slot, 2).tolist() == [[True, True], [False, False]]
    assert quantise.choose(ranked, usable, one_slot, 3).tolist() == [[True, True], [False, True]]


def test_blocks_of_one_value_carry_only_where_all_others_are_too_few():
    cost, flat = np.array([[0, 90_000], [3, 1]]), np.array([[True, False], [False, True]])
    near = np.array([[False, False], [True, True]])
    one_slot, usable = np.zeros((2, 2), dtype=np.int32), np.ones((2, 2), dtype=bool)
    ranked = quantise.rank(cost, near, flat)
    assert ranked.max() <= quantise.COST_CAP
    order = [[0, 1], [1, 0], [0, 0], [1, 1]]
    for votes in range(1, 5):
        chosen = quantise.choose(ranked, usable, one_slot, votes)
        assert sorted(np.argwhere(chosen).tolist()) == sorted(order[:votes])


@given(st.integers(9, 30), st.integers(9, 30), st.integers(0, 2**32 - 1))
def test_only_carriers_differ(rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (rows, cols)).astype(np.int32)
    shape = rows // 4, cols // 4
    allowed = rng.random(shape) < 0.6
    slots = rng.integers(0, 4, shape).astype(np.int32)
    phases = rng.integers(0, 256, (*shape, 16), dtype=np.uint8)
    stego, carriers = quantise.embed_plane(
        pixels, allowed, ~allowed, phases, slots, selected(ALL_SIXTEEN), 8.0, 2, (0, 4095)
    )
    assert not (carriers & ~allowed).any()
    untouched = np.ones(pixels.shape, dtype=bool)
    untouched[: shape[0] * 4, : shape[1] * 4] = ~np.kron(carriers, np.ones((4, 4), dtype=bool))
    assert np.array_equal(stego[untouched], pixels[untouched])


@given(ranges, st.sampled_from([4.0, 6.0, 6.7, 8.0, 91.0]), st.integers(0, 2**32 - 1))
def test_a_lift_moves_dc_by_whole_steps_and_only_as_far_as_it_must(
    legal: tuple[int, int], step: float, seed: int
) -> None:
    lo, hi = legal
    random = np.random.default_rng(seed)
    blocks = lo + random.integers(-40, 40, (60, 1)) + random.integers(0, 20, (60, 16))
    lifted = quantise.lift(blocks, step, legal)
    moves = 4 * lifted.by / step
    np.testing.assert_allclose(moves, np.rint(moves), atol=1e-9)
    assert np.abs(lifted.whole - lifted.by).max() <= 0.5 + quantise.TIE
    below = lo - blocks.min(axis=-1)
    assert np.all(lifted.by[below <= 0] == 0)
    # A range narrower by a level counts where steps of DC are no whole grey levels.
    assert np.all(lifted.by[below > 0] < below[below > 0] + (step % 4 > 0) + step / 4)
    after = blocks + lifted.whole[:, None]
    assert (
        lifted.fits.mean() > 0.9
        and after[lifted.fits].min() >= lo
        and after[lifted.fits].max() <= hi
    )


def test_whole_lifts_fit_exactly_where_the_block_is_in_range() -> None:
    blocks = np.random.default_rng(1).integers(-60, 300, (3000, 16))
    lifted = quantise.lift(blocks, 8.0, (0, 255))
    after = blocks + lifted.whole[:, None]
    np.testing.assert_array_equal(
        lifted.fits, (after.min(axis=-1) >= 0) & (after.max(axis=-1) <= 255)
    )
    narrow = np.clip(blocks, -60, 100)
    assert quantise.lift(narrow, 8.0, (0, 255)).fits.all()


@given(hnp.arrays(np.float64, 20, elements=st.floats(-(2**17), 2**17)))
def test_bytes_of_coefficients_are_those_of_their_phases(scaled: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(
        quantise.to_bytes(scaled), quantise.to_bytes(scaled - np.floor(scaled))
    )
