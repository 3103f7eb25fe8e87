"""What goes wrong around a batch: disks, pipes, terminals, processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coverslip.cli import main
from coverslip.cli.batch import SOME_FAILED, Batch, Source
from coverslip.cli.speech import printable
from coverslip.machine import usable_cores


def sources(*names: str) -> list[Source]:
    return [Source(Path(name), Path(name)) for name in names]


def test_nothing_of_a_value_steers_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\n\x00\x9bc") == r"a\x1b[2Jb\x07\n\x00\x9bc"
    assert printable("Müller^Jürgen 山田") == "Müller^Jürgen 山田"


def test_a_full_disk_stops_the_batch_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    worked = []

    def job(source: Source) -> dict[str, object]:
        worked.append(source.path.name)
        if source.path.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        return {}

    code = Batch(as_json=False, verb="trying").run(sources("a", "b", "c"), job, lambda _: "fine")
    assert code == SOME_FAILED
    assert worked == ["a", "b"]
    assert "the disk is full" in capsys.readouterr().err


def test_a_key_for_a_folder_that_is_not_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keygen", str(tmp_path / "missing" / "key")]) == 1
    assert "cannot be written (No such file or directory)" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("x", None)],
)
def test_cores_are_those_that_the_container_gives(
    tmp_path: Path, limit: str, cores: int | None
) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    found = usable_cores(tmp_path / "cpu.max")
    assert found == (cores or everything or found) and found >= 1


WORKERS = """
import os, sys, time
from pathlib import Path
from coverslip.cli.batch import Batch, Source

class Job:
    def __call__(self, source):
        Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["PIDS"], str(os.getpid())).touch()
        time.sleep(60)
        return {}

if __name__ == "__main__":
    Batch(True, "trying", 2).run([Source(Path(n), Path(n)) for n in "ab"], Job(), str)
"""


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_no_worker_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "program.py").write_text(WORKERS)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"], env={**os.environ, "PIDS": str(pids)}
    )
    deadline = time.monotonic() + 60
    while len(list(pids.iterdir())) < 2:
        assert time.monotonic() < deadline and parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(number)
    parent.wait()
    workers = [int(path.name) for path in pids.iterdir()]
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_command_quietly(tmp_path: Path) -> None:
    words = f"{sys.executable} -m coverslip inspect {tmp_path} --json | true"
    (tmp_path / "a.txt").write_text("no DICOM")
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
