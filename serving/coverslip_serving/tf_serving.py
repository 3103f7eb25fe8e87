"""TensorFlow Serving as an engine.

Only pixels and phases go to it, and stego pixels, outlines and phases come back.
"""

from __future__ import annotations

import time
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError
from coverslip.parallel import run_image_by_image
from coverslip_serving import deadline
from coverslip_serving._stubs.predict_pb2 import ModelSpec, PredictRequest, PredictResponse
from coverslip_serving.credentials import Credentials
from coverslip_serving.errors import EngineDeadlineError, EngineUnavailableError
from coverslip_serving.resending import pauses
from coverslip_serving.tensors import to_array, to_tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_LARGEST_MESSAGE = (1 << 31) - 1
"""gRPC's own default is 4 MiB, which one 1024 x 1024 image exceeds."""
_OUTPUTS: dict[str, dict[str, type[np.generic]]] = {
    "segment": {"mask": np.uint8, "score": np.float32},
    "embed": {"stego": np.int32, "mask": np.uint8, "carriers": np.uint8},
    "extract": {"phases": np.uint8, "mask": np.uint8},
}


class TfServingEngine(SignatureEngine):
    """Asks a model server; see `coverslip.engine.Engine`. Threads share one channel.

    Each call takes one image: results do not depend on a batch, and the server merges calls if it
    is configured to.

    Parameters
    ----------
    target : str
        ``host:port`` of the model server's gRPC port.
    label : str
        Version label to ask for; the latest version if empty.
    model : str
        Name of the model on the server.
    timeout : float
        Seconds for one image, with every attempt. The caller's deadline may shorten it.
    tls : Credentials, optional
        Plain text if absent.

    Raises
    ------
    CredentialsError
        The certificates cannot be used.
    """

    name = "tf-serving"

    def __init__(
        self,
        target: str,
        label: str = "stable",
        model: str = "coverslip",
        timeout: float = 30.0,
        tls: Credentials | None = None,
    ) -> None:
        self._target = target
        self._spec = ModelSpec(name=model)
        if label:
            self._spec.version_label = label
        self._timeout = timeout
        self._channel = _open_channel(target, tls)
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        self.version = 0
        """Version that answered last; 0 before any did."""
        self.retries = 0
        """Attempts after the first, over all calls."""

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _run(self, signature: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return run_image_by_image([lambda image: self._ask(signature, image)], inputs)

    def _ask(self, signature: str, image: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        request = PredictRequest(
            model_spec=self._spec,
            inputs={name: to_tensor(values) for name, values in image.items()},
        )
        request.model_spec.signature_name = signature
        response = self._call(request)
        self.version = response.model_spec.version.value
        return _check_outputs(signature, response, image["pixels"].shape)

    def _seconds_left(self, until: float) -> float:
        caller = deadline.current()
        if caller is not None:
            caller.check()
            return min(until - time.monotonic(), caller.remaining())
        return until - time.monotonic()

    def _call(self, request: PredictRequest) -> PredictResponse:
        """One answer; an unavailable server is asked again until the time is up."""
        until = time.monotonic() + self._timeout
        was_unavailable = False
        for pause in pauses():
            try:
                response: PredictResponse = self._predict(
                    request, timeout=max(self._seconds_left(until), 0.001)
                )
            except grpc.RpcError as error:
                left = self._seconds_left(until)
                if error.code() is not grpc.StatusCode.UNAVAILABLE or left <= pause:
                    raise self._engine_error(error, was_unavailable) from None
                was_unavailable = True
                time.sleep(pause)
                self.retries += 1
            else:
                return response
        raise AssertionError("pauses never end")

    def _engine_error(self, error: grpc.RpcError, was_unavailable: bool) -> EngineError:
        """The error for a call that failed for good.

        A deadline that passed after the server ``was_unavailable`` counts as unavailability. What
        the server says holds shapes and names, never pixels.
        """
        status, details = error.code(), error.details()
        if status is grpc.StatusCode.DEADLINE_EXCEEDED and not was_unavailable:
            return EngineDeadlineError(
                f"the model server did not answer within {self._timeout:g} s: allow more time, "
                "or give it more cores"
            )
        if was_unavailable or status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
            return EngineUnavailableError(
                f"the model server at {self._target} gave no answer for model {self._spec.name} "
                f"({status.name}: {details}): check that it runs and has loaded the version label"
            )
        return EngineError(
            f"the model server refused the call ({status.name}: {details}): check that model and "
            "gateway belong together"
        )


def _open_channel(target: str, tls: Credentials | None) -> grpc.Channel:
    options = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A host name may have several addresses, one model server behind each: use them all.
        ("grpc.lb_policy_name", "round_robin"),
        # Calls are resent here, where the deadline and the log are.
        ("grpc.enable_retries", 0),
    ]
    if tls is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, tls.for_channel(), options)


def _check_outputs(
    signature: str, response: PredictResponse, shape: tuple[int, ...]
) -> dict[str, NDArray[Any]]:
    """The answer's arrays, if they keep the contract: a wrong model must not reach an archive.

    Raises
    ------
    EngineError
    """
    images, height, width = shape
    blocks = (images, height // 4, width // 4)
    shapes = {"score": (images,), "carriers": blocks, "phases": (*blocks, 16)}
    outputs = {}
    for name, dtype in _OUTPUTS[signature].items():
        if name not in response.outputs:
            raise EngineError(
                f"the model server's answer to {signature} has no {name}: check that model and "
                "gateway belong together"
            )
        values = to_array(response.outputs[name])
        expected = shapes.get(name, shape)
        if values.dtype != dtype or values.shape != expected:
            raise EngineError(
                f"the model server's {name} is {values.dtype} {list(values.shape)}: expected "
                f"{np.dtype(dtype)} {list(expected)}"
            )
        outputs[name] = values
    return outputs
