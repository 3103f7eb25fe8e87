from __future__ import annotations

import numpy as np

from coverslip.scheme.dither import dither_key, dither_plane

KNOWN_FIRST_ROW = [18, 184, 172, 65, 124, 43, 67, 77]
KNOWN_SECOND_ROW = [11, 233, 140, 160, 43, 238, 115, 34]


def test_known_answer() -> None:
    # HKDF-SHA256 and ChaCha20 of the cryptography library over the invented key 00 01 .. 1f; a
    # change here orphans every archive.
    plane = dither_plane(dither_key(bytes(range(32))), 2, 2)
    assert plane.reshape(-1)[:8].tolist() == KNOWN_FIRST_ROW
    assert plane[1].reshape(-1)[:8].tolist() == KNOWN_SECOND_ROW


def test_a_position_has_the_same_dither_in_an_image_of_any_size() -> None:
    key = dither_key(bytes(32))
    assert np.array_equal(dither_plane(key, 7, 9), dither_plane(key, 20, 30)[:7, :9])


def test_two_recipients_share_nothing() -> None:
    one, other = (dither_plane(dither_key(bytes([b]) * 32), 64, 64) for b in (1, 2))
    assert abs(np.mean(one == other) - 1 / 256) < 0.002


def test_every_value_is_as_likely_as_any_other() -> None:
    counts = np.bincount(dither_plane(dither_key(bytes(32)), 128, 128).reshape(-1), minlength=256)
    assert abs(counts - counts.mean()).max() < 6 * np.sqrt(counts.mean())
