"""A series of 200 slices of 512 x 512 through each runtime: time against the network's own, and
memory. `make bench`.

The series goes through in windows, as the product takes a long instance; the network alone is timed
slice by slice, as one image has it, and in the same windows. "Instance" is all that `coverslip
embed` does with as many slices as one instance, each read back.

Every runtime works in a process of its own, so that its memory is its own; the slices are drawn as
they are needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil
from memory import write_source

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.instance import read_instance
from coverslip.engine import EmbedRequest, Engine
from coverslip.pixels.frames import WINDOW
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.dither import dither_plane
from coverslip.scheme.phases import phase_plane
from coverslip.scheme.profiles import DEFAULT
from coverslip_edge.engine import RUNTIMES, LiteRtEngine

LABELS = {
    "ai_edge_litert.interpreter": "LiteRT",
    "tflite_runtime.interpreter": "tflite-runtime",
    "tensorflow": "TensorFlow",
}
MODULES = 77
WARM = 3
"""Windows after which memory is read first: the runtime has its buffers by then."""


def picture(number: int, size: int) -> np.ndarray:
    """A bright ellipse that changes from slice to slice on dark noise, int32 [size, size]."""
    random = np.random.default_rng(number)
    row, column = np.ogrid[:size, :size]
    reach = 0.3 + 0.001 * (number % 50)
    body = ((row / size - 0.5) / reach) ** 2 + ((column / size - 0.5) / reach) ** 2 < 1
    pixels = np.where(
        body, 1050 + random.normal(0, 30, (size, size)), 24 + random.normal(0, 6, (size, size))
    )
    return pixels.clip(0, 4095).astype(np.int32)


def request(pixels: np.ndarray, symbol: np.ndarray) -> EmbedRequest:
    """What the caller makes of slices [B, H, W]: the phase plane of a symbol under a keystream."""
    batch, rows, cols = pixels.shape
    plane = phase_plane(symbol, dither_plane(bytes(32), rows // SIDE, cols // SIDE), DEFAULT)
    return EmbedRequest(
        pixels=pixels,
        legal=np.tile(np.array([0, 4095], np.int32), (batch, 1)),
        padding=np.full(batch, -1, np.int32),
        phases=np.broadcast_to(plane.phases, (batch, *plane.phases.shape)),
        slots=np.broadcast_to(plane.slots, (batch, *plane.slots.shape)),
        coefficients=np.ones((batch, COEFFICIENTS), np.float32),
        step=np.full(batch, DEFAULT.step, np.float32),
        votes=np.full(batch, DEFAULT.votes, np.int32),
        margin=np.full(batch, DEFAULT.margin, np.int32),
    )


def engine_of(runtime: str, threads: int) -> Engine:
    """The engine of a runtime's module."""
    if runtime == "tensorflow":
        from coverslip_graph.engine import TensorFlowEngine

        return TensorFlowEngine()
    return LiteRtEngine(threads=threads, runtimes=(runtime,))


def whole(engine: Engine, slices: int, size: int) -> float:
    """What embedding as many slices as one instance takes, ms for each."""
    with tempfile.TemporaryDirectory() as folder:
        write_source(Path(folder) / "source.dcm", slices, size)
        source = read_instance(Path(folder) / "source.dcm")
        begin = time.perf_counter()
        pipeline.embed(
            source,
            Identity.generate().recipient,
            engine,
            pipeline.EmbedOptions(DEFAULT),
            spool=Path(folder),
        )
        return 1e3 * (time.perf_counter() - begin) / slices


def measured(runtime: str, slices: int, size: int, threads: int) -> dict[str, float]:
    """One series in this process; times in ms for each slice, memory in MiB.

    The network alone and the whole embedding take turns, so that a busy machine is busy for both.
    """
    engine, process = engine_of(runtime, threads), psutil.Process()
    symbol = np.random.default_rng(1).random((MODULES, MODULES)) < 0.5
    times: dict[str, list[float]] = {"network, slice by slice": [], "network": [], "embed": []}
    memory = []
    for start in range(0, slices, WINDOW):
        pixels = np.stack(
            [picture(number, size) for number in range(start, min(start + WINDOW, slices))]
        )
        runs = {
            "network, slice by slice": lambda pixels=pixels: [
                engine.segment(one[np.newaxis]) for one in pixels
            ],
            "network": lambda pixels=pixels: engine.segment(pixels),
            "embed": lambda pixels=pixels: engine.embed(request(pixels, symbol)),
        }
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begin) / len(pixels))
        memory.append(process.memory_info().rss / 2**20)
    warm = min(WARM, len(memory) // 2)
    middle = {name: float(np.median(values[warm:])) for name, values in times.items()}
    return {
        **{f"{name}, ms": value for name, value in middle.items()},
        "embed / network, slice by slice": middle["embed"] / middle["network, slice by slice"],
        "embed / network": middle["embed"] / middle["network"],
        "MiB early": memory[warm],
        "MiB end": memory[-1],
        "instance, ms": whole(engine, slices, size),
    }


def main() -> int:
    """Run it: every runtime that is installed, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2, help="threads for LiteRT (default: 2)")
    parser.add_argument(
        "--runtime",
        choices=(*RUNTIMES, "tensorflow"),
        help="only this one, in this process, as JSON",
    )
    options = parser.parse_args()
    if options.runtime:
        print(json.dumps(measured(options.runtime, options.slices, options.size, options.threads)))
        return 0
    print(
        f"{options.slices} slices of {options.size} x {options.size}; load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    for runtime in (*RUNTIMES, "tensorflow"):
        if importlib.util.find_spec(runtime.split(".")[0]) is None:
            continue
        words = [sys.executable, str(Path(__file__)), "--runtime", runtime]
        words += [
            "--slices",
            str(options.slices),
            "--size",
            str(options.size),
            "--threads",
            str(options.threads),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{LABELS[runtime]:16}"
            + "; ".join(f"{name} {value:.2f}" for name, value in row.items())
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
