from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from coverslip.errors import EngineError
from coverslip.parallel import map_concurrently, run_image_by_image

Image = Mapping[str, NDArray[Any]]


def test_images_are_run_alone_and_put_together() -> None:
    seen = []

    def run(image: Image) -> Image:
        seen.append({name: values.shape for name, values in image.items()})
        return {"sum": image["pixels"].sum(axis=(1, 2)) * image["step"]}

    pixels = np.arange(3 * 4 * 5, dtype=np.int32).reshape(3, 4, 5)
    step = np.array([1, 2, 3], np.float32)
    np.testing.assert_array_equal(
        run_image_by_image([run], {"pixels": pixels, "step": step})["sum"],
        pixels.sum(axis=(1, 2)) * step,
    )
    assert seen == [{"pixels": (1, 4, 5), "step": (1,)}] * 3


def test_lanes_run_at_the_same_time_and_keep_the_images_in_order() -> None:
    both = threading.Barrier(2, timeout=20)

    def lane(image: Image) -> Image:
        both.wait()
        return {"first": image["pixels"][:, 0, 0]}

    pixels = np.arange(6, dtype=np.int32)[:, np.newaxis, np.newaxis] * np.ones((1, 4, 4), np.int32)
    np.testing.assert_array_equal(
        run_image_by_image([lane, lane], {"pixels": pixels})["first"], np.arange(6)
    )


def test_a_lane_that_fails_fails_the_batch() -> None:
    def lane(image: Image) -> Image:
        if image["pixels"][0, 0, 0] == 1:
            raise EngineError("broken")
        return {"first": image["pixels"][:, 0, 0]}

    pixels = np.arange(5, dtype=np.int32)[:, np.newaxis, np.newaxis] * np.ones((1, 4, 4), np.int32)
    with pytest.raises(EngineError, match="broken"):
        run_image_by_image([lane, lane], {"pixels": pixels})


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.int32),
        np.zeros((1, 4, 4), np.int64),
        np.zeros((0, 4, 4), np.int32),
        np.zeros((1, 3, 9), np.int32),
    ],
)
def test_anything_but_a_batch_of_images_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(EngineError, match="at least 4 x 4"):
        run_image_by_image([dict], {"pixels": pixels})


def test_an_input_that_misses_an_image_is_named() -> None:
    with pytest.raises(EngineError, match="step"):
        run_image_by_image(
            [dict], {"pixels": np.zeros((2, 4, 4), np.int32), "step": np.ones(1, np.float32)}
        )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order(threads: int) -> None:
    assert map_concurrently(lambda number: number * number, 7, threads) == [0, 1, 4, 9, 16, 25, 36]


def test_one_failure_fails_the_whole() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise EngineError("broken")
        return number

    with pytest.raises(EngineError, match="broken"):
        map_concurrently(work, 5, 2)
