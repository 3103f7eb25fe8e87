from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import fft

from coverslip.scheme import dct

planes = hnp.arrays(
    np.int32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(-32768, 65535)
)


def test_basis_is_orthonormal() -> None:
    assert np.allclose(dct.BASIS @ dct.BASIS.T, np.eye(16), atol=1e-14)


@given(hnp.arrays(np.int32, (3, 16), elements=st.integers(-32768, 65535)))
def test_forward_is_scipys_orthonormal_dct(blocks: NDArray[np.int32]) -> None:
    expected = fft.dctn(blocks.reshape(3, 4, 4).astype(float), axes=(1, 2), norm="ortho").reshape(
        3, 16
    )
    assert np.allclose(dct.forward(blocks), expected, atol=1e-8)


@given(hnp.arrays(np.int32, (2, 3, 16), elements=st.integers(-32768, 65535)))
def test_inverse_undoes_forward(blocks: NDArray[np.int32]) -> None:
    assert np.array_equal(np.rint(dct.inverse(dct.forward(blocks))), blocks)


@given(planes)
def test_blocks_come_back_as_the_plane_without_its_odd_edges(plane: NDArray[np.int32]) -> None:
    rows, cols = (side // 4 * 4 for side in plane.shape)
    assert np.array_equal(dct.from_blocks(dct.to_blocks(plane)), plane[:rows, :cols])
