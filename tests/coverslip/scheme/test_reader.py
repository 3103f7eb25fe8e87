from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from coverslip.pipeline import read_votes
from coverslip.qr import symbol as symbols
from coverslip.qr.symbol import ErrorCorrection
from coverslip.scheme.dct import from_blocks, inverse
from coverslip.scheme.detect import estimate_carriers, neighbourhood_mean
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.phases import phase_plane
from coverslip.scheme.profiles import DEFAULT, FAINT, ROBUST, Profile
from coverslip.scheme.quantise import embed_plane
from coverslip.scheme.reader import Reader
from coverslip.scheme.reference import measure_plane

KEY = dither_key(b"k" * 32)


def embedded(
    profile: Profile,
    frame_bytes: int = 120,
    size: int = 256,
    seed: int = 1,
    variant: int = 0,
    level: ErrorCorrection | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    cover = rng.normal(40, 12, (size, size)).clip(0, 4095).astype(np.int32)
    symbol = symbols.draw(rng.bytes(frame_bytes), level or profile.levels[0])
    dither = dither_plane(KEY, size // 4, size // 4)
    plane = phase_plane(symbol, dither, profile, variant)
    coefficients = np.zeros(16, dtype=np.float32)
    coefficients[list(profile.coefficients)] = 1
    allowed = np.ones((size // 4, size // 4), dtype=bool)
    allowed[20:40, 20:40] = False
    stego, _ = embed_plane(
        cover,
        allowed,
        ~allowed,
        plane.phases,
        plane.slots,
        coefficients,
        profile.step,
        profile.votes,
        (0, 4095),
    )
    return cover, stego, symbol


def reader(pixels: NDArray[np.int32], profile: Profile, key: bytes = KEY) -> Reader:
    dither = dither_plane(key, pixels.shape[0] // 4, pixels.shape[1] // 4)
    return Reader(measure_plane(pixels, profile.step), dither, profile)


@pytest.mark.parametrize("profile", [FAINT, DEFAULT, ROBUST], ids=lambda p: p.name)
def test_reads_every_module_without_mask_or_length(profile: Profile) -> None:
    _, stego, symbol = embedded(profile)
    votes = reader(stego, profile).find()
    assert votes is not None
    assert votes.version == (len(symbol) - 17) // 4
    assert np.mean(votes.symbol() != symbol) < 0.003


@pytest.mark.parametrize("version_bytes", [20, 60, 200, 420])
def test_finds_the_version(version_bytes: int) -> None:
    _, stego, symbol = embedded(DEFAULT, frame_bytes=version_bytes, size=384)
    votes = reader(stego, DEFAULT).find()
    assert votes is not None and np.array_equal(votes.symbol(), symbol)


@pytest.mark.parametrize("level", ROBUST.levels)
def test_finds_the_level(level: ErrorCorrection) -> None:
    _, stego, symbol = embedded(ROBUST, level=level, size=384)
    votes = reader(stego, ROBUST).find()
    assert votes is not None and votes.level is level and np.array_equal(votes.symbol(), symbol)


def with_noise(
    stego: NDArray[np.int32], coefficients: list[int], seed: int = 7
) -> NDArray[np.int32]:
    """The image with some coefficients of every block at random."""
    noise = np.zeros((*(side // 4 for side in stego.shape), 16))
    noise[..., coefficients] = np.random.default_rng(7).normal(
        0, 1000, (*noise.shape[:2], len(coefficients))
    )
    spoilt: NDArray[np.int32] = np.rint(stego + from_blocks(inverse(noise))).astype(np.int32)
    return spoilt


@pytest.mark.parametrize("turns", [True, False])
def test_turns_give_every_module_votes_from_coefficients_that_a_codec_spares(turns: bool) -> None:
    profile = replace(ROBUST, step=256.0, turns=turns)
    _, stego, symbol = embedded(profile, size=384)
    votes = reader(with_noise(stego, [3, 6, 9, 12]), profile).find()
    assert votes is not None
    wrong = np.mean(votes.symbol() != symbol)
    assert wrong < 0.03 if turns else wrong > 0.1


def test_finds_the_variant() -> None:
    _, stego, symbol = embedded(DEFAULT, variant=2)
    votes = reader(stego, DEFAULT).find()
    assert votes is not None and votes.variant == 2 and np.array_equal(votes.symbol(), symbol)


def test_finds_nothing_in_a_cover() -> None:
    cover, _, _ = embedded(DEFAULT)
    assert reader(cover, DEFAULT).find() is None


def test_finds_nothing_with_another_key() -> None:
    _, stego, _ = embedded(DEFAULT)
    assert reader(stego, DEFAULT, dither_key(b"x" * 32)).find() is None


def test_a_lost_quarter_of_the_image_costs_votes_and_shifts_nothing() -> None:
    _, stego, symbol = embedded(DEFAULT, size=384)
    stego[:96] = 0
    votes = reader(stego, DEFAULT).find()
    assert votes is not None and symbols.read(votes.symbol()) == symbols.read(symbol)


def test_robust_reads_through_noise_that_drowns_the_lattice_of_default() -> None:
    profile = ROBUST.for_span(2400)
    _, stego, symbol = embedded(profile, size=384)
    noisy = np.rint(stego + np.random.default_rng(3).normal(0, 40, stego.shape)).astype(np.int32)
    votes = reader(noisy, profile).find()
    assert votes is not None and read_votes(votes) == symbols.read(symbol)


def test_neighbours_tell_carriers_where_a_block_alone_cannot() -> None:
    """Six noisy coefficients say little of one block; what lies together in the air says more."""
    profile = replace(ROBUST, step=64.0, votes=1 << 14)
    _, stego, _ = embedded(profile, size=384)
    noisy = np.rint(stego + np.random.default_rng(3).normal(0, 9, stego.shape)).astype(np.int32)
    weight = reader(noisy, profile).weight
    assert weight[24:36, 24:36].mean() < 0.3
    assert weight[44:].mean() > 0.8


def test_each_coefficient_has_the_noise_that_it_met() -> None:
    profile = replace(ROBUST, step=64.0, votes=1 << 14)
    _, stego, _ = embedded(profile, size=384)
    noise = np.zeros((96, 96, 16))
    noise[..., 5] = np.random.default_rng(5).normal(0, 14, (96, 96))
    noise[..., :5] = np.random.default_rng(6).normal(0, 8, (96, 96, 5))
    noisy = np.rint(stego + from_blocks(inverse(noise))).astype(np.int32)
    dither = dither_plane(KEY, 96, 96)
    turned = (measure_plane(noisy, profile.step) + dither).reshape(-1, 16)[
        :, list(profile.coefficients)
    ]
    found = estimate_carriers(turned, (96, 96), profile.step, profile.alpha)
    assert found.sigma[profile.coefficients.index(5)] == pytest.approx(14 / 64, rel=0.2)
    assert found.sigma[0] == pytest.approx(8 / 64, rel=0.2)


def test_the_mean_of_a_neighbourhood_is_that_of_the_values_there_are() -> None:
    plane = np.arange(30, dtype=np.float32).reshape(5, 6)
    found = neighbourhood_mean(plane, 1)
    assert found[0, 0] == plane[:2, :2].mean()
    assert found[2, 3] == plane[1:4, 2:5].mean()
    assert found[4, 2] == plane[3:, 1:4].mean()
