"""Runs a LiteRT runtime in a process of its own.

In one process with TensorFlow, tflite-runtime uses TensorFlow's kernels, which have the same names
and are newer. Its own behaviour on a console shows only in a process without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverslip.engine import Embedded, EmbedRequest, Measured, Segmented
from coverslip_edge.engine import LiteRtEngine

_engines: list[LiteRtEngine] = []
"""The engine of a worker process; empty in the main process."""


def _start(runtime: str, threads: int) -> None:
    _engines.append(LiteRtEngine(threads=threads, runtimes=(runtime,)))


def _call(name: str, arguments: Sequence[Any]) -> Any:
    return getattr(_engines[0], name)(*arguments)


class ApartEngine:
    """A `LiteRtEngine` in another process; see `coverslip.engine.Engine`. Errors are passed on.

    Parameters
    ----------
    runtime : str
        Module of the runtime, one of `coverslip_edge.engine.RUNTIMES`.
    threads : int
    """

    name = "litert"

    def __init__(self, runtime: str, threads: int = 2) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_start, initargs=(runtime, threads)
        )

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body."""
        segmented: Segmented = self._pool.submit(_call, "segment", (pixels,)).result()
        return segmented

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane."""
        embedded: Embedded = self._pool.submit(_call, "embed", (request,)).result()
        return embedded

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure phases."""
        measured: Measured = self._pool.submit(_call, "extract", (pixels, step)).result()
        return measured
