"""TensorFlow Serving as an engine: pixels and phases go out, stego pixels and phases come back;
nothing else crosses.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from coverslip.engine import SignatureEngine
from coverslip.errors import EngineError
from coverslip.parallel import run_image_by_image
from coverslip_serving import deadline
from coverslip_serving._stubs.predict_pb2 import ModelSpec, PredictRequest, PredictResponse
from coverslip_serving.errors import EngineDeadlineError, EngineUnavailableError
from coverslip_serving.tensors import to_array, to_tensor

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_LARGEST_MESSAGE = (1 << 31) - 1
"""gRPC's own default is 4 MiB, which one 1024 x 1024 image exceeds."""
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 2.0
_OUTPUTS: dict[str, dict[str, Any]] = {
    "segment": {"mask": np.uint8, "score": np.float32},
    "embed": {"stego": np.int32, "mask": np.uint8, "carriers": np.uint8},
    "extract": {"phases": np.uint8, "mask": np.uint8},
}


@dataclass(frozen=True)
class TlsFiles:
    """Certificates for the way to the model server.

    Attributes
    ----------
    roots : Path
        Certificates of who may have signed the server's, PEM.
    certificate, key : Path or None
        Our own, where the server asks for one.
    """

    roots: Path
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> Any:
        """As gRPC wants them."""
        key = None if self.key is None else self.key.read_bytes()
        chain = None if self.certificate is None else self.certificate.read_bytes()
        return grpc.ssl_channel_credentials(self.roots.read_bytes(), key, chain)


class TfServingEngine(SignatureEngine):
    """Asks a model server; see `coverslip.engine.Engine`. One channel, shared by threads.

    Images go out one a call: bytes do not depend on the batch, and the server merges calls if it is
    told to.

    Parameters
    ----------
    target : str
        ``host:port`` of the model server's gRPC port.
    label : str
        Version label to ask for; empty for the latest version.
    model : str
        The model's name there.
    timeout : float
        Seconds that one image may take, retries included; the deadline of the call that is worked
        for may shorten it.
    tls : TlsFiles, optional
        Plain text where absent.
    """

    name = "tf-serving"

    def __init__(
        self,
        target: str,
        label: str = "stable",
        model: str = "coverslip",
        timeout: float = 30.0,
        tls: TlsFiles | None = None,
    ) -> None:
        self._target = target
        self._spec = ModelSpec(name=model)
        if label:
            self._spec.version_label = label
        self._timeout = timeout
        options = [
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # Every address that the name has is used: one model server behind each.
            ("grpc.lb_policy_name", "round_robin"),
            # Retries are done here, where the deadline and the log are.
            ("grpc.enable_retries", 0),
        ]
        if tls is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), options)
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        self.version = 0
        """Version that answered last; 0 before any did."""
        self.retries = 0
        """Calls that were sent again."""

    def close(self) -> None:
        """Give the connection up."""
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
        return _checked(signature, response, image["pixels"].shape)

    def _time_left(self, until: float) -> float:
        working_for = deadline.current()
        if working_for is not None:
            working_for.check()
            return min(until - time.monotonic(), working_for.remaining())
        return until - time.monotonic()

    def _call(self, request: PredictRequest) -> PredictResponse:
        """One answer; a server that is away is asked again until the time is up."""
        until = time.monotonic() + self._timeout
        wait = _FIRST_WAIT
        away = False
        while True:
            try:
                response: PredictResponse = self._predict(
                    request, timeout=max(self._time_left(until), 0.001)
                )
            except grpc.RpcError as error:
                left = self._time_left(until)
                # Full jitter, so that the callers of a server that comes back do not all ask at
                # once.
                pause = random.uniform(wait / 2, wait)  # noqa: S311 - jitter
                if error.code() is not grpc.StatusCode.UNAVAILABLE or left <= pause:
                    raise self._told(error, away) from None
                away = True
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT)
                self.retries += 1
            else:
                return response

    def _told(self, error: Any, away: bool) -> EngineError:
        """The error for a call that failed for good. What the server says holds shapes and names,
        never pixels.

        Where the server was ``away`` in between, that is the reason why the time did not suffice.
        """
        status, said = error.code(), error.details()
        if status is grpc.StatusCode.DEADLINE_EXCEEDED and not away:
            return EngineDeadlineError(
                f"the model server did not answer within {self._timeout:g} s: allow more time, "
                "or give it more cores"
            )
        if away or status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
            return EngineUnavailableError(
                f"the model server at {self._target} gave no answer for model {self._spec.name} "
                f"({status.name}: {said}): check that it "
                "runs and has the version label loaded"
            )
        return EngineError(
            f"the model server refused the call ({status.name}: {said}): check that model and "
            "gateway belong together"
        )


def _checked(
    signature: str, response: PredictResponse, shape: tuple[int, ...]
) -> dict[str, NDArray[Any]]:
    """The answer's arrays, held against the contract: a wrong model must not reach an archive."""
    images, height, width = shape
    blocks = (images, height // 4, width // 4)
    shapes = {"score": (images,), "carriers": blocks, "phases": (*blocks, 16)}
    answer = {}
    for name, kind in _OUTPUTS[signature].items():
        if name not in response.outputs:
            raise EngineError(
                f"the model server's answer to {signature} has no {name}: check that model and "
                "gateway belong together"
            )
        values = to_array(response.outputs[name])
        expected = shapes.get(name, shape)
        if values.dtype != kind or values.shape != expected:
            raise EngineError(
                f"the model server's {name} is {values.dtype} {list(values.shape)}: expected "
                f"{np.dtype(kind)} {list(expected)}"
            )
        answer[name] = values
    return answer
