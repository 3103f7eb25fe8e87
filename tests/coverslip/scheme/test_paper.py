from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.metrics import PAPER_PEAK, mse, psnr
from coverslip.scheme import paper
from coverslip.scheme.profiles import PAPER


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([10.0, 100.0, 1000.0]), st.sampled_from([0.02, 0.25])
)
def test_equation_9_undoes_equation_7(seed: int, beta: float, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    coefficients = rng.uniform(-4, 4, (50, 16))
    message = np.where(rng.random((50, 16)) < 0.5, alpha, 1 - alpha)
    moved = paper.quantise(coefficients, message, beta)
    assert np.allclose(paper.dequantise(moved, beta), message, atol=1e-6)
    assert np.abs(moved - coefficients).max() <= 4 / beta


def scene(seed: int = 0) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    plane = rng.normal(40, 10, (256, 256)).clip(0).astype(np.int32)
    mask = np.zeros((256, 256), dtype=np.uint8)
    mask[64:192, 64:192] = 1
    plane[mask > 0] += 2000
    return plane, mask, rng.random((49, 49)) < 0.5


def test_the_message_comes_back_before_rounding_and_not_after() -> None:
    plane, mask, symbol = scene()
    profile = PAPER.with_beta(1000, int(plane.max() - plane.min()))
    done = paper.embed_paper(plane, mask, symbol, profile, (0, 4095))
    exact = paper.extract_normalised(done.exact, mask, 49, 1000)
    assert np.array_equal(exact, symbol)
    rounded = paper.extract_paper(done.stego, mask, 49, profile)
    assert 0.2 < np.mean(rounded != symbol) < 0.5


def test_psnr_is_what_the_paper_prints_for_its_betas() -> None:
    plane, mask, symbol = scene()
    span = int(plane.max() - plane.min())
    low, high = int(plane.min()), int(plane.max())
    figures = []
    for beta in (10, 100, 1000):
        done = paper.embed_paper(plane, mask, symbol, PAPER.with_beta(beta, span), (0, 4095))
        figures.append(psnr(mse(paper.normalise(plane, low, high), done.exact), PAPER_PEAK))
    # Ten times beta is 20 dB and a little more: Table 4 of the paper has 20.9 and 20.1 on its CT.
    assert np.allclose(np.diff(figures), 20.5, atol=1.0)


def test_only_insignificant_blocks_change() -> None:
    plane, mask, symbol = scene()
    done = paper.embed_paper(plane, mask, symbol, PAPER, (0, 4095))
    assert np.array_equal(done.stego[mask > 0], plane[mask > 0])
