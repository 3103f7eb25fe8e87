"""Batches taken apart and put together, for engines that work image by image."""

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

Made = TypeVar("Made")

AT_ONCE = 2
"""Images that are worked on at the same time where nobody says how many: what waits for one core in
one is done beside the other's.
"""

Arrays = Mapping[str, NDArray[Any]]

Run = Callable[[dict[str, NDArray[Any]]], Arrays]
"""Takes inputs of one image [1, ...] by name, gives its outputs [1, ...] by name."""


def one_by_one(lanes: Sequence[Run], inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run a batch image by image: memory stays that of one image a lane, and the bytes cannot
    depend on the batch.

    Parameters
    ----------
    lanes : sequence of Run
        What runs an image, as many as may run at the same time; an image goes to the one that is
        free.
    inputs : mapping
        Arrays of the same first dimension B by name; ``pixels`` is int32 [B, H, W] among them.

    Returns
    -------
    dict
        Outputs [B, ...] by name.

    Raises
    ------
    EngineError
        The inputs are no batch of images that holds a block.
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
    lanes: Sequence[Run], images: Sequence[dict[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Outputs are put in their place as they come: joining them all afterwards would keep every
    lane waiting.
    """
    outputs: dict[str, NDArray[Any]] = {}
    making = threading.Lock()
    free: SimpleQueue[Run] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(index: int) -> None:
        lane = free.get()
        try:
            image = lane(images[index])
        finally:
            free.put(lane)
        with making:
            if not outputs:
                outputs.update(
                    {
                        name: np.empty((len(images), *values.shape[1:]), values.dtype)
                        for name, values in image.items()
                    }
                )
        for name, values in image.items():
            outputs[name][index] = values[0]

    side_by_side(run, len(images), len(lanes))
    return outputs


def side_by_side(work: Callable[[int], Made], count: int, threads: int) -> list[Made]:
    """What some work makes of the numbers 0 to ``count - 1``, in their order; ``threads`` of them
    at a time.
    """
    if min(count, threads) < 2:
        return [work(number) for number in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, range(count)))
