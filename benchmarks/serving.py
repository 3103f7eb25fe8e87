"""The gateway under many callers on loopback, beside the engine alone in the same run.

``python benchmarks/serving.py --minutes 10`` is what the figures in docs/operator.md are from.
Every answer is checked:

* by default callers seal the records themselves, so that the bytes of every stego instance are
  known before, and each answer is compared with them;
* with ``--server-seals`` the gateway de-identifies and seals, and each answer is read back and its
  record compared.

"Alone" is the same work on the same files with the same check, without a network, in as many
processes as the gateway works in: half of it before the callers and half of it afterwards, so that
a machine that becomes warm or busy does not flatter either side. The engine's own figure, without
DICOM, sealing, drawing and checking, stands beside it.

``--kill-model-server`` puts the stand-in for TensorFlow Serving behind the gateway, kills it after
a third of the time and starts it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.deidentification.header import deidentify
from coverslip.dicom.instance import read_instance
from coverslip.engine import EmbedRequest
from coverslip.fake_patient import write_fake_patient
from coverslip.scheme.profiles import DEFAULT
from coverslip_edge.engine import LiteRtEngine
from coverslip_serving import Client, seal_instance
from coverslip_serving.errors import RemoteError

SLICES = 6
MEMORY = Path("/dev/shm")  # noqa: S108
AWAY = 3.0
"""Seconds that a model server stays away."""
WAIT_FOR_IT = 5.0
"""Seconds for which the gateway asks a model server that is away, in place of 30: some calls
outlast it and some do not.
"""


@dataclass(frozen=True)
class Slice:
    """One instance and what must come back.

    Attributes
    ----------
    path : Path
        What callers send.
    original : Path
        With its identity.
    sealed : bytes
        The record, sealed by the caller; empty where the server seals.
    expected : bytes
        The stego instance; empty where the server seals.
    record : bytes
        The record, encoded.
    """

    path: Path
    original: Path
    sealed: bytes
    expected: bytes
    record: bytes


def covers(folder: Path) -> list[Path]:
    """512 x 512 CT slices, uncompressed, each with an invented patient: one real head, turned over
    and moved.
    """
    found = []
    for number in range(SLICES):
        dataset = dcmread(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False))
        dataset.decompress()
        plane = np.frombuffer(dataset.PixelData, dtype=np.int16).reshape(
            dataset.Rows, dataset.Columns
        )
        turned = np.roll(plane[:, :: 1 if number % 2 else -1], 4 * (number // 2), axis=0)
        dataset.PixelData = np.ascontiguousarray(turned).tobytes()
        write_fake_patient(dataset, seed=number)
        found.append(folder / f"cover-{number}.dcm")
        dataset.save_as(found[-1])
    return found


def embed(path: Path, sealed: bytes, identity: Identity, engine: Any, target: Path) -> bytes:
    """File to file, as the gateway's workers do it."""
    done = pipeline.embed(
        read_instance(path),
        identity.recipient,
        engine,
        pipeline.EmbedOptions(DEFAULT),
        sealed or None,
    )
    done.write(target, overwrite=True)
    return target.read_bytes()


def prepared(folder: Path, identity: Identity, engine: Any, server_seals: bool) -> list[Slice]:
    """The slices with what must come back."""
    slices = []
    for number, original in enumerate(covers(folder)):
        _, record, _ = deidentify(
            read_instance(original).dataset, pipeline.uid_key(identity.recipient)
        )
        encoded = records.encode(record)
        if server_seals:
            slices.append(Slice(original, original, b"", b"", encoded))
            continue
        clean, sealed = seal_instance(original, identity.recipient)
        path = folder / f"clean-{number}.dcm"
        path.write_bytes(clean)
        slices.append(
            Slice(
                path,
                original,
                sealed,
                embed(path, sealed, identity, engine, folder / "expected.dcm"),
                encoded,
            )
        )
    return slices


def right(answer: bytes, wanted: Slice, identity: Identity, folder: Path) -> bool:
    """Whether a stego instance is what it must be, to the last byte or to the last attribute."""
    if wanted.expected:
        return answer == wanted.expected
    path = folder / f"check-{os.getpid()}-{threading.get_ident()}.dcm"
    path.write_bytes(answer)
    return records.encode(pipeline.extract(read_instance(path), identity).record) == wanted.record


# The engine alone.


def _pipeline_alone(
    folder: Path, slices: list[Slice], identity: Identity, number: int
) -> Callable[[int], None]:
    """One file to file, checked, each time it is called."""
    engine, target = LiteRtEngine(threads=1), folder / f"alone-{number}.dcm"

    def step(count: int) -> None:
        wanted = slices[(number + count) % len(slices)]
        if not right(
            embed(wanted.path, wanted.sealed, identity, engine, target), wanted, identity, folder
        ):
            raise SystemExit("an answer was wrong without any network: nothing else means anything")

    return step


class _Kept(Exception):  # noqa: N818
    """The request that the pipeline would have sent to the engine."""


class _Keeper:
    """Takes the pipeline's request to the engine out of it."""

    name = "keeper"

    def embed(self, request: EmbedRequest) -> Any:
        raise _Kept(request)


def _engine_alone(
    _: Path, slices: list[Slice], identity: Identity, number: int
) -> Callable[[int], None]:
    """One call of the model each time it is called."""
    engine, requests = LiteRtEngine(threads=1), []
    for one in slices:
        try:
            embed(one.path, one.sealed, identity, _Keeper(), one.path)
        except _Kept as kept:
            requests.append(kept.args[0])

    def step(count: int) -> None:
        engine.embed(requests[(number + count) % len(requests)])

    return step


def _in_process(
    kind: Callable[..., Callable[[int], None]],
    words: tuple[Any, ...],
    start: Any,
    seconds: float,
    told: Any,
) -> None:
    step, count = kind(*words), 0
    step(0)
    start.wait()
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + seconds:
        step(count)
        count += 1
    told.put((count / (time.monotonic() - began), (time.process_time() - used) / count))


def alone(
    kind: Callable[..., Callable[[int], None]], words: tuple[Any, ...], workers: int, seconds: float
) -> NDArray[np.float64]:
    """Images a second in as many processes, and seconds of a core for each."""
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(workers), context.Queue()
    started = [
        context.Process(target=_in_process, args=(kind, (*words, number), start, seconds, told))
        for number in range(workers)
    ]
    for process in started:
        process.start()
    rates = np.array([told.get(timeout=seconds + 120) for _ in started])
    for process in started:
        process.join()
    return np.array([rates[:, 0].sum(), rates[:, 1].mean()])


# The gateway.


@contextmanager
def running(words: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A coverslip server and its address, once it answers."""
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
class Seen:
    """What callers saw.

    Attributes
    ----------
    times : list of (float, float)
        Moment of each good answer, seconds from the start, and how long it took.
    failed : list of (float, str)
        Moment and status of each call that failed.
    wrong, sent : int
    memory : list of (float, float)
        Moment and MiB of the gateway with its processes.
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
    """Callers at one gateway.

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
        self.seen = Seen()

    def _one(self, client: Client, number: int) -> None:
        wanted, began = self._slices[number], time.monotonic()
        try:
            answer = client.embed(
                self._contents[number], self._identity.recipient, sealed=wanted.sealed
            ).instance
        except RemoteError as error:
            with self._turn:
                self.seen.failed.append((time.monotonic() - self.began, error.status))
            time.sleep(0.2)
            return
        took = time.monotonic() - began
        good = right(answer, wanted, self._identity, self._folder)
        with self._turn:
            self.seen.wrong += not good
            self.seen.times.append((time.monotonic() - self.began, took))

    def _caller(self, number: int) -> None:
        with Client(self._address, timeout=120) as client:
            while time.monotonic() < self.began + self._seconds:
                with self._turn:
                    self.seen.sent += 1
                self._one(client, number % len(self._slices))
                number += 1

    def run(self, callers: int, process: psutil.Process) -> Seen:
        """Until the time is over and every call has ended."""
        self.began, used, own = time.monotonic(), _used(process), time.process_time()
        threads = [
            threading.Thread(target=self._caller, args=(number,)) for number in range(callers)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.seen.memory.append((time.monotonic() - self.began, _mib(process)))
            time.sleep(1)
        self.seen.used = (_used(process) - used, time.process_time() - own)
        return self.seen


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


def print_load(seen: Seen, callers: int) -> float:
    """The table of what callers saw; good answers a second."""
    took = max((at for at, _ in seen.times), default=1.0)
    lost = seen.sent - len(seen.times) - len(seen.failed)
    p50, p95, p99 = (
        np.percentile([t for _, t in seen.times], [50, 95, 99]) if seen.times else (0.0, 0.0, 0.0)
    )
    print(f"callers                   {callers}, for {took:.0f} s")
    failed = dict(Counter(status for _, status in seen.failed))
    print(
        f"answers                   {len(seen.times) - seen.wrong} right, {seen.wrong} wrong, "
        f"{lost} lost, failed: {failed or 'none'}"
    )
    print(f"seconds a call            p50 {p50:.3f}  p95 {p95:.3f}  p99 {p99:.3f}")
    parts = np.array_split(np.array([mib for _, mib in seen.memory]), min(10, len(seen.memory)))
    print(f"MiB, by tenths of it      {' '.join(f'{part.mean():.0f}' for part in parts)}")
    return len(seen.times) / took


def served(options: argparse.Namespace, folder: Path) -> list[str]:
    """The gateway's command."""
    limits = ["--calls", str(options.callers), "--parallel", str(options.workers)]
    return ["serve", "--listen", "127.0.0.1:0", *limits, "--spool", str(folder / "spool")]


def beside_alone(options: argparse.Namespace, folder: Path, identity: Identity) -> Seen:
    """The load, with the engine alone before and after it."""
    slices = prepared(folder, identity, LiteRtEngine(threads=1), options.server_seals)
    seconds, aside = options.minutes * 60, max(options.minutes * 6, 5.0)

    def both() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        words = (folder, slices, identity)
        return alone(_engine_alone, words, options.workers, aside / 2), alone(
            _pipeline_alone, words, options.workers, aside
        )

    before = both()
    with running(served(options, folder)) as (process, address):
        seen = Load(address, slices, identity, folder, seconds).run(
            options.callers, psutil.Process(process.pid)
        )
    after = both()
    rate = print_load(seen, options.callers)
    raw, piped = ((a + b) / 2 for a, b in zip(before, after, strict=True))
    print(f"processes                 {options.workers}")
    for name, mean, number in (("model", raw, 0), ("file to file", piped, 1)):
        beside = f"({before[number][0]:.2f} before, {after[number][0]:.2f} after)"
        print(
            f"{name + ' alone':<25} {mean[0]:.2f} a second {beside}, {1000 * mean[1]:.1f} ms of "
            "a core each"
        )
    gateway, callers = (1000 * used / len(seen.times) for used in seen.used)
    print(
        f"gateway                   {rate:.2f} a second, {gateway:.1f} ms of a core each, and "
        f"{callers:.1f} ms of its callers'"
    )
    print(
        f"gateway by file to file   {100 * rate / piped[0]:.0f} % of the answers in the same time"
    )
    return seen


def through_a_kill(options: argparse.Namespace, folder: Path, identity: Identity) -> Seen:
    """The load before a model server that is killed and comes back."""
    from coverslip_graph.engine import TensorFlowEngine

    slices = prepared(folder, identity, TensorFlowEngine(), options.server_seals)
    seconds = options.minutes * 60
    moments: dict[str, float] = {}
    with (
        running(["model-server", "--listen", "127.0.0.1:0"]) as (first, inside),
        running(
            [
                *served(options, folder),
                "--tf-serving",
                inside,
                "--tf-serving-seconds",
                str(WAIT_FOR_IT),
            ]
        ) as (process, address),
    ):
        load = Load(address, slices, identity, folder, seconds)

        def kill() -> None:
            time.sleep(seconds / 3)
            first.kill()
            moments["killed"] = time.monotonic() - load.began
            time.sleep(AWAY)
            with running(["model-server", "--listen", inside]):
                moments["back"] = time.monotonic() - load.began
                over.wait()

        over = threading.Event()
        killer = threading.Thread(target=kill)
        killer.start()
        seen = load.run(options.callers, psutil.Process(process.pid))
        over.set()
        killer.join()
    rate = print_load(seen, options.callers)
    first_good = min((at for at, _ in seen.times if at > moments["back"]), default=float("nan"))
    slow = max((t for at, t in seen.times if at > moments["killed"]), default=0.0)
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
    return seen


def main() -> int:
    """Print the table; 1 where an answer was wrong or lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of load (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 2,
        help="processes of the gateway, and of the engine alone",
    )
    parser.add_argument(
        "--server-seals", action="store_true", help="the gateway de-identifies and seals"
    )
    parser.add_argument("--kill-model-server", action="store_true", help="in the middle of it")
    options = parser.parse_args()
    # In memory where there is room, as docs/operator.md has it for instances under way; for both
    # sides.
    with tempfile.TemporaryDirectory(
        dir=MEMORY if MEMORY.is_dir() and psutil.disk_usage(str(MEMORY)).free > 1 << 30 else None
    ) as made:
        Path(made, "spool").mkdir()
        run = through_a_kill if options.kill_model_server else beside_alone
        seen = run(options, Path(made), Identity.generate())
    return int(bool(seen.wrong or seen.sent != len(seen.times) + len(seen.failed)))


if __name__ == "__main__":
    sys.exit(main())
