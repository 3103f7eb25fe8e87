"""Measures the gateway under many callers on loopback, and the same work alone in the same run.

The figures in docs/operator.md are from ``python benchmarks/serving.py --minutes 10``. Every answer
is checked:

* by default callers seal the records, so that the bytes of every stego instance are known
  beforehand, and each answer is compared with them;
* with ``--server-seals`` the gateway de-identifies and seals, and each answer is read back and its
  record compared.

"Alone" is the same work on the same files with the same check, without a network, in as many
processes as the gateway has: half of it before the callers and half afterwards, so that a machine
that becomes warm or busy does not flatter either side. The model's own figure, without DICOM,
sealing, drawing and checking, is printed with it.

``--kill-model-server`` runs the model in the stand-in for TensorFlow Serving, kills it after a
third of the time and starts it again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from serving_alone import Slice, alone, files_alone, is_right, model_alone, prepare

from coverslip.crypto.keys import Identity
from coverslip_edge.engine import LiteRtEngine
from coverslip_serving import Client
from coverslip_serving.errors import RemoteError

MEMORY = Path("/dev/shm")  # noqa: S108
SECONDS_AWAY = 3.0
"""Seconds between the model server's end and its next start."""
SECONDS_TO_RETRY = 5.0
"""Time in which the gateway retries, instead of 30 s: so that some calls fail and some do not."""


@contextmanager
def running(words: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A coverslip server and its address, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "coverslip", *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address = ""
    try:
        for line in process.stderr:
            event = json.loads(line) if line.startswith("{") else {}
            address = event.get("address", address)
            if event.get("event") == "ready" or (words[0] == "model-server" and address):
                break
        else:
            raise SystemExit(f"{words[0]} did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process, address.split()[-1]
    finally:
        process.terminate()
        process.wait()


@dataclass
class Observed:
    """What callers observed.

    Attributes
    ----------
    times : list of (float, float)
        Moment of each good answer, seconds from the start, and how long it took.
    failed : list of (float, str)
        Moment, and status of each call that failed.
    wrong, sent : int
    memory : list of (float, float)
        Moment, and MiB of the gateway with its processes.
    used : (float, float)
        Seconds of a core that the gateway with its processes took, and the callers.
    """

    times: list[tuple[float, float]] = field(default_factory=list)
    failed: list[tuple[float, str]] = field(default_factory=list)
    wrong: int = 0
    sent: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    used: tuple[float, float] = (0.0, 0.0)


class Load:
    """Many callers of one gateway.

    Parameters
    ----------
    address : str
    slices : list of Slice
    identity : Identity
    folder : Path
    seconds : float
    """

    def __init__(
        self, address: str, slices: list[Slice], identity: Identity, folder: Path, seconds: float
    ) -> None:
        self._address = address
        self._slices = slices
        self._identity = identity
        self._folder = folder
        self._seconds = seconds
        self._turn = threading.Lock()
        self._contents = [one.path.read_bytes() for one in slices]
        self.began = 0.0
        self.observed = Observed()

    def _one(self, client: Client, number: int) -> None:
        wanted, began = self._slices[number], time.monotonic()
        try:
            answer = client.embed(
                self._contents[number], self._identity.recipient, sealed=wanted.sealed
            ).instance
        except RemoteError as error:
            with self._turn:
                self.observed.failed.append((time.monotonic() - self.began, error.status))
            time.sleep(0.2)
            return
        took = time.monotonic() - began
        good = is_right(answer, wanted, self._identity, self._folder)
        with self._turn:
            self.observed.wrong += not good
            self.observed.times.append((time.monotonic() - self.began, took))

    def _caller(self, number: int) -> None:
        with Client(self._address, timeout=120) as client:
            while time.monotonic() < self.began + self._seconds:
                with self._turn:
                    self.observed.sent += 1
                self._one(client, number % len(self._slices))
                number += 1

    def run(self, callers: int, process: psutil.Process) -> Observed:
        """Call until the time is over and every call has ended."""
        self.began, used, own = time.monotonic(), _used(process), time.process_time()
        threads = [
            threading.Thread(target=self._caller, args=(number,)) for number in range(callers)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.observed.memory.append((time.monotonic() - self.began, _mib(process)))
            time.sleep(1)
        self.observed.used = (_used(process) - used, time.process_time() - own)
        return self.observed


def _used(process: psutil.Process) -> float:
    return float(
        sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])
    )


def _mib(process: psutil.Process) -> float:
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def print_load(observed: Observed, callers: int) -> float:
    """Print the table of what callers observed, and return the good answers a second."""
    took = max((at for at, _ in observed.times), default=1.0)
    lost = observed.sent - len(observed.times) - len(observed.failed)
    p50, p95, p99 = (
        np.percentile([t for _, t in observed.times], [50, 95, 99])
        if observed.times
        else (0.0, 0.0, 0.0)
    )
    print(f"callers                   {callers}, for {took:.0f} s")
    failed = dict(Counter(status for _, status in observed.failed))
    print(
        f"answers                   {len(observed.times) - observed.wrong} right, "
        f"{observed.wrong} wrong, {lost} lost, failed: {failed or 'none'}"
    )
    print(f"seconds a call            p50 {p50:.3f}  p95 {p95:.3f}  p99 {p99:.3f}")
    parts = np.array_split(
        np.array([mib for _, mib in observed.memory]), min(10, len(observed.memory))
    )
    print(f"MiB, by tenths of it      {' '.join(f'{part.mean():.0f}' for part in parts)}")
    return len(observed.times) / took


def gateway_words(options: argparse.Namespace, folder: Path) -> list[str]:
    """The gateway's command line."""
    limits = ["--calls", str(options.callers), "--parallel", str(options.workers)]
    return ["serve", "--listen", "127.0.0.1:0", *limits, "--spool", str(folder / "spool")]


def run_beside_alone(options: argparse.Namespace, folder: Path, identity: Identity) -> Observed:
    """Run the load, with the same work alone before and after it."""
    slices = prepare(folder, identity, LiteRtEngine(threads=1), options.server_seals)
    seconds, aside = options.minutes * 60, max(options.minutes * 6, 5.0)

    def both() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        words = (folder, slices, identity)
        return alone(model_alone, words, options.workers, aside / 2), alone(
            files_alone, words, options.workers, aside
        )

    before = both()
    with running(gateway_words(options, folder)) as (process, address):
        observed = Load(address, slices, identity, folder, seconds).run(
            options.callers, psutil.Process(process.pid)
        )
    after = both()
    rate = print_load(observed, options.callers)
    raw, piped = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    print(f"processes                 {options.workers}")
    for name, mean, number in (("model", raw, 0), ("file to file", piped, 1)):
        beside = f"({before[number][0]:.2f} before, {after[number][0]:.2f} after)"
        print(
            f"{name + ' alone':<25} {mean[0]:.2f} a second {beside}, {1000 * mean[1]:.1f} ms of "
            "a core each"
        )
    gateway, callers = (1000 * used / len(observed.times) for used in observed.used)
    print(
        f"gateway                   {rate:.2f} a second, {gateway:.1f} ms of a core each, and "
        f"{callers:.1f} ms of its callers'"
    )
    print(
        f"gateway by file to file   {100 * rate / piped[0]:.0f} % of the answers in the same time"
    )
    return observed


def run_through_kill(options: argparse.Namespace, folder: Path, identity: Identity) -> Observed:
    """Run the load on a model server that is killed and started again."""
    from coverslip_graph.engine import TensorFlowEngine

    slices = prepare(folder, identity, TensorFlowEngine(), options.server_seals)
    seconds = options.minutes * 60
    moments: dict[str, float] = {}
    with (
        running(["model-server", "--listen", "127.0.0.1:0"]) as (first, inside),
        running(
            [
                *gateway_words(options, folder),
                "--tf-serving",
                inside,
                "--tf-serving-seconds",
                str(SECONDS_TO_RETRY),
            ]
        ) as (process, address),
    ):
        load = Load(address, slices, identity, folder, seconds)

        def kill() -> None:
            time.sleep(seconds / 3)
            first.kill()
            moments["killed"] = time.monotonic() - load.began
            time.sleep(SECONDS_AWAY)
            with running(["model-server", "--listen", inside]):
                moments["back"] = time.monotonic() - load.began
                over.wait()

        over = threading.Event()
        killer = threading.Thread(target=kill)
        killer.start()
        observed = load.run(options.callers, psutil.Process(process.pid))
        over.set()
        killer.join()
    rate = print_load(observed, options.callers)
    first_good = min((at for at, _ in observed.times if at > moments["back"]), default=float("nan"))
    slow = max((t for at, t in observed.times if at > moments["killed"]), default=0.0)
    print(f"gateway                   {rate:.2f} a second")
    print(
        f"model server              killed at {moments['killed']:.1f} s, back at "
        f"{moments['back']:.1f} s"
    )
    print(f"first answer after it     at {first_good:.1f} s")
    print(
        f"longest good call         {slow:.1f} s: in the queue behind those that waited, and "
        "asked again itself"
    )
    return observed


def main() -> int:
    """Print the table; exit code 1 if an answer was wrong or lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of load (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 2,
        help="processes of the gateway, and of the same work alone",
    )
    parser.add_argument(
        "--server-seals", action="store_true", help="the gateway de-identifies and seals"
    )
    parser.add_argument("--kill-model-server", action="store_true", help="in the middle of it")
    options = parser.parse_args()
    # For both sides in memory if there is room, as docs/operator.md advises for the spool folder.
    with tempfile.TemporaryDirectory(
        dir=MEMORY if MEMORY.is_dir() and psutil.disk_usage(str(MEMORY)).free > 1 << 30 else None
    ) as name:
        Path(name, "spool").mkdir()
        run = run_through_kill if options.kill_model_server else run_beside_alone
        observed = run(options, Path(name), Identity.generate())
    return int(bool(observed.wrong or observed.sent != len(observed.times) + len(observed.failed)))


if __name__ == "__main__":
    sys.exit(main())
