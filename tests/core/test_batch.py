import numpy as np
import pytest

from coverslip.batch import one_by_one
from coverslip.errors import EngineError


def test_images_are_run_alone_and_put_together():
    seen = []

    def run(image):
        seen.append({name: values.shape for name, values in image.items()})
        return {"sum": image["pixels"].sum(axis=(1, 2)) * image["step"]}

    pixels = np.arange(3 * 4 * 5, dtype=np.int32).reshape(3, 4, 5)
    step = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(one_by_one(run, {"pixels": pixels, "step": step})["sum"], pixels.sum(axis=(1, 2)) * step)
    assert seen == [{"pixels": (1, 4, 5), "step": (1,)}] * 3


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.int32), np.zeros((1, 4, 4), np.int64), np.zeros((0, 4, 4), np.int32), np.zeros((1, 3, 9), np.int32)],
)
def test_what_is_no_batch_of_images_is_refused(pixels):
    with pytest.raises(EngineError, match="at least 4 x 4"):
        one_by_one(dict, {"pixels": pixels})


def test_an_input_that_misses_an_image_is_named():
    with pytest.raises(EngineError, match="step"):
        one_by_one(dict, {"pixels": np.zeros((2, 4, 4), np.int32), "step": np.ones(1, np.float32)})
