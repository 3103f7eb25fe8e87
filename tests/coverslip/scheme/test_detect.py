from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverslip.scheme import detect


@given(
    st.integers(1, 16),
    st.integers(1, 700),
    st.sampled_from([0.004, 0.036, 0.25]),
    st.integers(0, 2**31),
)
def test_the_evidence_of_a_block_is_the_sum_over_its_phases(
    count: int, blocks: int, sigma: float, seed: int
) -> None:
    turned = np.random.default_rng(seed).integers(0, 256, (blocks, count), dtype=np.uint8)
    zero, one = (values.astype(np.float64) for values in detect.densities(sigma, 0.25, 1e-6))
    expected = np.log((zero + one) / 2)[turned].sum(axis=1)
    np.testing.assert_allclose(
        detect._evidence(turned, sigma, 0.25, 1e-6), expected, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_the_share_of_carriers_is_found_from_the_evidence(share: float) -> None:
    random = np.random.default_rng(5)
    carries = random.random(20_000) < share
    evidence = np.where(
        carries, random.normal(20, 6, carries.size), random.normal(-40, 9, carries.size)
    ).astype(np.float32)
    likelihood, weight = detect._fit_share(evidence)
    assert abs(weight.mean() - carries.mean()) < 0.005
    odds = share / (1 - share)
    assert likelihood == pytest.approx(
        np.sum(np.logaddexp(0, evidence + np.log(odds)) - np.log1p(odds)), rel=0.01
    )


def test_evidence_beyond_any_float_is_borne() -> None:
    likelihood, weight = detect._fit_share(np.array([-3e4, 3e4, 0], np.float32))
    assert np.isfinite(likelihood)
    assert weight[0] < 1e-6 < 1 - 1e-6 < weight[1]
