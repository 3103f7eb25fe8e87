import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.scheme import quantise
from coverslip.scheme.dct import BASIS
from coverslip.scheme.profiles import ALL_SIXTEEN, LOW_FOUR
from coverslip_graph import quantiser
from tests.graph.planes import KINDS, RANGES, STEPS, plane, request


def blocks_of(kind: str, legal: tuple[int, int], seed: int) -> NDArray[np.int32]:
    return (
        plane(kind, 64, 64, legal, seed)
        .reshape(16, 4, 16, 4)
        .transpose(0, 2, 1, 3)
        .reshape(1, 16, 16, 16)
    )


def measured(blocks: NDArray[np.int32], step: float) -> NDArray[np.float32]:
    phases: NDArray[np.float32] = quantiser.measure(
        tf.constant(blocks, tf.float32), tf.constant([step], tf.float32)
    ).numpy()
    return phases


@given(
    st.sampled_from(KINDS),
    st.sampled_from(RANGES),
    st.sampled_from((1.0, *STEPS)),
    st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_phases_of_16_bit_blocks_are_right_to_a_millionth_of_a_step(
    kind: str, legal: tuple[int, int], step: float, seed: int
) -> None:
    blocks = blocks_of(kind, legal, seed)
    error = measured(blocks, step) - quantise.measure(blocks, float(np.float32(step)))
    assert np.abs(error - np.rint(error)).max() < 1e-6


@given(st.floats(0.5, 4096, width=32), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_phases_are_right_at_any_step(step: float, seed: int) -> None:
    blocks = blocks_of("noise", (0, 65535), seed)
    error = measured(blocks, step) - quantise.measure(blocks, step)
    assert np.abs(error - np.rint(error)).max() < 1e-6


@given(st.sampled_from(STEPS), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_coarse_weights_are_on_their_grid_and_sum_exactly(step: float, seed: int) -> None:
    weights = quantiser.phase_weights(tf.constant([step], tf.float32)).numpy()[0]
    coarse = weights[:, :16].astype(np.float64) * quantiser.GRID
    assert np.array_equal(coarse, np.rint(coarse))
    assert np.abs(weights[:, :16]).max() <= 0.5
    assert np.abs(weights[:, 16:]).max() <= 1.1 / quantiser.GRID
    limbs = np.random.default_rng(seed).integers(-256, 257, (100, 32)).astype(np.float32)
    exact = limbs.astype(np.float64) @ weights[:, :16].astype(np.float64)
    np.testing.assert_array_equal(limbs @ weights[:, :16], exact)


def test_bytes_wrap_at_a_whole_step() -> None:
    phases = tf.constant([-0.5, -0.001, 0.0, 0.25, 0.499, 0.5, -0.25])
    assert quantiser.to_bytes(phases).numpy().tolist() == [128, 0, 0, 64, 128, 128, 192]


def near_a_tie(
    blocks: NDArray[np.int32], phases: NDArray[np.uint8], carries: NDArray[np.float32], step: float
) -> NDArray[np.bool_]:
    """Find blocks in which the reference rounds a value so near a half that float32 may differ."""
    delta = phases / quantise.PHASES - quantise.measure(blocks, step)
    moved = (delta - np.rint(delta - quantise.TIE)) * carries
    change = (moved * step) @ BASIS
    near = (to_half(delta) < 1e-6) | (to_half(change) < 1e-6 * max(step, 8))
    return np.asarray(near.any(axis=-1))


def to_half(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of values from those that the reference rounds at a half."""
    return np.asarray(np.abs((values - quantise.TIE) % 1 - 0.5))


@pytest.mark.slow
@given(
    st.sampled_from(KINDS),
    st.sampled_from(RANGES),
    st.sampled_from(STEPS),
    st.sampled_from([ALL_SIXTEEN, LOW_FOUR, (0,)]),
    st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_blocks_move_as_the_reference_moves_them(
    kind: str, legal: tuple[int, int], step: float, coefficients: tuple[int, ...], seed: int
) -> None:
    wanted = request(kind, 64, 64, legal, seed, step=step, coefficients=coefficients)
    blocks, step = blocks_of(kind, legal, seed), float(wanted.step[0])
    expected = quantise.move(blocks, wanted.phases, wanted.coefficients[0], step, legal)
    moved = quantiser.move(
        tf.constant(blocks, tf.float32),
        tf.constant(wanted.phases),
        tf.constant(wanted.coefficients),
        tf.constant(wanted.step),
        tf.constant(wanted.legal, tf.float32),
    )
    sure = ~near_a_tie(blocks, wanted.phases, wanted.coefficients[0], step)
    # What counts as near a tie grows with the step.
    assert sure.mean() > 0.98 - 5e-5 * step
    np.testing.assert_array_equal(moved.change.numpy()[sure], (expected.pixels - blocks)[sure])
    np.testing.assert_array_equal(moved.usable.numpy()[sure], expected.usable[sure])
    np.testing.assert_array_equal(moved.cost.numpy()[sure], expected.cost[sure])


@given(
    st.sampled_from(KINDS), st.sampled_from(RANGES), st.sampled_from(STEPS), st.integers(0, 2**31)
)
@settings(max_examples=80, deadline=None)
def test_what_is_usable_is_legal_and_at_its_phase(
    kind: str, legal: tuple[int, int], step: float, seed: int
) -> None:
    wanted = request(kind, 64, 64, legal, seed, step=step)
    blocks = blocks_of(kind, legal, seed)
    moved = quantiser.move(
        tf.constant(blocks, tf.float32),
        tf.constant(wanted.phases),
        tf.constant(wanted.coefficients),
        tf.constant(wanted.step),
        tf.constant(wanted.legal, tf.float32),
    )
    usable = moved.usable.numpy() == 1
    pixels = (blocks + moved.change.numpy().astype(np.int64))[usable]
    off = quantise.measure(pixels, float(wanted.step[0])) - wanted.phases[usable] / quantise.PHASES
    assume(pixels.size > 0)
    assert legal[0] <= pixels.min() and pixels.max() <= legal[1]
    assert np.all(np.abs(off - np.rint(off)) <= quantise.TOLERANCE + 1e-6)


@pytest.mark.parametrize("kind", ["floor", "ceiling"])
def test_flat_blocks_at_the_end_of_the_range_are_lifted_not_clipped(kind: str) -> None:
    wanted = request(kind, 64, 64, (0, 4095), 4, step=8.3)
    moved = quantiser.move(
        tf.constant(blocks_of(kind, (0, 4095), 4), tf.float32),
        tf.constant(wanted.phases),
        tf.constant(wanted.coefficients),
        tf.constant(wanted.step),
        tf.constant(wanted.legal, tf.float32),
    )
    assert moved.usable.numpy().mean() > 0.95
