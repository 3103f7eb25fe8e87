"""Callers who stop sending, go away or run out of time: what their calls held is free again, and
the figures count them.
"""

from __future__ import annotations

import threading
import time

import grpc
import pytest

from coverslip_serving import Client
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.errors import IdleError
from coverslip_serving.idle_limits import limit_waiting
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

FRAMES = 24


@pytest.fixture(scope="module")
def many(cover, tmp_path_factory):
    """Work for a second or more."""
    return repeat_frames(cover, FRAMES, tmp_path_factory.mktemp("many") / "many.dcm")


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def server(many, spool):
    """Capacity for one call, and memory for one instance: what is not given back shows in the next
    call.
    """
    memory = str(estimate_memory(many) // MIB + 1)
    words = [
        "--calls",
        "1",
        "--idle",
        "1",
        "--memory-mib",
        memory,
        "--spool",
        spool,
        "--metrics",
        "127.0.0.1:0",
    ]
    with running("serve", "--listen", "127.0.0.1:0", *words) as server:
        yield server


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(
        server.address(), [("grpc.max_receive_message_length", -1)]
    ) as channel:
        yield CoverslipServiceStub(channel)


@pytest.fixture
def given_back(server, spool, many):
    """Afterwards, nothing is held: no call, no file, no memory."""
    yield
    until(lambda: figures(server)["coverslip_calls_running"] == 0)
    until(lambda: not list(spool.iterdir()))
    with Client(server.address()) as client:
        assert client.segment(many).masks.shape[0] == FRAMES


def ended(server, method, status):
    return figures(server).get(f'coverslip_calls_total{{method="{method}",status="{status}"}}', 0.0)


def silent(parts):
    """A caller who sends these and then nothing, without hanging up."""
    quiet = threading.Event()

    def requests():
        yield from parts
        quiet.wait(60)

    return requests(), quiet


PARTS = [
    [],
    [pb.EmbedSeriesRequest(options=pb.EmbedOptions())],
    [
        pb.EmbedSeriesRequest(options=pb.EmbedOptions()),
        pb.EmbedSeriesRequest(start=pb.InstanceStart(label="x")),
        pb.EmbedSeriesRequest(chunk=bytes(5000)),
    ],
]


@pytest.mark.parametrize("parts", PARTS, ids=["at once", "after the options", "within an instance"])
def test_a_stream_that_brings_nothing_is_ended_with_a_sentence(
    server, stub, identity, given_back, parts
):
    for part in parts:
        if part.WhichOneof("part") == "options":
            part.options.recipient = str(identity.recipient)
    before = ended(server, "EmbedSeries", "DEADLINE_EXCEEDED")
    requests, quiet = silent(parts)
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.EmbedSeries(requests, timeout=30))
    quiet.set()
    error = remote_error(refused.value)
    assert (error.status, error.code) == ("DEADLINE_EXCEEDED", "idle")
    assert "nothing for 1 s" in str(error)
    assert 0.9 < time.monotonic() - started < 25
    assert ended(server, "EmbedSeries", "DEADLINE_EXCEEDED") == before + 1


def test_work_that_takes_longer_than_the_limit_is_not_idle(server, identity, many, given_back):
    with Client(server.address()) as client:
        (first,) = list(client.embed_series([("x", many)], identity.recipient))
    assert first.report.frames == FRAMES


def worked_on(server, spool, instance):
    """Wait until an instance has arrived, and its work has begun."""
    workers, size = worker_processes(server), instance.stat().st_size
    before = seconds_worked(workers)
    until(lambda: any(path.stat().st_size == size for path in spool.rglob("cover.dcm")))
    until(lambda: seconds_worked(workers) > before + 0.1)


def test_a_caller_who_cancels_an_embedding_leaves_nothing_behind(
    server, stub, spool, many, identity, given_back
):
    cancelled = ended(server, "Embed", "CANCELLED")
    call = stub.Embed.future(
        pb.EmbedRequest(
            instance=many.read_bytes(), options=pb.EmbedOptions(recipient=str(identity.recipient))
        )
    )
    worked_on(server, spool, many)
    assert not call.done()
    call.cancel()
    until(lambda: ended(server, "Embed", "CANCELLED") == cancelled + 1)
    assert figures(server)['coverslip_refusals_total{code="cancelled"}'] >= 1


def series(many, identity):
    yield pb.EmbedSeriesRequest(options=pb.EmbedOptions(recipient=str(identity.recipient)))
    for label in ("one", "two"):
        yield pb.EmbedSeriesRequest(start=pb.InstanceStart(label=label))
        yield pb.EmbedSeriesRequest(chunk=many.read_bytes())
        yield pb.EmbedSeriesRequest(end=pb.InstanceEnd())


def test_a_caller_who_cancels_a_series_while_it_is_worked_on_leaves_nothing_behind(
    server, stub, spool, many, identity, given_back
):
    cancelled = ended(server, "EmbedSeries", "CANCELLED")
    call = stub.EmbedSeries(series(many, identity))
    worked_on(server, spool, many)
    call.cancel()
    until(lambda: ended(server, "EmbedSeries", "CANCELLED") == cancelled + 1)


def test_a_caller_who_cancels_a_series_while_it_answers_leaves_nothing_behind(
    server, stub, many, identity, given_back
):
    cancelled = ended(server, "EmbedSeries", "CANCELLED")
    call = stub.EmbedSeries(series(many, identity))
    assert next(call).start.label == "one" and next(call).chunk
    call.cancel()
    until(lambda: ended(server, "EmbedSeries", "CANCELLED") == cancelled + 1)


def test_a_caller_who_does_not_read_is_cut_off(server, stub, many, identity, given_back):
    cancelled = ended(server, "EmbedSeries", "CANCELLED")
    call = stub.EmbedSeries(series(many, identity))
    assert next(call).start.label == "one"
    until(lambda: ended(server, "EmbedSeries", "CANCELLED") == cancelled + 1)
    with pytest.raises(grpc.RpcError) as ended_call:
        list(call)
    assert ended_call.value.code() is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("seconds", [0.001, 0.3])
def test_a_deadline_that_passes_leaves_nothing_behind(
    server, stub, many, identity, given_back, seconds
):
    request = pb.EmbedRequest(
        instance=many.read_bytes(), options=pb.EmbedOptions(recipient=str(identity.recipient))
    )
    late = {"event": "call", "method": "Embed"}
    before = sum(late.items() <= line.items() for line in server.lines)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Embed(request, timeout=seconds)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if seconds > 0.1:
        # The call reached the server, which must have ended it too.
        until(lambda: sum(late.items() <= line.items() for line in server.lines) > before)
        line = server.wait_for("call", method="Embed")
        assert line["status"] in ("DEADLINE_EXCEEDED", "CANCELLED")


def test_the_server_s_own_limit_is_reported_with_a_sentence(cover, identity, tmp_path):
    longer = repeat_frames(cover, 3 * FRAMES, tmp_path / "longer.dcm")
    with (
        running("serve", "--listen", "127.0.0.1:0", "--seconds", "2") as server,
        Client(server.address()) as client,
    ):
        (answer,) = client.embed_series([("x", longer)], identity.recipient)
        assert (answer.status, answer.code) == (
            "DEADLINE_EXCEEDED",
            "deadline-passed",
        ) and "more time" in str(answer)
        assert client.embed(cover, identity.recipient).instance


def test_what_the_stream_raises_is_raised_and_its_end_is_its_end():
    def broken():
        yield 1
        raise RuntimeError("gone")

    with limit_waiting(broken(), 5.0) as arrivals:
        assert next(arrivals) == 1
        with pytest.raises(RuntimeError, match="gone"):
            next(arrivals)
    with limit_waiting(iter([1, 2]), 5.0) as arrivals:
        assert list(arrivals) == [1, 2] and list(arrivals) == []
    quiet = threading.Event()
    with limit_waiting(iter(quiet.wait, None), 0.05) as arrivals, pytest.raises(IdleError):
        next(arrivals)
    quiet.set()
