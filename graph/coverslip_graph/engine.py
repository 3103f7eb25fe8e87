"""The TensorFlow engine: runs the released SavedModel in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ModelKind, find_model, latest_version
from coverslip.parallel import CONCURRENT_IMAGES, run_image_by_image

SIGNATURES = ("segment", "embed", "extract")


class _SavedModel(Protocol):
    """The part of a loaded SavedModel that is used here."""

    signatures: Mapping[str, Callable[..., dict[str, Any]]]


class TensorFlowEngine(SignatureEngine):
    """Runs the released SavedModel; see `coverslip.engine.Engine`.

    TensorFlow is imported on the first call. Every image is run on its own,
    `coverslip.parallel.CONCURRENT_IMAGES` of them at the same time, so the result does not depend
    on the batch.

    Parameters
    ----------
    path : Path or str, optional
        Folder of a SavedModel, or of numbered versions, of which the highest is used; the released
        model if None.
    """

    name = "tensorflow"

    def __init__(self, path: Path | str | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._model: _SavedModel | None = None

    @classmethod
    def open(cls, path: Path | str | None, threads: int | None) -> TensorFlowEngine:
        """Make an engine for `coverslip.engine.open_engine`; TensorFlow chooses its own threads."""
        del threads
        return cls(path)

    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        model = self._load()
        import tensorflow as tf

        function = model.signatures[signature]

        def run(image: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            outputs = function(**{name: tf.constant(values) for name, values in image.items()})
            return {name: value.numpy() for name, value in outputs.items()}

        try:
            return run_image_by_image([run] * CONCURRENT_IMAGES, inputs)
        except tf.errors.OpError as error:
            raise EngineError(
                f"TensorFlow could not {signature} {inputs['pixels'].shape}: {error.message}"
            ) from error

    def _load(self) -> _SavedModel:
        if self._model is None:
            path = find_model(ModelKind.TENSORFLOW) if self._path is None else self._path
            if not (path / "saved_model.pb").is_file():
                path = latest_version(path) or path
            if not (path / "saved_model.pb").is_file():
                raise ModelMissingError(
                    f"there is no SavedModel in {path}: give the folder that holds saved_model.pb"
                )
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            import tensorflow as tf

            model: _SavedModel = tf.saved_model.load(str(path))
            if missing := set(SIGNATURES) - set(model.signatures):
                raise EngineError(
                    f"the model in {path} has no signature {', '.join(sorted(missing))}"
                )
            self._model = model
        return self._model
