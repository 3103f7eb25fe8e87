import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from coverslip.scheme import dct
from coverslip_graph import blocks


def test_the_basis_is_the_references() -> None:
    np.testing.assert_allclose(blocks.basis(), dct.BASIS, atol=1e-12)


def test_forward_is_tf_signal_dct_along_both_axes() -> None:
    random = np.random.default_rng(1)
    block = random.normal(0, 100, (1, 3, 5, 16)).astype(np.float32)
    square = tf.reshape(block, [1, 3, 5, 4, 4])
    rows = tf.signal.dct(square, norm="ortho")
    both = tf.transpose(
        tf.signal.dct(tf.transpose(rows, [0, 1, 2, 4, 3]), norm="ortho"), [0, 1, 2, 4, 3]
    )
    np.testing.assert_allclose(
        blocks.forward(block), tf.reshape(both, [1, 3, 5, 16]), rtol=1e-4, atol=1e-3
    )


def test_forward_is_scipys_dctn() -> None:
    block = np.random.default_rng(2).normal(0, 100, (1, 1, 1, 16)).astype(np.float32)
    expected = fft.dctn(block.reshape(4, 4).astype(np.float64), norm="ortho")
    np.testing.assert_allclose(
        np.reshape(blocks.forward(block), (4, 4)), expected, rtol=1e-4, atol=1e-3
    )


def test_inverse_undoes_forward() -> None:
    block = np.random.default_rng(3).normal(0, 100, (2, 3, 4, 16)).astype(np.float32)
    np.testing.assert_allclose(blocks.inverse(blocks.forward(block)), block, atol=1e-3)


@given(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40))
@settings(max_examples=30, deadline=None)
def test_blocks_are_cut_and_laid_back_without_change_and_edges_are_zero(
    batch: int, height: int, width: int
) -> None:
    planes = np.random.default_rng(height).integers(-32768, 65536, (batch, height, width))
    cut = blocks.to_blocks(tf.constant(planes, tf.float32))
    for index in range(batch):
        np.testing.assert_array_equal(cut[index], dct.to_blocks(planes[index]))
    back = blocks.from_blocks(cut, tf.constant(planes.shape)).numpy()
    full = (slice(None), slice(height // 4 * 4), slice(width // 4 * 4))
    np.testing.assert_array_equal(back[full], planes[full])
    assert back.shape == planes.shape
    back[full] = 0
    assert not back.any()


def test_the_basis_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        blocks.basis()[0, 0] = 1
