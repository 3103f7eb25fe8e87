import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from coverslip.scheme import carriers as reference
from coverslip.scheme import dct, quantise
from coverslip_graph import carriers
from tests.graph.planes import KINDS, RANGES, plane

sizes = st.integers(4, 60)
seeds = st.integers(0, 2**31)


def sparse_masks(batch, height, width, seed):
    random = np.random.default_rng(seed)
    return (random.random((batch, height, width)) < random.choice([0, 0.001, 0.01, 0.5])).astype(
        np.uint8
    )


@pytest.mark.slow
@given(sizes, sizes, st.lists(st.integers(0, 32), min_size=1, max_size=3), seeds)
@settings(max_examples=80, deadline=None)
def test_touched_and_near_blocks_are_the_references(height, width, margins, seed):
    masks = sparse_masks(len(margins), height, width, seed)
    touched = carriers.touched_blocks(tf.constant(masks), tf.constant(margins))
    for mask, margin, found, near in zip(
        masks, margins, touched.numpy(), carriers.near_blocks(touched).numpy(), strict=True
    ):
        expected = reference.touched_blocks(mask, margin)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(near, reference.near_blocks(expected))


@pytest.mark.slow
@given(
    st.sampled_from(KINDS),
    sizes,
    sizes,
    st.sampled_from(RANGES),
    st.integers(0, 20),
    seeds,
    st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_allowed_blocks_are_the_references(kind, height, width, legal, margin, seed, padded):
    pixels = plane(kind, height, width, legal, seed)
    if seed % 3 == 0:
        pixels[height // 2, width // 2] = legal[1] + 1
    padding = legal[0] + 2 if padded else legal[0] - 1
    mask = sparse_masks(1, height, width, seed)
    expected = reference.allowed_blocks(pixels, mask[0], legal, padding, margin)
    found = carriers.allowed_blocks(
        tf.constant(dct.to_blocks(pixels)[np.newaxis], tf.float32),
        carriers.touched_blocks(tf.constant(mask), tf.constant([margin])),
        tf.constant([legal], tf.float32),
        tf.constant([padding], tf.float32),
    )
    np.testing.assert_array_equal(found[0], expected)


def test_the_quantiles_index_is_the_references_for_every_number_of_blocks():
    count = np.arange(1, 1 << 20)
    wanted = (reference.GATE_RANK * (count - 1)).astype(np.int64)
    rank = carriers.RANK
    np.testing.assert_array_equal((count - 1) * rank.numerator // rank.denominator, wanted)
    assert (1 << 20) * rank.numerator < 2**31


@pytest.mark.slow
@given(
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 60),
    st.integers(1, 400),
    st.floats(0, 1),
    seeds,
)
@settings(max_examples=150, deadline=None)
def test_the_chosen_blocks_are_the_references(batch, rows, cols, slots, votes, share, seed):
    random = np.random.default_rng(seed)
    shape = (batch, rows, cols)
    cost = random.choice([0, 5, 6, 7, 300, quantise.COST_CAP, quantise.COST_CAP + 9], shape)
    usable = random.random(shape) < share
    slot = random.integers(0, slots, shape, dtype=np.int32)
    wanted = random.integers(1, votes + 1, batch, dtype=np.int32)
    found = carriers.choose(
        tf.constant(cost, tf.float32),
        tf.constant(usable, tf.float32),
        tf.constant(slot),
        tf.constant(wanted),
    ).numpy()
    for index in range(batch):
        expected = quantise.choose(cost[index], usable[index], slot[index], int(wanted[index]))
        np.testing.assert_array_equal(found[index], expected)


@pytest.mark.parametrize("slot", [0, 8190])
def test_the_last_slot_fits_the_key(slot):
    slots = tf.fill([1, 4, 4], slot)
    cost = tf.reshape(tf.range(16.0, 0.0, -1.0), [1, 4, 4]) * 1e6
    found = carriers.choose(cost, tf.ones([1, 4, 4]), slots, tf.constant([3])).numpy()
    assert np.flatnonzero(found).tolist() == [0, 1, 2]  # all at the cost's cap, so the first ones


def test_a_slot_without_cheap_blocks_gets_its_votes_from_dear_ones():
    cost = np.where(np.arange(64 * 64) % 32 == 7, 9000.0, 1.0 + np.arange(64 * 64) % 5).reshape(
        1, 64, 64
    )
    slots = (np.arange(64 * 64, dtype=np.int32) % 32).reshape(1, 64, 64)
    found = carriers.choose(
        tf.constant(cost, tf.float32), tf.ones([1, 64, 64]), tf.constant(slots), tf.constant([4])
    ).numpy()[0]
    assert np.bincount(slots[0][found > 0], minlength=32).tolist() == [4] * 32
    np.testing.assert_array_equal(
        found, quantise.choose(cost[0].astype(np.int64), np.ones((64, 64), bool), slots[0], 4)
    )


def test_votes_beyond_every_block_take_every_usable_block():
    usable = np.random.default_rng(3).random((1, 40, 40)) < 0.5
    slots = np.full((1, 40, 40), 8190, np.int32)
    found = carriers.choose(
        tf.ones([1, 40, 40]),
        tf.constant(usable, tf.float32),
        tf.constant(slots),
        tf.constant([2**31 - 1]),
    ).numpy()
    np.testing.assert_array_equal(found, usable)
