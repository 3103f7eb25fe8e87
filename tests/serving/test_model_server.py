from __future__ import annotations

import shutil

import grpc
import numpy as np
import pytest

from coverslip.models import ModelKind, find_model

pytest.importorskip("tensorflow_serving")

import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from coverslip_serving.model_server import build, config_of

pytestmark = pytest.mark.slow
"""These tests start servers."""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "coverslip"
    for number in (1, 2):
        shutil.copytree(find_model(ModelKind.TENSORFLOW), folder / str(number))
    server, port = build(config_of(folder), "127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1)])
    yield (
        prediction_service_pb2_grpc.PredictionServiceStub(channel),
        model_service_pb2_grpc.ModelServiceStub(channel),
        folder,
    )
    channel.close()
    server.stop(0).wait()


def request(signature="segment", **inputs):
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "coverslip", signature
    for name, value in inputs.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return asked


PIXELS = np.zeros((1, 16, 16), np.int32)


def test_predict_answers_by_signature_and_says_which_version(stubs):
    answer = stubs[0].Predict(request(pixels=PIXELS))
    assert answer.model_spec.version.value == 2 and set(answer.outputs) == {"mask", "score"}
    assert tf.make_ndarray(answer.outputs["mask"]).shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("asked", "status", "word"),
    [
        (request(pixels=PIXELS.astype(np.float32)), "INVALID_ARGUMENT", "int32"),
        (request(pixels=PIXELS[0]), "INVALID_ARGUMENT", "shape"),
        (request(other=PIXELS), "INVALID_ARGUMENT", "pixels"),
        (request(signature="nothing", pixels=PIXELS), "FAILED_PRECONDITION", "nothing"),
        (predict_pb2.PredictRequest(model_spec={"name": "other"}), "NOT_FOUND", "other"),
        (
            predict_pb2.PredictRequest(model_spec={"name": "coverslip", "version_label": "x"}),
            "INVALID_ARGUMENT",
            "label",
        ),
        (
            predict_pb2.PredictRequest(model_spec={"name": "coverslip", "version": {"value": 7}}),
            "NOT_FOUND",
            "7",
        ),
    ],
    ids=["dtype", "shape", "name", "signature", "model", "label", "version"],
)
def test_bad_requests_get_tensorflow_serving_s_status(stubs, asked, status, word):
    with pytest.raises(grpc.RpcError) as refused:
        stubs[0].Predict(asked)
    assert refused.value.code().name == status and word in refused.value.details()


def test_a_tensor_that_does_not_fill_its_shape_is_refused(stubs):
    asked = request(pixels=PIXELS)
    asked.inputs["pixels"].tensor_content = b"1234"
    with pytest.raises(grpc.RpcError) as refused:
        stubs[0].Predict(asked)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_describes_the_signatures(stubs):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "coverslip"}, metadata_field=["signature_def"]
    )
    answer = stubs[0].GetModelMetadata(asked)
    table = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(table)
    assert {"segment", "embed", "extract"} <= set(table.signature_def)
    assert set(table.signature_def["extract"].inputs) == {"pixels", "step"}


def versions(stubs):
    answer = stubs[1].GetModelStatus(
        get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "coverslip"})
    )
    assert all(
        s.state == get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
        for s in answer.model_version_status
    )
    return [s.version for s in answer.model_version_status]


def test_a_new_configuration_moves_labels_or_changes_nothing(stubs):
    asked = model_management_pb2.ReloadConfigRequest()
    item = asked.config.model_config_list.config.add(
        name="coverslip", base_path=str(stubs[2]), model_platform="tensorflow"
    )
    item.model_version_policy.specific.versions.extend([1, 2])
    item.version_labels["stable"], item.version_labels["canary"] = 1, 2
    stubs[1].HandleReloadConfigRequest(asked)
    assert versions(stubs) == [2, 1]
    for label, number in (("stable", 1), ("canary", 2)):
        labelled = request(pixels=PIXELS)
        labelled.model_spec.version_label = label
        assert stubs[0].Predict(labelled).model_spec.version.value == number
    item.version_labels["stable"] = 9
    with pytest.raises(grpc.RpcError) as refused:
        stubs[1].HandleReloadConfigRequest(asked)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert versions(stubs) == [2, 1]
