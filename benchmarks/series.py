"""Embeds a series of 200 slices of 512 x 512 in each runtime: time and memory (`make bench`).

The series is embedded in windows, as Coverslip does with a long instance. The network alone is
timed slice by slice, as for a single image, and in the same windows. "Instance" is the whole of
`coverslip embed` on one instance with as many slices, each read back.

Every runtime runs in a process of its own, so that its memory can be measured; the slices are drawn
as they are needed.
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
from numpy.typing import NDArray

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
"""Number of windows before memory is first read, so that the runtime has its buffers."""


def draw_slice(number: int, size: int) -> NDArray[np.int32]:
    """Draw a bright ellipse, different in each slice, on dark noise; int32 [size, size]."""
    random = np.random.default_rng(number)
    row, column = np.ogrid[:size, :size]
    reach = 0.3 + 0.001 * (number % 50)
    body = ((row / size - 0.5) / reach) ** 2 + ((column / size - 0.5) / reach) ** 2 < 1
    pixels = np.where(
        body, 1050 + random.normal(0, 30, (size, size)), 24 + random.normal(0, 6, (size, size))
    )
    return pixels.clip(0, 4095).astype(np.int32)


def request(pixels: NDArray[np.int32], symbol: NDArray[np.bool_]) -> EmbedRequest:
    """Make the request to embed a symbol into slices [B, H, W]."""
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
    """Open the engine of a runtime, by its module."""
    if runtime == "tensorflow":
        from coverslip_graph.engine import TensorFlowEngine

        return TensorFlowEngine()
    return LiteRtEngine(threads=threads, runtimes=(runtime,))


def time_instance(engine: Engine, slices: int, size: int) -> float:
    """Measure embedding one instance of as many slices, milliseconds for each slice."""
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


def measure(runtime: str, slices: int, size: int, threads: int) -> dict[str, float]:
    """Embed one series in this process; milliseconds for each slice, memory in MiB.

    The network alone and the whole embedding take turns, so that a busy machine slows both.
    """
    engine, process = engine_of(runtime, threads), psutil.Process()
    symbol = np.random.default_rng(1).random((MODULES, MODULES)) < 0.5
    times: dict[str, list[float]] = {"network, slice by slice": [], "network": [], "embed": []}
    memory = []
    for start in range(0, slices, WINDOW):
        pixels = np.stack(
            [draw_slice(number, size) for number in range(start, min(start + WINDOW, slices))]
        )
        marks = [time.perf_counter()]
        for one in pixels:
            engine.segment(one[np.newaxis])
        marks.append(time.perf_counter())
        engine.segment(pixels)
        marks.append(time.perf_counter())
        engine.embed(request(pixels, symbol))
        marks.append(time.perf_counter())
        for name, seconds in zip(times, np.diff(marks), strict=True):
            times[name].append(1e3 * float(seconds) / len(pixels))
        memory.append(process.memory_info().rss / 2**20)
    warm = min(WARM, len(memory) // 2)
    middle = {name: float(np.median(values[warm:])) for name, values in times.items()}
    return {
        **{f"{name}, ms": value for name, value in middle.items()},
        "embed / network, slice by slice": middle["embed"] / middle["network, slice by slice"],
        "embed / network": middle["embed"] / middle["network"],
        "MiB early": memory[warm],
        "MiB end": memory[-1],
        "instance, ms": time_instance(engine, slices, size),
    }


def main() -> int:
    """Measure every installed runtime, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads of LiteRT (default: 2)"
    )
    parser.add_argument(
        "--runtime",
        choices=(*RUNTIMES, "tensorflow"),
        help="measure only this runtime, in this process, and print JSON",
    )
    options = parser.parse_args()
    if options.runtime:
        print(json.dumps(measure(options.runtime, options.slices, options.size, options.threads)))
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
