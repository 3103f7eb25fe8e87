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


def allowed(pixels, mask, legal, padding, margin):
    blocks = tf.constant(dct.to_blocks(pixels)[np.newaxis], tf.float32)
    return carriers.allowed_blocks(
        carriers.measure_blocks(blocks, tf.constant([padding], tf.float32)),
        carriers.touched_blocks(tf.constant(mask[np.newaxis]), tf.constant([margin])),
        tf.constant([legal], tf.float32),
    ).numpy()[0]


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
@settings(max_examples=200, deadline=None)
def test_allowed_blocks_are_the_references(kind, height, width, legal, margin, seed, padded):
    pixels = plane(kind, height, width, legal, seed)
    if seed % 3 == 0:
        pixels[height // 2, width // 2] = legal[1] + 1
    padding = legal[0] + 2 if padded else legal[0] - 1
    mask = sparse_masks(1, height, width, seed)[0]
    np.testing.assert_array_equal(
        allowed(pixels, mask, legal, padding, margin),
        reference.allowed_blocks(pixels, mask, legal, padding, margin),
    )


@pytest.mark.slow
@given(
    st.integers(24, 90),
    st.integers(24, 90),
    st.integers(0, 60000),
    st.integers(0, 300),
    st.integers(0, 5000),
    st.integers(0, 12),
    seeds,
)
@settings(max_examples=200, deadline=None)
def test_allowed_blocks_are_the_references_where_air_is_as_bright_and_uneven_as_may_be(
    height, width, level, noise, contrast, margin, seed
):
    random = np.random.default_rng(seed)
    ellipse = np.add.outer(
        np.linspace(-1, 1, height) ** 2, np.linspace(-1, 1, width) ** 2 * random.uniform(0.5, 3)
    )
    pixels = level + random.integers(0, noise + 1, (height, width)) + contrast * (ellipse < 0.5)
    pixels[:, : random.integers(0, width)] = random.choice([0, level])
    pixels = pixels.clip(0, 65535).astype(np.int32)
    mask = (ellipse < random.uniform(0, 0.5)).astype(np.uint8)
    legal = (int(random.integers(0, level + 1)), int(random.integers(level, 65536)))
    np.testing.assert_array_equal(
        allowed(pixels, mask, legal, -1, margin),
        reference.allowed_blocks(pixels, mask, legal, -1, margin),
    )


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), seeds)
@settings(max_examples=200, deadline=None)
def test_the_hull_is_the_references(rows, cols, share, seed):
    blocks = np.random.default_rng(seed).random((rows, cols)) < share**4
    found = carriers.hull_blocks(tf.constant(blocks[np.newaxis], tf.float32)).numpy()[0]
    np.testing.assert_array_equal(found, reference.hull_blocks(blocks))


def test_the_hull_is_the_references_in_the_longest_and_the_widest_plane():
    for shape in ((16384, 3), (3, 16384)):
        blocks = np.zeros(shape, bool)
        blocks[0, 0] = blocks[-1, -1] = blocks[1, 1] = True
        found = carriers.hull_blocks(tf.constant(blocks[np.newaxis], tf.float32)).numpy()[0]
        np.testing.assert_array_equal(found, reference.hull_blocks(blocks))


@pytest.mark.slow
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**20), seeds)
@settings(max_examples=200, deadline=None)
def test_surroundings_exceed_a_bound_where_the_references_do(rows, cols, spread, seed):
    random = np.random.default_rng(seed)
    sums = random.integers(-spread, spread + 1, (rows, cols))
    counted = random.random((rows, cols)) < random.choice([0.1, 0.9, 1])
    bounds = [0, int(random.integers(-spread, spread + 1))]
    levels = reference.Levels(sums, sums, sums, counted)
    found = carriers._surroundings_exceed(
        carriers.Levels(
            *(tf.constant([sums, counted][i], tf.float32)[tf.newaxis] for i in (0, 0, 0, 1, 1, 1))
        ),
        [tf.fill([1, 1, 1], float(bound)) for bound in bounds],
    )
    for bound, blocks in zip(bounds, found, strict=True):
        np.testing.assert_array_equal(blocks[0], reference.surroundings_exceed(levels, bound))


def test_the_quantiles_indexes_are_the_references_for_every_number_of_blocks():
    count = np.arange(1, 1 << 22)
    for rank in carriers.RANKS:
        assert (count[-1] - 1) * rank.numerator < 2**31
        step = count[:: 1 << 7]
        wanted = [int((n - 1) * rank) for n in step.tolist()]
        np.testing.assert_array_equal((step - 1) * rank.numerator // rank.denominator, wanted)


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
