import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coverslip import metrics
from coverslip.pipeline.frame_reports import Tally, changed_outside


@given(st.integers(4, 23), st.integers(4, 23), st.integers(0, 2**31))
def test_pixels_that_change_are_counted_by_where_they_lie(height, width, seed):
    random = np.random.default_rng(seed)
    cover = random.integers(0, 4, (height, width), dtype=np.int32)
    stego = random.integers(0, 4, (height, width), dtype=np.int32)
    carriers = random.random((height // 4, width // 4)) < 0.5
    inside = np.zeros((height, width), dtype=bool)
    for row, col in np.argwhere(carriers):
        inside[4 * row : 4 * row + 4, 4 * col : 4 * col + 4] = True
    assert changed_outside(cover, stego, carriers) == np.count_nonzero((cover != stego) & ~inside)


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_a_tally_of_frames_is_that_of_all_of_them_at_once(frames, seed):
    random = np.random.default_rng(seed)
    cover = random.integers(-(2**15), 2**15, (frames, 12, 16), dtype=np.int32)
    stego = np.where(
        random.random(cover.shape) < 0.3,
        random.integers(-(2**15), 2**15, cover.shape, dtype=np.int32),
        cover,
    )
    tally, carriers = Tally(), np.ones((3, 4), dtype=bool)
    for before, after in zip(cover, stego, strict=True):
        tally.add(before[np.newaxis], after[np.newaxis], [carriers])
    assert tally.changed == np.count_nonzero(cover != stego)
    assert tally.outside == 0
    np.testing.assert_allclose(
        list(vars(tally.psnr((-(2**15), 2**15 - 1))).values()),
        list(vars(metrics.psnr_three(cover, stego, (-(2**15), 2**15 - 1))).values()),
    )
