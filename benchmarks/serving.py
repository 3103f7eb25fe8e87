"""The gateway under many callers on loopback, beside the pipeline alone: ``python benchmarks/serving.py --seconds 60``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from coverslip.edge.engine import LiteRtEngine
from coverslip.serving.client import Client
from coverslip.serving.errors import RemoteError
from pydicom import dcmread
from pydicom.data import get_testdata_file

from coverslip import pipeline
from coverslip.dicom.instance import read_instance
from coverslip.invented import write_invented_patient
from coverslip.keys import Identity
from coverslip.scheme.profiles import DEFAULT


def cover_in(folder: Path) -> Path:
    """A 512 x 512 CT slice, uncompressed, with an invented patient."""
    dataset = dcmread(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False))
    dataset.decompress()
    write_invented_patient(dataset, seed=1)
    dataset.save_as(folder / "cover.dcm")
    return folder / "cover.dcm"


def in_process(cover: Path, identity: Identity, folder: Path, seconds: float, threads: int = 2) -> float:
    """Embeddings a second, file to file, in this process."""
    engine, done, until = LiteRtEngine(), Counter[int](), 0.0

    def work(number: int) -> None:
        while time.monotonic() < until:
            target = folder / f"alone-{number}.dcm"
            embedding = pipeline.embed(read_instance(cover), identity.recipient, engine, pipeline.EmbedOptions(DEFAULT))
            embedding.write(target, overwrite=True)
            done[number] += 1

    pipeline.embed(read_instance(cover), identity.recipient, engine, pipeline.EmbedOptions(DEFAULT))
    until = time.monotonic() + seconds
    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return done.total() / seconds


def started(words: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A gateway and its address, once the model has answered."""
    process = subprocess.Popen([sys.executable, "-m", "coverslip", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "listening":
            address = event["address"].split()[-1]
        if event.get("event") == "ready":
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, address
    raise SystemExit("the gateway did not start")


def load(address: str, cover: Path, identity: Identity, seconds: float, callers: int, process: psutil.Process) -> dict[str, object]:
    """Embed from many callers; every tenth answer is read back."""
    times: list[float] = []
    wrong = Counter[str]()
    began_at = time.monotonic()
    until = began_at + seconds
    content = cover.read_bytes()
    memory = []

    def caller() -> None:
        count = 0
        with Client(address, timeout=120) as client:
            while time.monotonic() < until:
                began = time.monotonic()
                try:
                    stego = client.embed(content, identity.recipient).instance
                    times.append(time.monotonic() - began)
                    if count % 10 == 0:
                        client.extract(stego, identity, without_model=True)
                except RemoteError as error:
                    wrong[error.code] += 1
                count += 1

    workers = [threading.Thread(target=caller) for _ in range(callers)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        memory.append(process.memory_info().rss / 2**20)
        time.sleep(1)
    took = time.monotonic() - began_at
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    quarter = max(len(memory) // 4, 1)
    return {
        "embeddings": len(times),
        "failed": dict(wrong),
        "per second": round(len(times) / took, 2),
        "p50 s": round(float(p50), 3),
        "p95 s": round(float(p95), 3),
        "p99 s": round(float(p99), 3),
        "MiB second quarter": round(float(np.mean(memory[quarter : 2 * quarter])), 1),
        "MiB last quarter": round(float(np.mean(memory[-quarter:])), 1),
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=32)
    options = parser.parse_args()
    identity = Identity.generate()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        cover = cover_in(folder)
        alone = in_process(cover, identity, folder, options.seconds / 4)
        process, address = started(["serve", "--listen", "127.0.0.1:0", "--calls", str(options.callers)])
        try:
            table = load(address, cover, identity, options.seconds, options.callers, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait()
    print(f"alone, file to file, 2 threads: {alone:.2f} a second")
    for name, value in table.items():
        print(f"{name:>20}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
