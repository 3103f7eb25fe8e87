"""A LiteRT runtime in a process of its own.

Beside TensorFlow in one process, tflite-runtime takes TensorFlow's kernels for its own, which are
of the same names and newer: what it does by itself, on a console, only a process without TensorFlow
tells.
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
"""The engine of this process, where it is such a one."""


def _start(runtime: str, threads: int) -> None:
    _engines.append(LiteRtEngine(threads=threads, runtimes=(runtime,)))


def _call(name: str, arguments: Sequence[Any]) -> Any:
    return getattr(_engines[0], name)(*arguments)


class ApartEngine:
    """See `coverslip.engine.Engine`; errors of the engine come through.

    Parameters
    ----------
    runtime : str
        Module of the runtime.
    threads : int
    """

    name = "litert"

    def __init__(self, runtime: str, threads: int = 2) -> None:
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_start, initargs=(runtime, threads)
        )

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body."""
        found: Segmented = self._pool.submit(_call, "segment", (pixels,)).result()
        return found

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane."""
        done: Embedded = self._pool.submit(_call, "embed", (request,)).result()
        return done

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure phases."""
        measured: Measured = self._pool.submit(_call, "extract", (pixels, step)).result()
        return measured
