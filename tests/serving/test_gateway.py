from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from pydicom import dcmread
from pydicom.data import get_testdata_file

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.instance import read_instance
from coverslip.dicom.objects import read_object
from coverslip.models import ModelKind, find_model
from coverslip.scheme.profiles import DEFAULT
from coverslip_serving import Client, EmbedResult, ExtractResult, seal_instance
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.errors import RemoteError
from coverslip_serving.memory import estimate_memory
from coverslip_serving.sizes import MIB
from coverslip_serving.status import remote_error
from tests.serving.conftest import (
    figures,
    repeat_frames,
    running,
    seconds_worked,
    until,
    worker_processes,
)

pytestmark = pytest.mark.slow
"""These tests start servers."""

SERVICE = "coverslip.v1.CoverslipService"
UNLIMITED = [("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def client(gateway):
    with Client(gateway.address()) as client:
        yield client


@pytest.fixture(scope="module")
def stego(client, cover, identity):
    return client.embed(cover, identity.recipient)


def calls(server, method):
    return [line for line in server.lines if line["event"] == "call" and line["method"] == method]


def test_the_identity_comes_back_through_the_gateway(client, cover, identity, stego):
    result = client.extract(stego.instance, identity)
    source = read_object(stego.instance)
    restored = pipeline.restore(source, result.extraction, identity.recipient).header
    original = dcmread(cover)
    assert stego.report.frames_carrying == 1 and stego.report.recorded == len(result.record) > 20
    assert restored.PatientName == original.PatientName and restored.PatientID == original.PatientID
    assert str(original.PatientName).encode() not in stego.instance


def test_what_is_extracted_is_sealed(gateway, identity, stego, cover):
    with grpc.insecure_channel(gateway.address()) as channel:
        request = pb.ExtractRequest(
            instance=stego.instance, options=pb.ExtractOptions(recipient=str(identity.recipient))
        )
        answer = CoverslipServiceStub(channel).Extract(request, timeout=30)
    assert str(dcmread(cover).PatientName).encode() not in answer.SerializeToString()
    assert len(pipeline.open_frame(answer.sealed, identity).record) > 20


def test_another_identity_is_refused_with_the_reason(client, stego):
    with pytest.raises(RemoteError) as refused:
        client.extract(stego.instance, Identity.generate())
    assert (refused.value.status, refused.value.code) == ("FAILED_PRECONDITION", "wrong-key")


def test_a_record_sealed_by_the_client_comes_back(client, cover, identity):
    stego = client.embed(cover, identity.recipient, seal_here=True)
    found = client.extract(stego.instance, identity, without_model=True)
    assert stego.report.recorded == len(found.record) > 20


def test_the_outline_is_that_of_the_engine(client, cover):
    from coverslip_edge.engine import LiteRtEngine

    outlines = client.segment(cover)
    expected = LiteRtEngine().segment(pipeline.engine_planes(read_instance(cover)).pixels.whole())
    assert np.array_equal(outlines.masks, expected.mask) and outlines.scores[0] == expected.score[0]


def test_inspect_says_what_fits(client, cover):
    inspection = client.inspect(cover)
    assert (inspection.rows, inspection.columns, inspection.frames) == (512, 512, 1)
    assert 0 < inspection.background < 1 and 0 < inspection.body < 1 and inspection.recorded > 20
    assert {fit.profile for fit in inspection.profiles if fit.fits} >= {"faint", "default"}


def test_a_bad_instance_does_not_end_a_series(client, cover, identity, tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"no DICOM at all")
    embedded = list(
        client.embed_series([("one", cover), ("bad", bad), ("two", cover)], identity.recipient)
    )
    assert [answer.label for answer in embedded] == ["one", "bad", "two"]
    assert [type(answer) for answer in embedded] == [EmbedResult, RemoteError, EmbedResult]
    assert (embedded[1].status, embedded[1].code) == ("INVALID_ARGUMENT", "not-dicom")
    files = []
    for answer in (embedded[0], embedded[2]):
        files.append((answer.label, tmp_path / answer.label))
        files[-1][1].write_bytes(answer.instance)
    extracted = list(client.extract_series([*files, ("cover", cover)], identity))
    assert [type(answer) for answer in extracted] == [ExtractResult, ExtractResult, RemoteError]
    assert extracted[0].record == extracted[1].record and extracted[2].code == "no-message"


def test_an_instance_that_arrives_changed_is_refused(gateway, identity, cover):
    parts = [
        pb.ExtractSeriesRequest(options=pb.ExtractOptions(recipient=str(identity.recipient))),
        pb.ExtractSeriesRequest(start=pb.InstanceStart(label="x")),
        pb.ExtractSeriesRequest(chunk=cover.read_bytes()),
        pb.ExtractSeriesRequest(end=pb.InstanceEnd(sha256=bytes(32))),
    ]
    with grpc.insecure_channel(gateway.address()) as channel:
        (answer,) = CoverslipServiceStub(channel).ExtractSeries(iter(parts), timeout=30)
    assert answer.failure.code == "bad-request" and "SHA-256" in answer.failure.message


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [pb.EmbedSeriesRequest(start=pb.InstanceStart(label="x"))],
        [pb.EmbedSeriesRequest(options=pb.EmbedOptions()), pb.EmbedSeriesRequest(chunk=b"x")],
        [
            pb.EmbedSeriesRequest(options=pb.EmbedOptions()),
            pb.EmbedSeriesRequest(start=pb.InstanceStart(label="x")),
        ],
    ],
    ids=["nothing", "no options", "no start", "no end"],
)
def test_a_series_out_of_order_is_refused_with_a_sentence(gateway, identity, parts):
    for part in parts:
        if part.WhichOneof("part") == "options":
            part.options.recipient = str(identity.recipient)
    with (
        grpc.insecure_channel(gateway.address()) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        list(CoverslipServiceStub(channel).EmbedSeries(iter(parts), timeout=30))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "start" in refused.value.details() or "options" in refused.value.details()


def test_bad_input_gets_the_right_status_and_the_server_lives(gateway, client, cover, identity):
    content = cover.read_bytes()
    text = str(identity.recipient)
    misspelt = text[:-1] + ("q" if text.endswith("a") else "a")
    options = pb.EmbedOptions(recipient=text)
    cases = [
        (pb.EmbedRequest(options=options), "INVALID_ARGUMENT", "bad-request"),
        (
            pb.EmbedRequest(instance=b"\0" * 400, options=options),
            "INVALID_ARGUMENT",
            "not-dicom",
        ),
        (
            pb.EmbedRequest(instance=content[: len(content) // 2], options=options),
            "INVALID_ARGUMENT",
            "truncated-file",
        ),
        (pb.EmbedRequest(instance=content), "INVALID_ARGUMENT", "bad-request"),
        (
            pb.EmbedRequest(instance=content, options=pb.EmbedOptions(recipient=misspelt)),
            "INVALID_ARGUMENT",
            "recipient",
        ),
        (
            pb.EmbedRequest(instance=content, options=pb.EmbedOptions(recipient=text, profile=9)),
            "INVALID_ARGUMENT",
            "bad-request",
        ),
        (
            pb.EmbedRequest(instance=content, options=pb.EmbedOptions(recipient=text, beta=-1.0)),
            "INVALID_ARGUMENT",
            "bad-request",
        ),
        (
            pb.EmbedRequest(instance=content, options=pb.EmbedOptions(recipient=text, sealed=b"x")),
            "INVALID_ARGUMENT",
            "bad-request",
        ),
    ]
    with grpc.insecure_channel(gateway.address()) as channel:
        for request, status, code in cases:
            with pytest.raises(grpc.RpcError) as refused:
                CoverslipServiceStub(channel).Embed(request, timeout=30)
            error = remote_error(refused.value)
            assert (error.status, error.code) == (status, code), str(error)
            assert len(str(error).split()) > 5 and len(error.request_id) == 32
    assert client.segment(cover).masks.any()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SC_rgb_small_odd.dcm", "colour-pixels"),
        ("JPEG-lossy.dcm", "lossy-source"),
        ("liver_1frame.dcm", "binary-pixels"),
        ("rtdose_1frame.dcm", "deep-pixels"),
        ("reportsi.dcm", "not-an-image"),
    ],
)
def test_what_is_no_image_that_can_be_read_has_no_outline_and_says_why(client, cover, name, code):
    path = Path(get_testdata_file(name, download=False))
    with pytest.raises(RemoteError) as refused:
        client.segment(path)
    error = refused.value
    assert (error.status, error.code) == ("INVALID_ARGUMENT", code)
    assert len(str(error).split()) > 5
    assert client.segment(cover).masks.any()


@pytest.mark.parametrize("name", ["SC_rgb_small_odd.dcm", "JPEG-lossy.dcm"])
def test_an_instance_that_may_show_identity_is_refused_in_a_call_and_in_a_series(
    client, cover, identity, name
):
    path = Path(get_testdata_file(name, download=False))
    with pytest.raises(RemoteError) as refused:
        client.embed(path, identity.recipient)
    (failure, done) = client.embed_series([("wrong", path), ("right", cover)], identity.recipient)
    for error in (refused.value, failure):
        assert (error.status, error.code) == ("FAILED_PRECONDITION", "burned-in-annotation")
        assert len(str(error).split()) > 5
    assert done.label == "right" and done.instance
    allowed = client.embed(path, identity.recipient, allow_burned_in=True)
    assert allowed.report.carried == pb.CARRIED_HEADER


def test_a_header_that_is_not_de_identified_is_not_taken_with_a_sealed_record(
    gateway, cover, identity
):
    _, sealed = seal_instance(cover, identity.recipient)
    options = pb.EmbedOptions(recipient=str(identity.recipient), sealed=sealed)
    with (
        grpc.insecure_channel(gateway.address()) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        CoverslipServiceStub(channel).Embed(
            pb.EmbedRequest(instance=cover.read_bytes(), options=options), timeout=30
        )
    assert "de-identified" in refused.value.details()


def test_garbage_in_place_of_a_message_is_refused(gateway, client, cover):
    with (
        grpc.insecure_channel(gateway.address()) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary(f"/{SERVICE}/Embed")(b"\xff" * 100, timeout=30)
    assert refused.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    with (
        grpc.insecure_channel(gateway.address()) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert client.segment(cover).masks.any()


def test_a_deadline_and_a_cancellation_end_the_call(gateway, cover, identity, tmp_path):
    """On the server too: the caller's own status would say so in any case."""
    many = repeat_frames(cover, 16, tmp_path / "many.dcm")
    options = pb.EmbedOptions(recipient=str(identity.recipient))
    request = pb.EmbedRequest(instance=many.read_bytes(), options=options)
    workers = worker_processes(gateway)
    with grpc.insecure_channel(gateway.address(), UNLIMITED) as channel:
        stub = CoverslipServiceStub(channel)
        with pytest.raises(grpc.RpcError) as late:
            stub.Embed(request, timeout=0.3, metadata=[("x-request-id", "late")])
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        line = gateway.wait_for("call", 30, request_id="late")
        assert line["status"] in ("DEADLINE_EXCEEDED", "CANCELLED")
        before = seconds_worked(workers)
        future = stub.Embed.future(request, timeout=60, metadata=[("x-request-id", "cancelled")])
        until(lambda: seconds_worked(workers) > before + 0.05)
        assert not future.done()
        future.cancel()
        assert gateway.wait_for("call", 30, request_id="cancelled")["status"] == "CANCELLED"
        assert stub.Embed(request, timeout=60).instance


def test_the_request_id_is_logged_and_comes_back(gateway, cover, identity):
    request = pb.SegmentRequest(instance=cover.read_bytes())
    with grpc.insecure_channel(gateway.address()) as channel:
        stub = CoverslipServiceStub(channel)
        _, call = stub.Segment.with_call(
            request, metadata=[("x-request-id", "scan-17.a")], timeout=30
        )
        assert dict(call.trailing_metadata())["x-request-id"] == "scan-17.a"
        _, call = stub.Segment.with_call(
            request, metadata=[("x-request-id", "DOE^JANE 1970")], timeout=30
        )
        assert dict(call.trailing_metadata())["x-request-id"] != "DOE^JANE 1970"
    assert gateway.wait_for("call", request_id="scan-17.a")["status"] == "OK"


def test_no_identity_is_in_the_log(gateway, client, cover, identity, stego):
    client.extract(stego.instance, identity, request_id="last-of-these")
    gateway.wait_for("call", request_id="last-of-these")
    dataset = dcmread(cover)
    text = json.dumps(gateway.lines) + "".join(gateway.other)
    names = (
        dataset.PatientID,
        str(dataset.PatientName),
        dataset.PatientBirthDate,
        str(dataset.SOPInstanceUID),
    )
    for value in (*names, str(identity.recipient)):
        assert value and value not in text
    assert calls(gateway, "Embed")


def test_health_reflection_and_figures(gateway, stego):
    for kind in ("grpc", "health"):
        with grpc.insecure_channel(gateway.address(kind)) as channel:
            for name in ("", SERVICE):
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=name), timeout=10
                )
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(gateway.address()) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        assert {m.name for m in service.methods} == {
            "Segment",
            "Embed",
            "Extract",
            "Inspect",
            "EmbedSeries",
            "ExtractSeries",
        }
    with urllib.request.urlopen(f"http://{gateway.address('metrics')}/metrics") as answer:
        text = answer.read().decode()
    assert 'coverslip_calls_total{method="Embed",status="OK"}' in text
    assert (
        "coverslip_ready 1.0" in text
        and f"coverslip_model_version {find_model(ModelKind.TENSORFLOW).name}.0" in text
    )
    assert (
        "coverslip_bytes_total" in text
        and 'coverslip_engine_seconds_bucket{le="0.005",signature="embed"}' in text
    )


def test_limits_refuse_with_a_sentence_instead_of_falling_over(cover, identity, tmp_path):
    words = (
        "--listen",
        "127.0.0.1:0",
        "--calls",
        "1",
        "--message-mib",
        "2",
        "--instance-mib",
        "1",
        "--memory-mib",
        "64",
    )
    with running("serve", *words) as server, Client(server.address()) as client:
        answers = []

        def ask():
            try:
                answers.append(client.embed(cover, identity.recipient))
            except RemoteError as error:
                answers.append(error)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if isinstance(answer, RemoteError)]
        assert len(answers) == 6 and 0 < len(refused) < 6
        assert {(r.status, r.code) for r in refused} == {("RESOURCE_EXHAUSTED", "busy")}
        with pytest.raises(RemoteError) as large:
            client.embed(bytes(3 << 20), identity.recipient)
        assert large.value.status == "RESOURCE_EXHAUSTED"
        many = repeat_frames(cover, 3, tmp_path / "many.dcm")
        ((failure),) = list(client.embed_series([("many", many)], identity.recipient))
        assert (failure.status, failure.code) == ("RESOURCE_EXHAUSTED", "too-large")
        dataset = dcmread(many)
        dataset.NumberOfFrames = 3000
        dataset.PixelData = dataset.PixelData[:1024]
        dataset.save_as(many)
        with pytest.raises(RemoteError) as bomb:
            client.embed(many, identity.recipient)
        assert (bomb.value.status, bomb.value.code) == ("RESOURCE_EXHAUSTED", "too-large")
        assert client.embed(cover, identity.recipient).instance


def test_calls_that_wait_are_not_refused_for_memory_they_do_not_use(cover, identity):
    """Memory for one instance, a turn for one: five callers at once are all served."""
    memory = str(estimate_memory(cover) // MIB + 1)
    words = ("--listen", "127.0.0.1:0", "--parallel", "1", "--memory-mib", memory)
    with (
        running("serve", *words) as server,
        Client(server.address()) as client,
        ThreadPoolExecutor(5) as callers,
    ):
        answers = list(callers.map(lambda _: client.embed(cover, identity.recipient), range(5)))
    assert all(answer.instance for answer in answers)


def test_stopping_finishes_what_was_taken(cover, identity, tmp_path):
    many = repeat_frames(cover, 8, tmp_path / "many.dcm")
    words = ("--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with running("serve", *words) as server, Client(server.address()) as client:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(client.embed(many, identity.recipient)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        until(lambda: figures(server)["coverslip_calls_running"] == 4)
        assert not answers
        assert server.stop() == 0
        for thread in threads:
            thread.join()
        assert len(answers) == 4 and all(answer.instance for answer in answers)
        with pytest.raises(RemoteError) as gone:
            client.embed(cover, identity.recipient)
        assert gone.value.status == "UNAVAILABLE"
    assert [line["event"] for line in server.lines][-1] == "stopped"


def test_one_sealed_frame_gives_the_same_bytes_everywhere(
    gateway, before_model_server, cover, identity, tmp_path
):
    from coverslip_graph.engine import TensorFlowEngine

    clean, sealed = seal_instance(cover, identity.recipient)
    path = tmp_path / "clean.dcm"
    path.write_bytes(clean)
    embedding = pipeline.embed(
        read_instance(path),
        identity.recipient,
        TensorFlowEngine(),
        pipeline.EmbedOptions(DEFAULT),
        sealed,
    )
    embedding.write(tmp_path / "stego.dcm")
    expected = (tmp_path / "stego.dcm").read_bytes()
    request = pb.EmbedRequest(
        instance=clean, options=pb.EmbedOptions(recipient=str(identity.recipient), sealed=sealed)
    )
    with running("serve", "--listen", "127.0.0.1:0", "--engine", "tensorflow") as in_process:
        for server in (in_process, before_model_server):
            with grpc.insecure_channel(
                server.address(), [("grpc.max_receive_message_length", -1)]
            ) as channel:
                assert CoverslipServiceStub(channel).Embed(request, timeout=60).instance == expected
