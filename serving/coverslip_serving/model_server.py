"""A stand-in for TensorFlow Serving: its gRPC API over a SavedModel.

It is for tests and for places without containers. It has Predict, GetModelMetadata, GetModelStatus
and HandleReloadConfigRequest, with TensorFlow Serving's version policies, version labels and status
codes. It does not batch, has no REST port and is not tuned. For production, use TensorFlow Serving.
"""

from __future__ import annotations

import os
from concurrent import futures
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    status_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from coverslip_serving.saved_models import Models, RefusedError, existing_versions
from coverslip_serving.ssl_config import parse_text

_LARGEST_MESSAGE = (1 << 31) - 1
_AVAILABLE = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """TensorFlow Serving's PredictionService without Classify, Regress and MultiInference.

    Parameters
    ----------
    models : Models
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Run a signature."""
        try:
            served, number = self._models.find(request.model_spec)
            signature = request.model_spec.signature_name or "serving_default"
            outputs = served.versions[number].predict(signature, request.inputs)
        except RefusedError as error:
            context.abort(error.status, str(error))
        response = predict_pb2.PredictResponse(outputs=outputs)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = number
        response.model_spec.signature_name = signature
        return response

    def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describe the signatures."""
        try:
            if list(request.metadata_field) != ["signature_def"]:
                raise RefusedError(
                    grpc.StatusCode.INVALID_ARGUMENT, "Metadata field must be signature_def"
                )
            served, number = self._models.find(request.model_spec)
        except RefusedError as error:
            context.abort(error.status, str(error))
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
    """TensorFlow Serving's ModelService.

    Parameters
    ----------
    models : Models
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """List the loaded versions."""
        try:
            numbers = self._models.loaded_versions(request.model_spec)
        except RefusedError as error:
            context.abort(error.status, str(error))
        states = [
            get_model_status_pb2.ModelVersionStatus(
                version=number, state=_AVAILABLE, status=status_pb2.StatusProto()
            )
            for number in reversed(numbers)
        ]
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=states)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serve a new configuration."""
        try:
            self._models.configure(request.config)
        except RefusedError as error:
            context.abort(error.status, str(error))
        return model_management_pb2.ReloadConfigResponse(status=status_pb2.StatusProto())


def config_of(
    folder: Path, name: str = "coverslip", label: str = "stable"
) -> model_server_config_pb2.ModelServerConfig:
    """A configuration for one model: its latest version, under a label."""
    existing = existing_versions(folder)
    config = model_server_config_pb2.ModelServerConfig()
    item = config.model_config_list.config.add(
        name=name, base_path=str(folder), model_platform="tensorflow"
    )
    if existing:
        item.version_labels[label] = max(existing)
    return config


def read_config(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """A ``models.config`` in protobuf's text format.

    Raises
    ------
    ValueError
        The file does not have that form.
    """
    return parse_text(path, model_server_config_pb2.ModelServerConfig())


def build(
    config: model_server_config_pb2.ModelServerConfig,
    address: str,
    workers: int = 8,
    credentials: grpc.ServerCredentials | None = None,
) -> tuple[grpc.Server, int]:
    """Load the models and make a server, which is not started yet.

    Parameters
    ----------
    config : ModelServerConfig
    address : str
        ``host:port``; port 0 for any.
    workers : int
        Calls at the same time.
    credentials : grpc.ServerCredentials, optional
        Plain text if absent.

    Returns
    -------
    server : grpc.Server
    port : int

    Raises
    ------
    RefusedError
        The configuration names a model or a version that does not exist.
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
