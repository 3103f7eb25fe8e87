"""The LiteRT engine: the released .tflite on `ai-edge-litert`, or on `tflite-runtime` where that is what the console has."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from coverslip.batch import one_by_one
from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ModelKind, find_model

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
            raise EngineError(f"{path} is not a model that {name.split('.')[0]} can run: {error}") from error
    raise EngineError("no LiteRT runtime is installed: pip install ai-edge-litert, or tflite-runtime on Python 3.11 and older")


class LiteRtEngine(SignatureEngine):
    """Runs the released .tflite; see `coverslip.engine.Engine`.

    Images go through one by one: memory stays that of one image, the runtime's plan for an image size is made once, and the bytes
    do not depend on the batch. One engine may be shared by threads; they take turns.

    Parameters
    ----------
    path : Path or str, optional
        The .tflite; the released one if None.
    threads : int
        Threads for the heavy operations. The result does not depend on it.
    runtimes : tuple of str
        Modules to look for an ``Interpreter`` in, in this order.
    """

    name = "litert"

    def __init__(self, path: Path | str | None = None, threads: int = 2, runtimes: tuple[str, ...] = RUNTIMES) -> None:
        self._path = None if path is None else Path(path)
        self._threads = threads
        self._runtimes = runtimes
        self._interpreter: Any = None
        self._runners: dict[str, Any] = {}
        self._turn = threading.Lock()

    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._turn:
            runner = self._runner(signature)
            try:
                return one_by_one(lambda image: runner(**image), inputs)
            except (ValueError, RuntimeError) as error:
                raise EngineError(f"LiteRT could not {signature} {inputs['pixels'].shape}: {error}") from error

    def _runner(self, signature: str) -> Any:
        if self._interpreter is None:
            path = find_model(ModelKind.LITERT) if self._path is None else self._path
            self._interpreter = load_interpreter(path, self._threads, self._runtimes)
        if signature not in self._runners:
            try:
                self._runners[signature] = self._interpreter.get_signature_runner(signature)
            except ValueError as error:
                raise EngineError(f"the model has no signature {signature}: it is not a Coverslip model") from error
        return self._runners[signature]
