"""Batches split and joined again, for engines that process one image at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from coverslip.errors import EngineError
from coverslip.scheme.dct import SIDE

Result = TypeVar("Result")

CONCURRENT_IMAGES = 2
"""Default number of images processed at the same time: one image's single-threaded parts run beside
the other's.
"""

Arrays = Mapping[str, NDArray[Any]]

ImageRunner = Callable[[dict[str, NDArray[Any]]], Arrays]
"""Takes the inputs of one image [1, ...] by name, returns its outputs [1, ...] by name."""


def run_image_by_image(lanes: Sequence[ImageRunner], inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run a batch one image at a time.

    Memory stays that of one image for each lane, and the outputs cannot depend on the batch.

    Parameters
    ----------
    lanes : sequence of ImageRunner
        As many as may run at the same time; each image goes to a free one.
    inputs : mapping
        Arrays of the same first dimension B by name; ``pixels`` is int32 [B, H, W] among them.

    Returns
    -------
    dict
        Outputs [B, ...] by name.

    Raises
    ------
    EngineError
        The inputs are not a batch of images of at least one block each.
    """
    pixels = inputs["pixels"]
    if (
        pixels.ndim != 3
        or pixels.dtype != np.int32
        or not len(pixels)
        or min(pixels.shape[1:]) < SIDE
    ):
        raise EngineError(
            f"pixels are {pixels.dtype} {list(pixels.shape)}: give int32 [B, H, W] with at least "
            f"one image of at least {SIDE} x {SIDE}"
        )
    if odd := [name for name, values in inputs.items() if len(values) != len(pixels)]:
        raise EngineError(
            f"{', '.join(odd)} must have one entry for each of the {len(pixels)} images"
        )
    images = [
        {name: values[index : index + 1] for name, values in inputs.items()}
        for index in range(len(pixels))
    ]
    if len(images) == 1:
        return dict(lanes[0](images[0]))
    return _in_lanes(lanes, images)


def _in_lanes(
    lanes: Sequence[ImageRunner], images: Sequence[dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    # Each image's outputs are copied into place by its lane: joining them all afterwards would keep
    # every lane waiting.
    outputs: dict[str, NDArray[Any]] = {}
    allocating = threading.Lock()
    free: SimpleQueue[ImageRunner] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(index: int) -> None:
        lane = free.get()
        try:
            image = lane(images[index])
        finally:
            free.put(lane)
        with allocating:
            if not outputs:
                outputs.update(
                    {
                        name: np.empty((len(images), *values.shape[1:]), values.dtype)
                        for name, values in image.items()
                    }
                )
        for name, values in image.items():
            outputs[name][index] = values[0]

    map_concurrently(run, len(images), len(lanes))
    return outputs


def map_concurrently(work: Callable[[int], Result], count: int, threads: int) -> list[Result]:
    """The results of ``work(0)`` to ``work(count - 1)``, in order, computed in some threads."""
    if min(count, threads) < 2:
        return [work(number) for number in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(count)))
