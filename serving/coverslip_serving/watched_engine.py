"""An engine that stops working for callers who are gone or late, and whose calls are timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from coverslip.engine import Embedded, EmbedRequest, Engine, Measured, Segmented
from coverslip_serving import deadline

Observe: TypeAlias = Callable[[str, float], None]
"""Takes the signature of an engine call and its seconds."""
_Output = TypeVar("_Output")


class WatchedEngine:
    """Looks at the deadline before each call of an engine, and takes the call's time.

    Parameters
    ----------
    engine : Engine
    observe : callable
        Called with each signature and its seconds.
    """

    def __init__(self, engine: Engine, observe: Observe) -> None:
        self._engine = engine
        self._observe = observe
        self.name = engine.name

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline the body in pixels int32 [B, H, W]."""
        return self._timed("segment", lambda: self._engine.segment(pixels))

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane into each image."""
        return self._timed("embed", lambda: self._engine.embed(request))

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure the phases of pixels int32 [B, H, W] at step float32 [B]."""
        return self._timed("extract", lambda: self._engine.extract(pixels, step))

    def _timed(self, signature: str, run: Callable[[], _Output]) -> _Output:
        caller = deadline.current()
        if caller is not None:
            caller.check()
        started = time.monotonic()
        try:
            return run()
        finally:
            self._observe(signature, time.monotonic() - started)
