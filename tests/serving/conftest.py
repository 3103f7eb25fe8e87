"""A real CT with a fake patient, and servers as real processes on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread

from coverslip.crypto.keys import Identity

pytest.importorskip("grpc")

from coverslip_serving.errors import RemoteError
from tests.covers import head_ct


class Server:
    """A coverslip process and the lines of its log."""

    def __init__(self, *words, cwd=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coverslip", *map(str, words)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        self.lines, self.other = [], []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._news:
                (self.lines if line.startswith("{") else self.other).append(
                    json.loads(line) if line.startswith("{") else line
                )
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for_line(self, matches, seconds=150):
        """The last line of the log that matches, once there is one."""

        def matching():
            return [line for line in self.lines if matches(line)]

        with self._news:
            assert self._news.wait_for(lambda: matching() or self._ended, seconds), (
                f"no such line within {seconds} s: {self.lines}"
            )
            assert matching(), f"ended without it: {self.lines} {''.join(self.other)}"
            return matching()[-1]

    def wait_for(self, event, seconds=150, **fields):
        wanted = {"event": event, **fields}
        return self.wait_for_line(lambda line: wanted.items() <= line.items(), seconds)

    def address(self, kind="grpc"):
        def is_address(line):
            # The stand-in for a model server has one port, whose kind it does not say.
            words = line.get("address", "").split()
            return line["event"] == "listening" and words[0] in (kind, words[-1])

        return self.wait_for_line(is_address)["address"].split()[-1]

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait(60)


def until(condition, seconds=120.0):
    """Wait for a condition that nothing announces."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"it did not happen within {seconds} s"
        time.sleep(0.005)


def figures(server):
    """A gateway's metrics by name and labels."""
    with urllib.request.urlopen(f"http://{server.address('metrics')}/metrics") as answer:
        lines = [
            line.rpartition(" ")
            for line in answer.read().decode().splitlines()
            if not line.startswith("#")
        ]
    return {name: float(value) for name, _, value in lines}


def worker_processes(server):
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def seconds_worked(processes):
    """Seconds of a core that worker processes have used."""
    return sum(process.cpu_times().user for process in processes)


def repeat_frames(cover, frames, path):
    """Write a native instance of many frames, all of them the cover's."""
    dataset = dcmread(cover)
    dataset.decompress()
    dataset.NumberOfFrames = frames
    dataset.PixelData = dataset.PixelData * frames
    dataset.save_as(path)
    return path


@contextmanager
def running(*words, ready=True):
    server = Server(*words)
    try:
        server.address()
        if ready:
            server.wait_for("ready")
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def identity():
    return Identity.generate()


@pytest.fixture(scope="session")
def cover(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(5).save_as(path)
    return path


@pytest.fixture(scope="session")
def model_server():
    with running("model-server", "--listen", "127.0.0.1:0", ready=False) as server:
        yield server


@pytest.fixture(scope="session")
def gateway():
    with running(
        "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--health", "127.0.0.1:0"
    ) as server:
        yield server


@pytest.fixture(scope="session")
def before_model_server(model_server):
    with running(
        "serve", "--listen", "127.0.0.1:0", "--tf-serving", model_server.address()
    ) as server:
        yield server


def callers(client, cover, identity):
    """Two started threads that embed four times each, and the list that gets every answer: an
    instance, or the error.
    """
    answers = []

    def calls():
        for _ in range(4):
            try:
                answers.append(client.embed(cover, identity.recipient).instance)
            except RemoteError as error:
                answers.append(error)

    threads = [threading.Thread(target=calls) for _ in range(2)]
    for thread in threads:
        thread.start()
    return threads, answers
