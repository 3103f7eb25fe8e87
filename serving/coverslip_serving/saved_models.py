"""SavedModels with versions and labels, as TensorFlow Serving loads and runs them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import model_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2


class RefusedError(Exception):
    """A request cannot be answered.

    Parameters
    ----------
    status : grpc.StatusCode
    message : str
        TensorFlow Serving's own wording where it has one.
    """

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


class LoadedModel:
    """One version of a model in memory.

    Parameters
    ----------
    folder : Path
        Holds saved_model.pb.
    """

    def __init__(self, folder: Path) -> None:
        self._model = tf.saved_model.load(str(folder))
        parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.definitions: dict[str, meta_graph_pb2.SignatureDef] = dict(
            parsed.meta_graphs[0].signature_def
        )
        self._warm_up(folder / "assets.extra" / "tf_serving_warmup_requests")

    def _warm_up(self, path: Path) -> None:
        """Run the model's own warm-up requests, so that the first caller need not wait longer."""
        if not path.is_file():
            return
        for line in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(line).predict_log.request
            self.predict(request.model_spec.signature_name, request.inputs)

    def predict(
        self, signature: str, inputs: Mapping[str, tensor_pb2.TensorProto]
    ) -> dict[str, tensor_pb2.TensorProto]:
        """Run a signature.

        Parameters
        ----------
        signature : str
        inputs : mapping of str to TensorProto

        Returns
        -------
        dict of str to TensorProto

        Raises
        ------
        RefusedError
            Names, types or shapes are not the signature's, or the graph fails on the values.
        """
        if signature not in self.definitions:
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature name: "{signature}" not found in signature def',
            )
        expected = self.definitions[signature].inputs
        if set(inputs) != set(expected):
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input must be alias to {sorted(expected)}; got {sorted(inputs)}",
            )
        tensors = {name: _to_tensor(name, inputs[name], expected[name]) for name in expected}
        try:
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.OpError as error:
            raise RefusedError(
                grpc.StatusCode.INVALID_ARGUMENT, str(error.message).splitlines()[0]
            ) from None
        return {name: tf.make_tensor_proto(value.numpy()) for name, value in outputs.items()}


def _to_tensor(
    name: str, proto: tensor_pb2.TensorProto, expected: meta_graph_pb2.TensorInfo
) -> tf.Tensor:
    """An input as a tensor, if its type and shape are the signature's."""
    if proto.dtype != expected.dtype:
        wanted = tf.as_dtype(expected.dtype).name
        actual = tf.as_dtype(proto.dtype).name if proto.dtype else "nothing"
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT, f"{name} is {actual}: expected {wanted}"
        )
    shape = tf.TensorShape(expected.tensor_shape)
    if not shape.is_compatible_with(tf.TensorShape(proto.tensor_shape)):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{name} has shape {tf.TensorShape(proto.tensor_shape)}: expected {shape}",
        )
    try:
        return tf.constant(tf.make_ndarray(proto))
    except (ValueError, TypeError):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT, f"the values of {name} do not fill its shape"
        ) from None


@dataclass(frozen=True)
class ServedModel:
    """A model with its loaded versions.

    Attributes
    ----------
    versions : dict of int to LoadedModel
    labels : dict of str to int
        Version by label.
    """

    versions: dict[int, LoadedModel]
    labels: dict[str, int]

    def choose_version(self, spec: model_pb2.ModelSpec) -> int:
        """The version that a ModelSpec asks for; the latest if it names none.

        Raises
        ------
        RefusedError
        """
        kind = spec.WhichOneof("version_choice")
        if kind == "version_label":
            if spec.version_label not in self.labels:
                raise RefusedError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            return self.labels[spec.version_label]
        number = spec.version.value if kind == "version" else max(self.versions)
        if number not in self.versions:
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND,
                f"Servable not found for request: Specific({spec.name}, {number})",
            )
        return int(number)


class Models:
    """Every model that is served. A new configuration replaces the old one as a whole, or not."""

    def __init__(self) -> None:
        self._served: dict[str, ServedModel] = {}
        self._loaded: dict[tuple[str, int], LoadedModel] = {}
        self._lock = threading.Lock()

    def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serve the models of a configuration.

        Raises
        ------
        RefusedError
            It names a model, or a version, that does not exist. The old configuration stays.
        """
        with self._lock:
            loaded: dict[tuple[str, int], LoadedModel] = {}
            served = {
                item.name: self._load(item, loaded) for item in config.model_config_list.config
            }
            self._served, self._loaded = served, loaded

    def _load(
        self,
        config: model_server_config_pb2.ModelConfig,
        loaded: dict[tuple[str, int], LoadedModel],
    ) -> ServedModel:
        """One model of a configuration; its versions are added to ``loaded``."""
        base = Path(config.base_path)
        existing = existing_versions(base)
        wanted = _wanted_versions(config, existing)
        if not wanted or not set(wanted) <= set(existing):
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{config.name}: versions {wanted} were asked for and {existing} exist",
            )
        for number in wanted:
            key = (str(base), number)
            loaded[key] = self._loaded.get(key) or LoadedModel(base / str(number))
        labels = dict(config.version_labels)
        if missing := {label for label, number in labels.items() if number not in wanted}:
            raise RefusedError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{config.name}: labels {sorted(missing)} name versions that are not loaded",
            )
        return ServedModel({number: loaded[(str(base), number)] for number in wanted}, labels)

    def find(self, spec: model_pb2.ModelSpec) -> tuple[ServedModel, int]:
        """The model and version that a ModelSpec asks for.

        Raises
        ------
        RefusedError
        """
        served = self._served.get(spec.name)
        if served is None:
            raise RefusedError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})"
            )
        return served, served.choose_version(spec)

    def loaded_versions(self, spec: model_pb2.ModelSpec) -> list[int]:
        """Loaded versions that a ModelSpec is about: all of the model's if it names none.

        Raises
        ------
        RefusedError
        """
        served, number = self.find(spec)
        return [number] if spec.WhichOneof("version_choice") else sorted(served.versions)


def existing_versions(folder: Path) -> list[int]:
    """Numbers of the versions in a model's folder."""
    files = folder.glob("*/saved_model.pb")
    return sorted(int(file.parent.name) for file in files if file.parent.name.isdigit())


def _wanted_versions(config: model_server_config_pb2.ModelConfig, existing: list[int]) -> list[int]:
    """Versions that a model's policy asks for."""
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return existing
    if kind == "specific":
        return sorted(policy.specific.versions)
    return existing[-(policy.latest.num_versions or 1) :]
