"""A stand-in for TensorFlow Serving: its gRPC API over a SavedModel, for tests and for places
without containers.

It speaks Predict, GetModelMetadata, GetModelStatus and HandleReloadConfigRequest as TensorFlow
Serving does, with its version policies, version labels and status codes. It does not batch, has no
REST port and is not tuned; TensorFlow Serving is for production.
"""

from __future__ import annotations

import os
import threading
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    status_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from coverslip_serving.ssl_config import parsed

_LARGEST_MESSAGE = (1 << 31) - 1
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE


class RefusedError(Exception):
    """A request cannot be answered.

    Parameters
    ----------
    code : grpc.StatusCode
    message : str
    """

    def __init__(self, code: Any, message: str) -> None:
        super().__init__(message)
        self.code = code


def _refused(name: str, message: str) -> RefusedError:
    return RefusedError(grpc.StatusCode[name], message)


class Version:
    """One loaded SavedModel.

    Parameters
    ----------
    folder : Path
        Holds saved_model.pb.
    """

    def __init__(self, folder: Path) -> None:
        self._model = tf.saved_model.load(str(folder))
        parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions = dict(parsed.meta_graphs[0].signature_def)
        self._warm_up(folder / "assets.extra" / "tf_serving_warmup_requests")

    def _warm_up(self, path: Path) -> None:
        """Answer the model's own warm-up requests, so that the first caller does not wait for what
        is done once.
        """
        if not path.is_file():
            return
        for line in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(line).predict_log.request
            self.predict(request.model_spec.signature_name, request.inputs)

    def predict(self, signature: str, inputs: Any) -> dict[str, Any]:
        """Outputs by name of TensorProtos by name.

        Raises
        ------
        RefusedError
            Names, types or shapes are not the signature's, or the graph fails on the values.
        """
        if signature not in self.definitions:
            raise _refused(
                "FAILED_PRECONDITION",
                f'Serving signature name: "{signature}" not found in signature def',
            )
        expected = self.definitions[signature].inputs
        if set(inputs) != set(expected):
            raise _refused(
                "INVALID_ARGUMENT",
                f"input must be alias to {sorted(expected)}; got {sorted(inputs)}",
            )
        tensors = {name: self._tensor(name, inputs[name], expected[name]) for name in expected}
        try:
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.OpError as error:
            raise _refused("INVALID_ARGUMENT", str(error.message).splitlines()[0]) from None
        return {name: tf.make_tensor_proto(value.numpy()) for name, value in outputs.items()}

    @staticmethod
    def _tensor(name: str, given: Any, expected: Any) -> Any:
        if given.dtype != expected.dtype:
            wanted, got = (
                tf.as_dtype(expected.dtype).name,
                tf.as_dtype(given.dtype).name if given.dtype else "nothing",
            )
            raise _refused("INVALID_ARGUMENT", f"{name} is {got}: expected {wanted}")
        shape = tf.TensorShape(expected.tensor_shape)
        if not shape.is_compatible_with(tf.TensorShape(given.tensor_shape)):
            raise _refused(
                "INVALID_ARGUMENT",
                f"{name} has shape {tf.TensorShape(given.tensor_shape)}: expected {shape}",
            )
        try:
            return tf.constant(tf.make_ndarray(given))
        except (ValueError, TypeError):
            raise _refused(
                "INVALID_ARGUMENT", f"the values of {name} do not fill its shape"
            ) from None


@dataclass(frozen=True)
class Served:
    """A model with its loaded versions.

    Attributes
    ----------
    versions : dict of int to Version
    labels : dict of str to int
    """

    versions: dict[int, Version]
    labels: dict[str, int]

    def choose(self, spec: Any) -> int:
        """The version that a ModelSpec asks for.

        Raises
        ------
        RefusedError
        """
        kind = spec.WhichOneof("version_choice")
        if kind == "version_label":
            if spec.version_label not in self.labels:
                raise _refused(
                    "INVALID_ARGUMENT", f"Unrecognized servable version label: {spec.version_label}"
                )
            return self.labels[spec.version_label]
        number = spec.version.value if kind == "version" else max(self.versions)
        if number not in self.versions:
            raise _refused(
                "NOT_FOUND", f"Servable not found for request: Specific({spec.name}, {number})"
            )
        return int(number)


def _wanted(config: Any, there: list[int]) -> list[int]:
    """Versions that a model's policy asks for."""
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return there
    if kind == "specific":
        return sorted(policy.specific.versions)
    return there[-(policy.latest.num_versions or 1) :]


class Models:
    """Every model that is served; a new configuration takes the place of the old one at once, or
    not at all.
    """

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._folders: dict[tuple[str, int], Version] = {}
        self._loading = threading.Lock()

    def configure(self, config: Any) -> None:
        """Serve what a ModelServerConfig says.

        Raises
        ------
        RefusedError
            A model, a version or the version of a label is not there; what was served before goes
            on.
        """
        with self._loading:
            loaded: dict[tuple[str, int], Version] = {}
            served = {
                item.name: self._load(item, loaded) for item in config.model_config_list.config
            }
            self._served, self._folders = served, loaded

    def _load(self, config: Any, loaded: dict[tuple[str, int], Version]) -> Served:
        base = Path(config.base_path)
        there = sorted(
            int(pb.parent.name) for pb in base.glob("*/saved_model.pb") if pb.parent.name.isdigit()
        )
        wanted = _wanted(config, there)
        if not wanted or not set(wanted) <= set(there):
            raise _refused(
                "FAILED_PRECONDITION",
                f"{config.name}: versions {wanted} were asked for and {there} are there",
            )
        for number in wanted:
            key = (str(base), number)
            loaded[key] = self._folders.get(key) or Version(base / str(number))
        labels = dict(config.version_labels)
        if missing := {label for label, number in labels.items() if number not in wanted}:
            raise _refused(
                "FAILED_PRECONDITION",
                f"{config.name}: labels {sorted(missing)} name versions that are not loaded",
            )
        return Served({number: loaded[(str(base), number)] for number in wanted}, labels)

    def find(self, spec: Any) -> tuple[Served, int]:
        """The model and version that a ModelSpec asks for.

        Raises
        ------
        RefusedError
        """
        served = self._served.get(spec.name)
        if served is None:
            raise _refused("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
        return served, served.choose(spec)

    def statuses(self, spec: Any) -> list[int]:
        """Loaded versions that a ModelSpec is about: all of the model's where it names none."""
        served, number = self.find(spec)
        return [number] if spec.WhichOneof("version_choice") else sorted(served.versions)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's PredictionService; Classify, Regress and MultiInference stay
    unimplemented.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: Any) -> Any:
        """Run a signature."""
        try:
            served, number = self._models.find(request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            outputs = served.versions[number].predict(signature, request.inputs)
        except RefusedError as error:
            context.abort(error.code, str(error))
        response = predict_pb2.PredictResponse(outputs=outputs)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.model_spec.signature_name = signature
        return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Describe the signatures."""
        try:
            if list(request.metadata_field) != ["signature_def"]:
                raise _refused("INVALID_ARGUMENT", "Metadata field must be signature_def")
            served, number = self._models.find(request.model_spec)
        except RefusedError as error:
            context.abort(error.code, str(error))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        table = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in served.versions[number].definitions.items():
            table.signature_def[name].CopyFrom(
                meta_graph_pb2.SignatureDef.FromString(definition.SerializeToString())
            )
        response.metadata["signature_def"].Pack(table)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """TensorFlow Serving's ModelService."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Which versions are loaded."""
        try:
            numbers = self._models.statuses(request.model_spec)
        except RefusedError as error:
            context.abort(error.code, str(error))
        states = [
            get_model_status_pb2.ModelVersionStatus(
                version=number, state=_AVAILABLE, status=status_pb2.StatusProto()
            )
            for number in reversed(numbers)
        ]
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=states)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        """Serve what a new configuration says."""
        try:
            self._models.configure(request.config)
        except RefusedError as error:
            context.abort(error.code, str(error))
        return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())


def config_of(folder: Path, name: str = "coverslip", label: str = "stable") -> Any:
    """A configuration for one model: its latest version, under a label."""
    there = [int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()]
    config = model_server_config_pb2.ModelServerConfig()
    item = config.model_config_list.config.add(
        name=name, base_path=str(folder), model_platform="tensorflow"
    )
    if there:
        item.version_labels[label] = max(there)
    return config


def read_config(path: Path) -> Any:
    """A ``models.config`` in protobuf's text format.

    Raises
    ------
    ValueError
        It is none.
    """
    return parsed(path, model_server_config_pb2.ModelServerConfig())


def build(config: Any, address: str, workers: int = 8, credentials: Any = None) -> tuple[Any, int]:
    """Load the models and make a server, not yet started.

    Parameters
    ----------
    config : ModelServerConfig
    address : str
        ``host:port``; port 0 for any.
    workers : int
        Calls at the same time.
    credentials : grpc.ServerCredentials, optional
        Plain text where absent.

    Returns
    -------
    server : grpc.Server
    port : int

    Raises
    ------
    RefusedError
        The configuration names what is not there.
    """
    models = Models()
    models.configure(config)
    options = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(workers), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), server)
    port = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    return server, port
