"""The LiteRT engine: the released .tflite on `ai-edge-litert`, or on `tflite-runtime` where that is
what the console has.
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ModelKind, find_model
from coverslip.parallel import CONCURRENT_IMAGES, ImageRunner, run_image_by_image

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""Modules that hold an ``Interpreter``, the preferred one first."""


def load_interpreter(path: Path, threads: int, runtimes: tuple[str, ...] = RUNTIMES) -> Any:
    """An interpreter of the first runtime that is installed.

    Raises
    ------
    EngineError
        No runtime is installed, or the file is no model of ours.
    ModelMissingError
        There is no such file.
    """
    if not path.is_file():
        raise ModelMissingError(f"there is no model at {path}: give the path of a coverslip.tflite")
    for name in runtimes:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            return module.Interpreter(model_path=str(path), num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise EngineError(
                f"{path} is not a model that {name.split('.')[0]} can run: {error}"
            ) from error
    raise EngineError(
        "no LiteRT runtime is installed: pip install ai-edge-litert, or tflite-runtime on Python "
        "3.11 and older"
    )


class _Lane:
    """An interpreter, and its signatures once they were asked for."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._runners: dict[str, Any] = {}

    def run(self, signature: str) -> ImageRunner:
        """What runs a signature on one image; raises EngineError where there is none of that
        name.
        """
        if signature not in self._runners:
            try:
                self._runners[signature] = self._interpreter.get_signature_runner(signature)
            except ValueError as error:
                raise EngineError(
                    f"the model has no signature {signature}: it is not a Coverslip model"
                ) from error
        runner = self._runners[signature]
        return lambda image: runner(**image)


class LiteRtEngine(SignatureEngine):
    """Runs the released .tflite; see `coverslip.engine.Engine`.

    Images go through one by one: the runtime's plan for an image size is made once, and the bytes
    do not depend on the batch. A single image has all threads for its heavy operations; of several,
    each thread has one of its own, which is faster and takes the memory of so many images. One
    engine may be shared by threads of the caller; they take turns.

    Parameters
    ----------
    path : Path or str, optional
        The .tflite; the released one if None.
    threads : int
        Threads in all, at least 1. The result does not depend on it.
    runtimes : tuple of str
        Modules to look for an ``Interpreter`` in, in this order.
    """

    name = "litert"

    def __init__(
        self, path: Path | str | None = None, threads: int = 2, runtimes: tuple[str, ...] = RUNTIMES
    ) -> None:
        self._path = None if path is None else Path(path)
        self._threads = threads
        self._runtimes = runtimes
        self._lanes: dict[bool, list[_Lane]] = {}
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: Path | str | None, threads: int | None) -> LiteRtEngine:
        """For `coverslip.engine.open_engine`."""
        return cls(path, threads or CONCURRENT_IMAGES)

    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._turn:
            lanes = self._prepared(alone=len(inputs["pixels"]) == 1 or self._threads == 1)
            try:
                return run_image_by_image([lane.run(signature) for lane in lanes], inputs)
            except (ValueError, RuntimeError) as error:
                raise EngineError(
                    f"LiteRT could not {signature} {inputs['pixels'].shape}: {error}"
                ) from error

    def _prepared(self, alone: bool) -> list[_Lane]:
        """One interpreter with all threads, or one for each; loaded when first needed."""
        if alone not in self._lanes:
            path = find_model(ModelKind.LITERT) if self._path is None else self._path
            count, threads = (1, self._threads) if alone else (self._threads, 1)
            self._lanes[alone] = [
                _Lane(load_interpreter(path, threads, self._runtimes)) for _ in range(count)
            ]
        return self._lanes[alone]
