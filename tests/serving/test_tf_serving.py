from __future__ import annotations

import threading
import time
from concurrent import futures
from dataclasses import replace

import grpc
import numpy as np
import pytest
from pydicom import dcmread

from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.errors import EngineError
from coverslip.models import ModelKind, find_model
from coverslip_graph.export import trial
from coverslip_serving import Client, deadline
from coverslip_serving._stubs import predict_pb2
from coverslip_serving.errors import (
    CancelledError,
    DeadlinePassedError,
    EngineDeadlineError,
    EngineUnavailableError,
    RemoteError,
)
from coverslip_serving.tensors import to_array, to_tensor
from coverslip_serving.tf_serving import PREDICT, TfServingEngine
from tests.serving.conftest import callers, running, until

pytestmark = pytest.mark.slow
"""These tests start servers."""


@pytest.fixture(scope="module")
def real():
    """TensorFlow Serving's own messages."""
    pytest.importorskip("tensorflow_serving")
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import predict_pb2 as predict

    return {
        "Tensor": tensor_pb2.TensorProto,
        "PredictRequest": predict.PredictRequest,
        "PredictResponse": predict.PredictResponse,
    }


@pytest.mark.parametrize("name", ["Tensor", "PredictRequest", "PredictResponse"])
def test_our_messages_are_a_part_of_tensorflow_serving_s(real, name):
    def agree(ours, theirs):
        for field in ours.fields:
            other = theirs.fields_by_number[field.number]
            # dtype is an enumeration there, which has the wire form of int32.
            kinds = {field.type, other.type}
            assert len(kinds) == 1 or kinds == {field.TYPE_INT32, field.TYPE_ENUM}, field.full_name
            assert field.is_repeated == other.is_repeated and (
                field.name == other.name or field.full_name.endswith("Tensor.dtype")
            )
            if field.message_type is not None:
                agree(field.message_type, other.message_type)

    agree(getattr(predict_pb2, name).DESCRIPTOR, real[name].DESCRIPTOR)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_tensors_are_tensorflow_s_in_both_of_their_forms(dtype):
    tf = pytest.importorskip("tensorflow")
    array = np.random.default_rng(1).integers(0, 200, (2, 3, 5)).astype(dtype)
    proto = tf.make_tensor_proto(array)
    assert np.array_equal(to_array(predict_pb2.Tensor.FromString(proto.SerializeToString())), array)
    listed = type(proto)(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
    values = listed.float_val if dtype == "float32" else listed.int_val
    values.extend(array.ravel().tolist())
    assert np.array_equal(
        to_array(predict_pb2.Tensor.FromString(listed.SerializeToString())), array
    )
    back = tf.make_ndarray(type(proto).FromString(to_tensor(array).SerializeToString()))
    assert back.dtype == array.dtype and np.array_equal(back, array)


def test_tensors_that_make_no_sense_are_refused():
    shape = predict_pb2.TensorShape(dim=[predict_pb2.TensorShape.Dim(size=3)])
    for tensor in (
        predict_pb2.Tensor(dtype=9, tensor_shape=shape),
        predict_pb2.Tensor(dtype=3, tensor_shape=shape, tensor_content=b"1234"),
        predict_pb2.Tensor(dtype=3, tensor_shape=shape, int_val=[1, 2, 3, 4]),
        predict_pb2.Tensor(dtype=3, tensor_shape=shape),
    ):
        with pytest.raises(EngineError):
            to_array(tensor)
    with pytest.raises(EngineError):
        to_tensor(np.zeros(3, np.float64))


def test_the_answers_are_those_of_the_model_in_process(model_server):
    from coverslip_graph.engine import TensorFlowEngine

    engine, local = TfServingEngine(model_server.address()), TensorFlowEngine()
    one = trial(96, 130, 4095, 3)
    two = replace(
        one, **{name: np.concatenate([value, value]) for name, value in vars(one).items()}
    )
    for request in (one, two):
        for kind in ("embed", "segment", "extract"):
            given = {
                "embed": (request,),
                "segment": (request.pixels,),
                "extract": (request.pixels, request.step),
            }[kind]
            ours, theirs = getattr(engine, kind)(*given), getattr(local, kind)(*given)
            for name, value in vars(theirs).items():
                assert np.array_equal(getattr(ours, name), value), (kind, name)
    assert engine.version == int(find_model(ModelKind.TENSORFLOW).name)
    engine.close()


def test_wrong_model_label_and_no_server_are_distinguished(model_server):
    pixels = np.zeros((1, 64, 64), np.int32)
    with pytest.raises(EngineError, match="canary"):
        TfServingEngine(model_server.address(), label="canary").segment(pixels)
    with pytest.raises(EngineUnavailableError, match="nothing"):
        TfServingEngine(model_server.address(), model="nothing").segment(pixels)
    started = time.monotonic()
    engine = TfServingEngine("127.0.0.1:9", timeout=1.0)
    with pytest.raises(EngineUnavailableError):
        engine.segment(pixels)
    assert engine.retries > 1 and time.monotonic() - started < 3


class Peer:
    """A model server that answers with a function, and keeps every byte it was sent."""

    def __init__(self, answer):
        self.received = []
        self._answer = answer

        def predict(request, context):
            self.received.append(request)
            return self._answer(request, context)

        handler = grpc.unary_unary_rpc_method_handler(predict)
        service, method = PREDICT.strip("/").split("/")
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)]
        )
        self.server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(service, {method: handler})]
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


def test_a_server_that_is_away_for_a_moment_is_asked_again(model_server):
    with grpc.insecure_channel(
        model_server.address(), [("grpc.max_receive_message_length", -1)]
    ) as channel:
        forward = channel.unary_unary(PREDICT)
        refusals = iter([True, True, False])

        def answer(request, context):
            if next(refusals):
                context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
            return forward(request)

        peer = Peer(answer)
        engine = TfServingEngine(peer.address)
        assert engine.segment(np.zeros((1, 64, 64), np.int32)).mask.shape == (1, 64, 64)
        assert engine.retries == 2 and len(peer.received) == 3
        peer.server.stop(0)


def test_what_is_no_answer_is_refused():
    def answer(request, context):
        response = predict_pb2.PredictResponse()
        response.outputs["mask"].CopyFrom(to_tensor(np.zeros((1, 8, 8), np.uint8)))
        response.outputs["score"].CopyFrom(to_tensor(np.zeros(1, np.float32)))
        return response.SerializeToString()

    peer = Peer(answer)
    engine = TfServingEngine(peer.address)
    assert engine.segment(np.zeros((1, 8, 8), np.int32)).mask.shape == (1, 8, 8)
    with pytest.raises(EngineError, match="mask"):
        engine.segment(np.zeros((1, 64, 64), np.int32))
    with pytest.raises(EngineError, match="phases"):
        engine.extract(np.zeros((1, 8, 8), np.int32), np.ones(1, np.float32))
    peer.server.stop(0)


def test_a_deadline_is_kept_and_a_caller_who_went_away_stops_the_work():
    quiet = threading.Event()
    peer = Peer(lambda request, context: quiet.wait(60) and b"")
    engine = TfServingEngine(peer.address, timeout=0.2)
    pixels = np.zeros((1, 64, 64), np.int32)
    with pytest.raises(EngineDeadlineError):
        engine.segment(pixels)
    with (
        deadline.working_for(deadline.Deadline(time.monotonic() - 1, lambda: True)),
        pytest.raises(DeadlinePassedError),
    ):
        engine.segment(pixels)
    with (
        deadline.working_for(deadline.Deadline(time.monotonic() + 9, lambda: False)),
        pytest.raises(CancelledError),
    ):
        engine.segment(pixels)
    quiet.set()
    peer.server.stop(0)


def test_no_header_key_or_record_crosses_to_the_model_server(model_server, cover):
    identity = Identity.generate()
    with grpc.insecure_channel(
        model_server.address(), [("grpc.max_receive_message_length", -1)]
    ) as channel:
        forward = channel.unary_unary(PREDICT)
        peer = Peer(lambda request, context: forward(request))
        with (
            running("serve", "--listen", "127.0.0.1:0", "--tf-serving", peer.address) as server,
            Client(server.address()) as client,
        ):
            stego = client.embed(cover, identity.recipient)
            result = client.extract(stego.instance, identity)
        peer.server.stop(0)
    wire = b"".join(peer.received)
    dataset = dcmread(cover)
    secrets = [
        identity.secret,
        identity.recipient.public,
        str(identity.recipient).encode(),
        result.sealed,
        records.encode(result.record),
    ]
    secrets += [
        value
        for value in (e.value for e in result.record.level.leaves())
        if len(value.strip(b"\0 ")) >= 6
    ]
    secrets += [
        str(dataset.PatientName).encode(),
        dataset.PatientID.encode(),
        str(dataset.SOPInstanceUID).encode(),
    ]
    assert len(secrets) > 20 and len(wire) > 1_000_000
    for secret in secrets:
        assert secret.strip(b"\0 ") not in wire
    # Nor in any part: what was sent is the tensors of the contract and the model's name, and
    # nothing else.
    contract = {
        "pixels",
        "legal",
        "padding",
        "phases",
        "slots",
        "coefficients",
        "step",
        "votes",
        "margin",
    }
    for request in map(predict_pb2.PredictRequest.FromString, peer.received):
        assert set(request.inputs) <= contract
        assert request.model_spec.signature_name in ("segment", "embed", "extract")
        assert (request.model_spec.name, request.model_spec.version_label) == (
            "coverslip",
            "stable",
        )
        again = predict_pb2.PredictRequest(model_spec=request.model_spec)
        for name, tensor in request.inputs.items():
            again.inputs[name].CopyFrom(to_tensor(to_array(tensor)))
        assert again.ByteSize() == request.ByteSize()


def test_a_model_server_that_dies_and_comes_back_costs_no_wrong_answer(cover, identity):
    with running("model-server", "--listen", "127.0.0.1:0", ready=False) as first:
        dies_and_comes_back(first, cover, identity)


def dies_and_comes_back(first, cover, identity):
    address = first.address()
    words = ("--listen", "127.0.0.1:0", "--tf-serving", address, "--tf-serving-seconds", "40")
    with running("serve", *words) as server, Client(server.address(), timeout=120) as client:
        assert client.embed(cover, identity.recipient).instance
        threads, answers = callers(client, cover, identity)
        until(lambda: answers)
        assert len(answers) < 8
        first.kill()
        with running("model-server", "--listen", address, ready=False):
            for thread in threads:
                thread.join()
            assert len(answers) == 8
            for answer in answers:
                if isinstance(answer, RemoteError):
                    assert answer.status == "UNAVAILABLE", str(answer)
                else:
                    assert len(client.extract(answer, identity, without_model=True).record) > 20
            server.wait_for("ready", 30)
            assert client.embed(cover, identity.recipient).instance
