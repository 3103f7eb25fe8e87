"""Worker processes: errors come back as they were, a process that dies is replaced, and nothing
outlives the gateway.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from coverslip.errors import ModelMissingError, NotAnImageError, RecordTooLargeError
from coverslip_edge.engine import LiteRtEngine
from coverslip_serving import Client, deadline
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving.errors import CancelledError, EngineUnavailableError, RemoteError
from coverslip_serving.jobs import SEGMENT
from coverslip_serving.process_workers import ProcessWorkers
from coverslip_serving.workers import ThreadWorkers, WorkerError
from tests.serving.conftest import callers, running, seconds_worked, until, worker_processes

pytestmark = pytest.mark.slow
"""These tests start servers."""


class Broken:
    """An engine that fails in a chosen way; it is opened in the worker process."""

    name = "broken"
    version = 7
    retries = 3

    def __init__(self, trouble):
        self._trouble = trouble

    def segment(self, pixels):
        if pixels.shape[1] == 64:
            return
        if self._trouble == "dies":
            os._exit(1)
        if self._trouble == "too large":
            raise RecordTooLargeError(needed=500, available=100)
        if self._trouble == "unplanned":
            raise KeyError("DOE^JANE")


class DiesOnce(Broken):
    """Takes its process with it when it is first asked, and leaves something behind."""

    def __init__(self, mark):
        super().__init__("")
        self._mark = mark

    def segment(self, pixels):
        if pixels.shape[1] != 64 and not self._mark.exists():
            self._mark.touch()
            os._exit(1)
        return LiteRtEngine().segment(pixels)


def ask(workers, cover, observed=None):
    return workers.run(
        SEGMENT,
        cover,
        pb.SegmentRequest(),
        lambda *call: observed is None or observed.append(call),
    )


@pytest.fixture
def processes():
    opened = []

    def make(open_engine, count=1):
        opened.append(ProcessWorkers(open_engine, "test", count))
        return opened[-1]

    yield make
    for workers in opened:
        workers.close()


def test_an_answer_is_that_of_this_process_and_its_time_is_observed(processes, cover):
    workers, observed = processes(LiteRtEngine), []
    assert ask(workers, cover, observed) == ask(ThreadWorkers(LiteRtEngine()), cover)
    ((signature, seconds),) = observed
    assert signature == "segment" and 0 < seconds < 30


def test_errors_come_back_as_they_were_and_messages_of_unplanned_ones_stay_behind(
    processes, cover, tmp_path
):
    with pytest.raises(RecordTooLargeError, match="500 bytes") as refused:
        ask(processes(partial(Broken, "too large")), cover)
    assert (refused.value.needed, refused.value.available) == (500, 100)
    with pytest.raises(WorkerError) as unplanned:
        ask(processes(partial(Broken, "unplanned")), cover)
    assert unplanned.value.kind == "KeyError" and "segment:" in unplanned.value.where
    assert "DOE" not in str(unplanned.value) + unplanned.value.where
    (tmp_path / "cover.dcm").write_bytes(b"nothing")
    workers = processes(partial(Broken, ""))
    with pytest.raises(NotAnImageError):
        ask(workers, tmp_path / "cover.dcm")
    workers.probe()
    assert (workers.version, workers.retries) == (7, 3)
    with pytest.raises(ModelMissingError):
        processes(partial(LiteRtEngine, tmp_path / "no.tflite")).probe()


def test_a_job_that_kills_its_process_again_and_again_is_reported_and_the_process_replaced(
    processes, cover
):
    workers = processes(partial(Broken, "dies"))
    for _ in range(2):
        workers.probe()
        with pytest.raises(EngineUnavailableError, match="more memory"):
            ask(workers, cover)


def test_what_a_process_did_when_it_died_is_begun_again(processes, cover, tmp_path):
    folder = tmp_path / "instance"
    folder.mkdir()
    (folder / "cover.dcm").write_bytes(cover.read_bytes())
    (folder / "stego.dcm").touch()
    workers = processes(partial(DiesOnce, tmp_path / "mark"))
    assert ask(workers, folder / "cover.dcm") == ask(ThreadWorkers(LiteRtEngine()), cover)
    assert [path.name for path in folder.iterdir()] == ["cover.dcm"] and (
        tmp_path / "mark"
    ).exists()


def test_a_job_that_waits_for_nobody_is_never_begun(processes, cover):
    workers = processes(LiteRtEngine)
    gone = deadline.Deadline(time.monotonic() + 60, lambda: False)
    with deadline.working_for(gone), pytest.raises(CancelledError):
        ask(workers, cover)


def children(server):
    return psutil.Process(server.process.pid).children(recursive=True)


def test_a_gateway_lives_on_when_a_worker_is_killed_and_takes_all_with_it_when_it_is(
    cover, identity
):
    with (
        running("serve", "--listen", "127.0.0.1:0", "--processes", "2") as server,
        Client(server.address()) as client,
    ):
        first = worker_processes(server)
        assert len(first) == 2
        before = seconds_worked(first[:1])
        threads, answers = callers(client, cover, identity)
        until(lambda: seconds_worked(first[:1]) > before + 0.05)
        assert len(answers) < 8
        first[0].kill()
        for thread in threads:
            thread.join()
        assert len(answers) == 8
        for answer in answers:
            assert not isinstance(answer, RemoteError), str(answer)
            assert len(client.extract(answer, identity, without_model=True).record) > 20
        assert client.embed(cover, identity.recipient).instance
        assert not set(first) & set(worker_processes(server))
        second = children(server)
        server.kill()
        assert not psutil.wait_procs(second, 10)[1]


def test_the_work_can_stay_in_one_process(cover, identity, tmp_path):
    with (
        running("serve", "--listen", "127.0.0.1:0", "--processes", "0") as server,
        Client(server.address()) as client,
    ):
        assert not children(server)
        stego = client.embed(cover, identity.recipient).instance
        assert len(client.extract(stego, identity).record) > 20


def test_the_folder_that_a_server_runs_in_may_hold_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stop").touch()
    workers = ProcessWorkers(partial(Broken, ""), "test", 1)
    workers.probe()
    assert workers.version == 7
    workers.close()
