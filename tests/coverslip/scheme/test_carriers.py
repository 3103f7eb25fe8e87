import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coverslip.scheme import carriers, dct


def scene(rng, body_level=500):
    pixels = rng.normal(30, 6, (64, 64)).clip(0).astype(np.int32)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:44, 20:44] = 1
    pixels[mask > 0] += body_level
    return pixels, mask


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_dilate_grows_by_exactly_the_margin(margin, seed):
    mask = (np.random.default_rng(seed).random((30, 25)) < 0.01).astype(np.uint8)
    grown = carriers.dilate(mask, margin)
    for row, col in np.argwhere(np.ones_like(mask)):
        window = mask[
            max(row - margin, 0) : row + margin + 1, max(col - margin, 0) : col + margin + 1
        ]
        assert grown[row, col] == window.max()


@given(st.integers(4, 40), st.integers(4, 40), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_the_margin_is_kept_in_whole_blocks(height, width, margin, seed):
    mask = (np.random.default_rng(seed).random((height, width)) < 0.01).astype(np.uint8)
    touched = carriers.touched_blocks(mask, margin)
    asked = dct.to_blocks(carriers.dilate(mask, margin)).any(axis=-1)
    assert touched[asked].all()
    if margin % 4 == 0:
        np.testing.assert_array_equal(touched, asked)


def test_no_body_within_the_margin_padding_or_illegal_pixel_is_allowed():
    pixels, mask = scene(np.random.default_rng(1))
    pixels[0:3, 0:3] = 2000
    pixels[60, 60] = 5000
    allowed = carriers.allowed_blocks(pixels, mask, (0, 4095), 2000, 4)
    assert not allowed[4:12, 4:12].any()
    assert not allowed[0, 0] and not allowed[15, 15]
    assert allowed.sum() > 100


def test_the_gate_holds_back_skin_that_the_mask_missed():
    pixels, mask = scene(np.random.default_rng(2))
    missed = mask.copy()
    missed[20:30] = 0
    allowed = carriers.allowed_blocks(pixels, missed, (0, 4095), -1, 0)
    assert not np.kron(allowed, np.ones((4, 4), dtype=bool))[mask > 0].any()
    assert allowed.sum() > 100


def test_nothing_is_allowed_when_all_is_body():
    pixels, mask = scene(np.random.default_rng(3))
    assert not carriers.allowed_blocks(pixels, np.ones_like(mask), (0, 4095), -1, 0).any()


def test_flat_air_is_allowed():
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:24, 8:24] = 1
    assert carriers.allowed_blocks(mask.astype(np.int32) * 300, mask, (0, 4095), -1, 0).sum() == 48


def test_a_background_as_uneven_as_tissue_is_noisy():
    rng = np.random.default_rng(7)
    pixels, mask = scene(rng)
    everywhere = mask[::4, ::4] == 0
    assert not carriers.is_noisy(pixels, everywhere)
    uneven = np.where(mask > 0, pixels, rng.integers(0, 300, pixels.shape)).astype(np.int32)
    assert carriers.is_noisy(uneven, everywhere)


def test_an_even_background_is_not_noisy_however_dim_the_body():
    pixels, mask = scene(np.random.default_rng(8), body_level=0)
    pixels[:] = 5
    pixels[mask > 0] = 7
    assert not carriers.is_noisy(pixels, mask[::4, ::4] == 0)


@given(
    st.lists(st.integers(-(2**15), 2**16), min_size=1, max_size=300),
    st.integers(1, 9000),
    st.floats(0, 1),
)
def test_the_quantile_is_a_place_in_the_sorted_values_however_it_is_found(drawn, spread, rank):
    values = np.array(drawn) // spread  # from hardly any that repeat to all the same
    assert carriers.quantile(values, rank) == np.sort(values)[int(rank * (values.size - 1))]
