from __future__ import annotations

import numpy as np
import pytest

from coverslip import metrics


def test_psnr_conventions_differ_by_their_peaks() -> None:
    rng = np.random.default_rng(0)
    cover = rng.integers(0, 4096, (64, 64))
    cover[0, :2] = 0, 4095
    stego = cover + rng.integers(-1, 2, cover.shape)
    three = metrics.psnr_three(cover, stego, (0, 4095))
    assert three.sixteen_bit - three.stored == pytest.approx(20 * np.log10(65535 / 4095))
    # The paper's convention is 48.13 dB above the standard one when the image fills its range
    # (design, section 1).
    assert three.paper - three.stored == pytest.approx(48.13, abs=0.01)


def test_every_printed_psnr_has_its_peak() -> None:
    assert metrics.format_psnr(metrics.Psnr(60.84, 84.93, 109.0)) == (
        "PSNR 60.8 dB (peak of the stored bits), 84.9 dB (peak 65535), "
        "109.0 dB (the paper's convention)"
    )


def test_psnr_of_equal_images_is_infinite() -> None:
    assert metrics.psnr_three(np.zeros((4, 4)), np.zeros((4, 4)), (0, 255)).stored == float("inf")


def test_ncc_and_iou_at_their_ends() -> None:
    mask = np.zeros((10, 10))
    mask[:5] = 1
    assert metrics.ncc(mask, mask) == pytest.approx(1) and metrics.ncc(
        mask, 1 - mask
    ) == pytest.approx(-1)
    assert metrics.iou(mask, mask) == 1 and metrics.iou(mask, 1 - mask) == 0
    assert metrics.ncc(mask * 0, mask * 0) == 1 and metrics.iou(mask * 0, mask * 0) == 1


@pytest.mark.parametrize(("bits", "bound"), [(8126, 121.8), (800, 133.2)])
def test_ternary_bound_is_the_one_of_the_design(bits: int, bound: float) -> None:
    assert metrics.ternary_bound(bits, 512 * 512) == pytest.approx(bound, abs=0.06)
