import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_erosion

from coverslip.dicom.instance import read_instance
from coverslip.pipeline import engine_planes
from coverslip.scheme import carriers, dct


def scene(rng, body_level=500):
    pixels = rng.normal(30, 6, (64, 64)).clip(0).astype(np.int32)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:44, 20:44] = 1
    pixels[mask > 0] += body_level
    return pixels, mask


def to_pixels(blocks):
    return np.kron(blocks, np.ones((4, 4), dtype=bool))


def test_the_margin_grows_with_the_matrix_as_far_as_engines_take_it():
    sizes = [(256, 256), (512, 384), (600, 100), (100, 1024), (2048, 2048), (4096, 4096)]
    assert [carriers.margin_for(8, *size) for size in sizes] == [8, 8, 10, 16, 32, 32]


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
    assert allowed.sum() > 90


def test_the_gate_holds_back_skin_that_the_mask_missed():
    pixels, mask = scene(np.random.default_rng(2))
    missed = mask.copy()
    missed[20:30] = 0
    allowed = carriers.allowed_blocks(pixels, missed, (0, 4095), -1, 0)
    assert not to_pixels(allowed)[mask > 0].any()
    assert allowed.sum() > 100


def test_nothing_is_allowed_when_all_is_body():
    pixels, mask = scene(np.random.default_rng(3))
    assert not carriers.allowed_blocks(pixels, np.ones_like(mask), (0, 4095), -1, 0).any()


def test_flat_air_is_allowed():
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[8:24, 8:24] = 1
    assert carriers.allowed_blocks(mask.astype(np.int32) * 300, mask, (0, 4095), -1, 0).sum() == 48


def torso(size=128, body=400, seed=4):
    """A body with a lung in it, both cut by the frame's lower edge, and its label."""
    random = np.random.default_rng(seed)
    row, column = np.ogrid[:size, :size]
    inside = ((row - size) / (0.7 * size)) ** 2 + ((column - size / 2) / (0.35 * size)) ** 2 < 1
    lung = ((row - size) / (0.4 * size)) ** 2 + ((column - size / 2) / (0.2 * size)) ** 2 < 1
    pixels = random.normal(30, 6, (size, size)) + body * (inside & ~lung)
    return pixels.clip(0).astype(np.int32), inside, lung


def test_a_lung_that_is_open_to_the_frames_edge_is_in_the_hull():
    pixels, inside, lung = torso()
    outline = (inside & ~lung).astype(np.uint8)
    allowed = carriers.allowed_blocks(pixels, outline, (0, 200), -1, 8)
    assert not to_pixels(allowed)[inside].any()
    assert allowed.sum() > 250


def test_tiles_that_the_outline_missed_are_in_the_hull_with_the_gaps_between_them():
    random = np.random.default_rng(5)
    row, column = np.ogrid[:32, :32]
    tile = 300.0 * ((row - 16) ** 2 + (column - 16) ** 2 < 9**2)
    whole = np.pad(np.tile(tile, (4, 4)), ((0, 0), (0, 64)))
    pixels = (whole + random.integers(0, 20, whole.shape)).astype(np.int32)
    outline = np.zeros(whole.shape, np.uint8)
    outline[:64, :64] = whole[:64, :64] > 0
    allowed = carriers.allowed_blocks(pixels, outline, (0, 80), -1, 8)
    assert not allowed[2:-2, 2:30].any()
    assert allowed[:, 34:].mean() > 0.9


def test_tissue_no_brighter_than_the_noise_of_air_is_told_by_its_mean():
    random = np.random.default_rng(6)
    row, column = np.ogrid[:192, :192]
    away = np.hypot(row - 96, column - 96)
    level = np.where(away < 40, 400, np.where(away < 70, 36, 20))
    pixels = random.normal(level, 8).clip(0).astype(np.int32)
    outline = (away < 40).astype(np.uint8)
    allowed = carriers.allowed_blocks(pixels, outline, (0, 110), -1, 8)
    tissue = to_pixels(allowed) & (away < 62)
    assert not tissue.any()
    assert allowed[away[::4, ::4] > 84].mean() > 0.9
    alone = dct.to_blocks(pixels).max(axis=-1) <= 20 + 4 * 8
    assert alone[(away[::4, ::4] > 50) & (away[::4, ::4] < 66)].mean() > 0.2


def test_a_network_that_finds_next_to_nothing_costs_no_body():
    pixels, inside, _ = torso()
    dot = np.zeros(inside.shape, np.uint8)
    dot[60:76, 60:76] = 1
    allowed = carriers.allowed_blocks(pixels, dot, (0, 140), -1, 8)
    assert not to_pixels(allowed)[inside].any()


def circle(size=128, corner=-2000):
    """A CT's air with a body, and corners outside the circle it was reconstructed in."""
    random = np.random.default_rng(9)
    row, column = np.ogrid[:size, :size]
    away = np.hypot(row - size / 2, column - size / 2)
    pixels = random.normal(np.where(away < size / 4, 40, -1000), 8)
    return np.where(away < size / 2, pixels, corner).astype(np.int32), away


def test_the_edge_of_the_reconstructed_circle_does_not_carry_and_its_air_does():
    pixels, away = circle()
    outline = (away < 32).astype(np.uint8)
    allowed = carriers.allowed_blocks(pixels, outline, (-2000, -740), -32768, 8)
    blocks = dct.to_blocks(pixels)
    spans = blocks.max(axis=-1) - blocks.min(axis=-1)
    assert spans[allowed].max() < 100
    assert allowed[spans == 0].all()
    assert allowed[(spans > 0) & (spans < 100) & (dct.to_blocks(away).min(axis=-1) > 46)].all()


@pytest.mark.parametrize("value", [-2000, 3000])
def test_padding_says_nothing_of_air_however_bright_it_is(value):
    pixels, away = circle(corner=value)
    outline = (away < 32).astype(np.uint8)
    allowed = carriers.allowed_blocks(pixels, outline, (-2000, -740), value, 8)
    expected = carriers.allowed_blocks(circle()[0], outline, (-2000, -740), -2000, 8)
    np.testing.assert_array_equal(allowed, expected)


@given(st.integers(1, 24), st.integers(1, 24), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_hull_holds_all_that_lies_between_two_of_its_blocks(rows, cols, share, seed):
    random = np.random.default_rng(seed)
    blocks = random.random((rows, cols)) < share**3
    hull = carriers.hull_blocks(blocks)
    assert hull[blocks].all()
    np.testing.assert_array_equal(carriers.hull_blocks(hull), hull)
    places = np.argwhere(hull)
    for _ in range(20 if places.size else 0):
        first, second = places[random.integers(0, len(places), 2)]
        middle = first + second
        if not (middle % 2).any():
            assert hull[tuple(middle // 2)]


def test_the_hull_of_a_disc_is_the_disc_and_that_of_a_ring_too():
    row, column = np.ogrid[:80, :90]
    away = np.hypot(row - 40, column - 45)
    ring = (away < 30) & (away > 28)
    hull = carriers.hull_blocks(ring)
    assert hull[away < 30].all() and not hull[away > 30.5].any()


def test_nothing_has_no_hull():
    assert not carriers.hull_blocks(np.zeros((5, 7), bool)).any()


def level_of(pixels):
    """A quarter of the way from the air to the 98th percentile: what the engine's legal range ends
    below.
    """
    blocks = dct.to_blocks(pixels)
    uneven = blocks.max(axis=-1) > blocks.min(axis=-1)
    air = np.quantile(blocks.mean(axis=-1)[uneven], 0.03)
    bright = np.quantile(pixels[pixels > pixels.min()], 0.98)
    return int(np.ceil(air + (bright - air) / 4))


def outlines_of(label):
    """What is left of a label where a network is too small, or sees half, or next to nothing."""
    columns = np.flatnonzero(label.any(axis=0))
    half, dot = label.copy(), np.zeros_like(label)
    half[:, (columns[0] + columns[-1]) // 2 :] = 0
    middle = [slice(side // 2 - 8, side // 2 + 8) for side in label.shape]
    dot[tuple(middle)] = 1
    return binary_erosion(label, np.ones((17, 17))), half, dot


@pytest.mark.slow
def test_no_labelled_body_is_allowed_on_real_slices_whatever_the_outline_is(shared_data: Path):
    with (shared_data / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::6]
    roomy = 0
    for row in rows:
        planes = engine_planes(read_instance(shared_data / row["file"]))
        pixels = planes.pixels[0]
        label = np.asarray(Image.open(shared_data / row["label"])) > 0
        body = dct.to_blocks(label).any(axis=-1)
        legal = (int(pixels.min()), level_of(pixels) - 1)
        for outline in (label, *outlines_of(label)):
            allowed = carriers.allowed_blocks(
                pixels, outline.astype(np.uint8), legal, planes.padding, 8
            )
            assert not (allowed & body).any(), row["file"]
        roomy += (
            carriers.allowed_blocks(pixels, label.astype(np.uint8), legal, planes.padding, 8).sum()
            > 400
        )
    assert roomy > 0.9 * len(rows)


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
    assert (
        carriers.quantile(values, rank)
        == np.sort(values)[int(carriers.as_fraction(rank) * (values.size - 1))]
    )
