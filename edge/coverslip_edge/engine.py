"""The LiteRT engine: runs the released .tflite on `ai-edge-litert` or `tflite-runtime`."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ModelKind, find_model
from coverslip.parallel import CONCURRENT_IMAGES, ImageRunner, run_image_by_image

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
"""Modules with an ``Interpreter`` class, the preferred one first."""


class Interpreter(Protocol):
    """The part of a runtime's interpreter that is used here."""

    def get_signature_runner(self, name: str) -> Callable[..., dict[str, NDArray[Any]]]:
        """Return a function that takes the inputs by name; raises ValueError for another name."""
        ...


def load_interpreter(path: Path, threads: int, runtimes: tuple[str, ...] = RUNTIMES) -> Interpreter:
    """Load a model in the first runtime that is installed.

    Raises
    ------
    EngineError
        No runtime is installed, or the runtime cannot load the file.
    ModelMissingError
        The file does not exist.
    """
    if not path.is_file():
        raise ModelMissingError(f"there is no model at {path}: give the path of a coverslip.tflite")
    for name in runtimes:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        try:
            interpreter: Interpreter = module.Interpreter(model_path=str(path), num_threads=threads)
            return interpreter
        except (ValueError, RuntimeError) as error:
            raise EngineError(
                f"{path} is not a model that {name.split('.')[0]} can run: {error}"
            ) from error
    raise EngineError(
        "no LiteRT runtime is installed: pip install ai-edge-litert, or tflite-runtime on Python "
        "3.11 and older"
    )


class _Worker:
    """An interpreter with the signature runners that have been used."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._runners: dict[str, Callable[..., dict[str, NDArray[Any]]]] = {}

    def runner(self, signature: str) -> ImageRunner:
        """Return a function that runs a signature on one image; raises EngineError if missing."""
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

    Every image is run on its own: the runtime plans its memory once for each image size, and the
    result does not depend on the batch. A single image gets all threads. Of several images, each
    thread runs one, which is faster and takes the memory of that many images. The caller's threads
    may share an engine; they take turns.

    Parameters
    ----------
    path : Path or str, optional
        The .tflite; the released one if None.
    threads : int
        Total number of threads, at least 1. The result does not depend on it.
    runtimes : tuple of str
        Modules to try for an ``Interpreter``, in this order.
    """

    name = "litert"

    def __init__(
        self, path: Path | str | None = None, threads: int = 2, runtimes: tuple[str, ...] = RUNTIMES
    ) -> None:
        self._path = None if path is None else Path(path)
        self._threads = threads
        self._runtimes = runtimes
        self._workers: dict[bool, list[_Worker]] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path | str | None, threads: int | None) -> LiteRtEngine:
        """Make an engine for `coverslip.engine.open_engine`."""
        return cls(path, threads or CONCURRENT_IMAGES)

    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self._lock:
            workers = self._load_workers(alone=len(inputs["pixels"]) == 1 or self._threads == 1)
            try:
                return run_image_by_image([worker.runner(signature) for worker in workers], inputs)
            except (ValueError, RuntimeError) as error:
                raise EngineError(
                    f"LiteRT could not {signature} {inputs['pixels'].shape}: {error}"
                ) from error

    def _load_workers(self, alone: bool) -> list[_Worker]:
        """Load one interpreter with all threads, or one for each thread, when first needed."""
        if alone not in self._workers:
            path = find_model(ModelKind.LITERT) if self._path is None else self._path
            count, threads = (1, self._threads) if alone else (self._threads, 1)
            self._workers[alone] = [
                _Worker(load_interpreter(path, threads, self._runtimes)) for _ in range(count)
            ]
        return self._workers[alone]
