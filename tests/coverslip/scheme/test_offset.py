from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from coverslip.qr import symbol as symbols
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.offset import find_offset
from coverslip.scheme.phases import phase_plane
from coverslip.scheme.profiles import DEFAULT, ROBUST, Profile
from coverslip.scheme.quantise import embed_plane
from coverslip.scheme.reader import Reader
from coverslip.scheme.reference import measure_plane

KEY = dither_key(b"c" * 32)


def embedded(profile: Profile) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    rng = np.random.default_rng(4)
    cover = rng.normal(40, 12, (320, 400)).clip(0, 4095).astype(np.int32)
    symbol = symbols.draw(rng.bytes(120), profile.levels[0])
    plane = phase_plane(symbol, dither_plane(KEY, 80, 100), profile)
    coefficients = np.zeros(16, dtype=np.float32)
    coefficients[list(profile.coefficients)] = 1
    allowed = np.ones((80, 100), dtype=bool)
    allowed[30:50, 30:70] = False
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
    return stego, symbol


@pytest.mark.parametrize(
    ("profile", "top", "left", "rows", "cols"),
    [
        (DEFAULT, 1, 0, 319, 399),
        (DEFAULT, 13, 22, 290, 370),  # three votes survive the loss of a sixth of the image
        (ROBUST, 0, 0, 250, 301),
        (ROBUST, 37, 90, 250, 301),  # every carrier votes: four tenths may go
        (ROBUST, 62, 3, 250, 301),
    ],
)
def test_finds_the_place_of_what_was_cut_out_and_reads_it(
    profile: Profile, top: int, left: int, rows: int, cols: int
) -> None:
    stego, symbol = embedded(profile)
    cut = stego[top : top + rows, left : left + cols]
    offset = find_offset(cut, KEY, profile.step, profile.coefficients, farthest=64)
    assert offset is not None
    (down, right), (row, col) = offset.align, offset.blocks
    assert (4 * row - down, 4 * col - right) == (top, left)
    aligned = cut[down:, right:]
    phases = measure_plane(aligned, profile.step)
    rows, cols = phases.shape[:2]
    dither = dither_plane(KEY, row + rows, col + cols)[row:, col:]
    votes = Reader(phases, dither, profile, origin=(row, col)).find()
    assert votes is not None
    assert symbols.read(votes.symbol()) == symbols.read(symbol)


def test_finds_nothing_where_nothing_is() -> None:
    noise = np.random.default_rng(1).normal(40, 12, (200, 200)).astype(np.int32)
    assert find_offset(noise, KEY, 8.0, DEFAULT.coefficients, farthest=64) is None
