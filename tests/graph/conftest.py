"""A small model, exported once: the whole graph, with a network that outlines bright pixels."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.engine import EmbedRequest, Engine
from coverslip_edge.engine import RUNTIMES, LiteRtEngine, load_interpreter
from coverslip_graph import export
from coverslip_graph.engine import TensorFlowEngine

Run = Callable[[EmbedRequest], dict[str, NDArray[Any]]]
"""Runs the embed signature on a request."""


class Bright(tf.Module):
    """Outlines pixels above the middle of the image's range and 40 above its darkest pixel."""

    def __init__(self) -> None:
        super().__init__(name="bright")
        self.share = tf.Variable(0.5, trainable=False, name="share")

    def segment(self, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return mask and score as `coverslip_graph.network.Network.segment` does."""
        plane = tf.cast(pixels, tf.float32)
        low = tf.reduce_min(plane, axis=[1, 2], keepdims=True)
        high = tf.reduce_max(plane, axis=[1, 2], keepdims=True)
        mask = plane > tf.maximum(low + 40.0, low + (high - low) * self.share)
        return tf.cast(mask, tf.uint8), tf.cast(tf.reduce_any(mask, axis=[1, 2]), tf.float32)


def outline_bright(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Outline one plane [H, W] as `Bright` does, in numpy."""
    low, high = int(pixels.min()), int(pixels.max())
    return (pixels > max(low + 40, low + (high - low) * 0.5)).astype(np.uint8)


@pytest.fixture(scope="session")
def bright() -> Bright:
    return Bright()


@pytest.fixture(scope="session")
def released(bright: Bright, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    export.export(bright, folder, 7, "weights' digest")
    return folder


@pytest.fixture(scope="session")
def tensorflow_engine(released: Path) -> TensorFlowEngine:
    return TensorFlowEngine(released / "coverslip")


@pytest.fixture(scope="session", params=RUNTIMES)
def litert_engine(released: Path, request: pytest.FixtureRequest) -> LiteRtEngine:
    pytest.importorskip(request.param)
    return LiteRtEngine(released / "coverslip.tflite", runtimes=(request.param,))


@pytest.fixture(scope="session", params=["tensorflow", *RUNTIMES])
def engine(
    released: Path, tensorflow_engine: TensorFlowEngine, request: pytest.FixtureRequest
) -> Engine:
    """The engine of every installed runtime."""
    if request.param == "tensorflow":
        return tensorflow_engine
    pytest.importorskip(request.param)
    return LiteRtEngine(released / "coverslip.tflite", runtimes=(request.param,))


@pytest.fixture(scope="session")
def runners(released: Path) -> list[Run]:
    """The embed signature of every installed runtime, run on whole batches."""
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    signature = saved.signatures["embed"]

    def tensorflow(wanted: EmbedRequest, _keep: object = saved) -> dict[str, NDArray[Any]]:
        outputs = signature(**{name: tf.constant(value) for name, value in vars(wanted).items()})
        return {name: value.numpy() for name, value in outputs.items()}

    def litert(runtime: str) -> Run:
        runner = load_interpreter(
            released / "coverslip.tflite", 2, (runtime,)
        ).get_signature_runner("embed")
        return lambda wanted: runner(**vars(wanted))

    return [
        tensorflow,
        *(litert(name) for name in RUNTIMES if importlib.util.find_spec(name.split(".")[0])),
    ]
