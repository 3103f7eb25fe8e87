"""Other people's programs, which tests let handle what Coverslip writes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

_START_SECONDS = 60
_REQUEST_SECONDS = 60


def find_program(name: str) -> str | None:
    """The path of a program; Debian keeps servers in folders that are not on everybody's path."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def need(*programs: str) -> None:
    """Skip a test whose programs are not all installed."""
    missing = [name for name in programs if find_program(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: see 'make system-packages'")


def run(*words: object) -> str:
    """Run a program to its end; what it printed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Orthanc:
    """A running Orthanc, spoken to by C-STORE and REST.

    Parameters
    ----------
    dicom_port, http_port : int
        On the loopback interface.
    """

    def __init__(self, dicom_port: int, http_port: int) -> None:
        self._dicom_port = dicom_port
        self._url = f"http://127.0.0.1:{http_port}"

    def get(self, path: str) -> bytes:
        """The answer to a GET request."""
        with urllib.request.urlopen(self._url + path, timeout=_REQUEST_SECONDS) as answer:
            content: bytes = answer.read()
            return content

    def post(self, path: str, body: Mapping[str, object] | str) -> bytes:
        """The answer to a POST request; a mapping goes as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)
        request = urllib.request.Request(self._url + path, text.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
            content: bytes = answer.read()
            return content

    def store(self, path: Path, *choices: str) -> str:
        """Send a file by C-STORE; Orthanc's name of the instance.

        Parameters
        ----------
        path : Path
        *choices : str
            Of storescu, such as the transfer syntax to propose.
        """
        run("storescu", *choices, "127.0.0.1", self._dicom_port, path)
        uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        (answer,) = json.loads(self.post("/tools/lookup", uid))
        name: str = answer["ID"]
        return name

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            self.get("/system")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """A new, empty Orthanc on the loopback interface, stopped at the end.

    Parameters
    ----------
    folder : Path
        For its storage and its log.
    """
    dicom, http = _free_port(), _free_port()
    configuration = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "HttpPort": http,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "OverwriteInstances": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    orthanc = Orthanc(dicom, http)
    program = find_program("Orthanc")
    assert program is not None
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not orthanc.is_up():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield orthanc
    finally:
        process.terminate()
        process.wait(_START_SECONDS)
