"""A real CT with an invented patient, and servers as real processes on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

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

    def wait_for(self, event, seconds=150, **fields):
        def found():
            return [
                e
                for e in self.lines
                if e["event"] == event and all(e.get(k) == v for k, v in fields.items())
            ]

        with self._news:
            assert self._news.wait_for(lambda: found() or self._ended, seconds), (
                f"no {event} within {seconds} s: {self.lines}"
            )
            assert found(), f"ended without {event}: {self.lines} {''.join(self.other)}"
            return found()[-1]

    def address(self, kind="grpc"):
        with self._news:
            pass
        self.wait_for("listening")
        for _ in range(600):
            for line in self.lines:
                words = line.get("address", "").split()
                if line["event"] == "listening" and (words[0] == kind or len(words) == 1):
                    return words[-1]
            threading.Event().wait(0.1)
        raise AssertionError(f"no address of {kind}")

    def stop(self):
        self.process.terminate()
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait(60)


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
