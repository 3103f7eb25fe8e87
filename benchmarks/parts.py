"""Measures the time of each part in each runtime: `make bench`.

The runtimes take turns within one run, so that a busy machine slows all of them. Prints the median
and the least time in milliseconds, and the least as a multiple of the numpy reference's. The
embedding without its network is the released graph's own code, built here with the mask as an
input. tflite-runtime uses TensorFlow's newer kernels when both are in one process, as here; for its
own times see ``series.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from scipy import fft

from coverslip.engine import EmbedRequest, Engine
from coverslip.errors import ModelMissingError
from coverslip.scheme import dct
from coverslip.scheme.dither import dither_plane
from coverslip.scheme.phases import phase_plane
from coverslip.scheme.profiles import DEFAULT
from coverslip.scheme.reference import ReferenceEngine, measure_plane
from coverslip_edge.engine import RUNTIMES, LiteRtEngine, load_interpreter
from coverslip_graph import module
from coverslip_graph.blocks import forward, to_blocks
from coverslip_graph.engine import TensorFlowEngine
from coverslip_graph.export import trial

Run = Callable[[], object]
"""A timed call."""

Function = Callable[..., Any]
"""A signature or a reference function, called with inputs by name."""
MASK = tf.TensorSpec([None, None, None], tf.uint8, name="mask")
BURST, WARM = 10, 3
"""Number of timed and of untimed runs before the next runtime's turn."""

MODULES = 77
"""Modules on a side of the symbol: 450 sealed bytes at level L."""


class BlockWork(tf.Module):
    """The graph without its network."""

    @tf.function(input_signature=[module.PIXELS, MASK, *module.EMBED[1:]])
    def embed(self, pixels: tf.Tensor, mask: tf.Tensor, *others: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embed around a given mask."""
        stego, carriers = module.embed_planes(pixels, mask, *others)
        return {"stego": stego, "carriers": carriers}

    @tf.function(input_signature=[module.PIXELS, module.STEP])
    def extract(self, pixels: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Measure phases."""
        return {"phases": module.measure_planes(pixels, step)}

    @tf.function(input_signature=[module.PIXELS])
    def transform(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Compute the block DCT of a plane."""
        return {"coefficients": forward(to_blocks(tf.cast(pixels, tf.float32)))}


def installed() -> dict[str, str]:
    """Names of the installed LiteRT runtimes, by module."""
    labels = dict(zip(RUNTIMES, ("LiteRT", "tflite-runtime"), strict=True))
    return {
        name: label
        for name, label in labels.items()
        if importlib.util.find_spec(name.split(".")[0])
    }


def build(folder: Path, threads: int) -> dict[str, dict[str, Function]]:
    """Build `BlockWork` in every runtime: functions by runtime, then by signature."""
    work = BlockWork()
    names = ("embed", "extract", "transform")
    tf.saved_model.save(
        work, str(folder / "work"), signatures={name: getattr(work, name) for name in names}
    )
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "work"), signature_keys=list(names)
    )
    (folder / "work.tflite").write_bytes(converter.convert())
    loaded = tf.saved_model.load(str(folder / "work"))
    interpreters = {
        label: load_interpreter(folder / "work.tflite", threads, (name,))
        for name, label in installed().items()
    }

    def tensorflow(name: str) -> Function:
        signature = loaded.signatures[name]
        return lambda **inputs: {
            key: value.numpy()
            for key, value in signature(**{k: tf.constant(v) for k, v in inputs.items()}).items()
        }

    return {
        **{
            label: {name: interpreter.get_signature_runner(name) for name in names}
            for label, interpreter in interpreters.items()
        },
        "TensorFlow": {name: tensorflow(name) for name in names},
    }


def timed(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Measure the median and the least time of each run, milliseconds.

    Runs take turns in bursts, because the idle threads of a runtime spin for a while and would take
    the cores from the next one. The first runs of a burst are not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(-(-rounds // BURST)):
        for name, run in runs.items():
            for number in range(BURST + WARM):
                start = time.perf_counter()
                run()
                if number >= WARM:
                    times[name].append((time.perf_counter() - start) * 1e3)
    return {name: (float(np.median(values)), min(values)) for name, values in times.items()}


def engine_parts(request: EmbedRequest, engines: dict[str, Engine]) -> dict[str, dict[str, Run]]:
    """The parts that include the network: runs by part, then by runtime."""
    return {
        "segment (the network)": {
            name: partial(engine.segment, request.pixels) for name, engine in engines.items()
        },
        "embed": {name: partial(engine.embed, request) for name, engine in engines.items()},
        "extract": {
            name: partial(engine.extract, request.pixels, request.step)
            for name, engine in engines.items()
        },
    }


def block_parts(
    request: EmbedRequest, work: dict[str, dict[str, Function]]
) -> dict[str, dict[str, Run]]:
    """The parts without the network: runs by part, then by runtime."""
    size = request.pixels.shape[1]
    mask = (request.pixels > 1000).astype(np.uint8)
    reference = ReferenceEngine(lambda _: mask[0])
    blocks = dct.to_blocks(request.pixels[0])
    square = blocks.reshape(*blocks.shape[:2], 4, 4).astype(np.float32)
    symbol = np.random.default_rng(1).random((MODULES, MODULES)) < 0.5
    dither = dither_plane(bytes(32), size // 4, size // 4)
    inputs = {**vars(request), "mask": mask}

    def embed_reference(**arrays: Any) -> object:
        return reference.embed(EmbedRequest(**{name: arrays[name] for name in vars(request)}))

    def with_phase_plane(function: Function) -> Run:
        def run() -> object:
            plane = phase_plane(symbol, dither, DEFAULT)
            arrays = {"phases": plane.phases[np.newaxis], "slots": plane.slots[np.newaxis]}
            return function(**{**inputs, **arrays})

        return run

    def in_runtimes(part: str, **arguments: Any) -> dict[str, Run]:
        return {name: partial(functions[part], **arguments) for name, functions in work.items()}

    return {
        "block DCT": {
            "numpy": lambda: blocks.astype(np.float32) @ dct.BASIS.T.astype(np.float32),
            "scipy.fft": lambda: fft.dctn(square, axes=(2, 3), norm="ortho"),
            **in_runtimes("transform", pixels=request.pixels),
        },
        "phase plane": {"numpy": with_phase_plane(lambda **arrays: arrays)},
        "measure, no network": {
            "numpy": lambda: measure_plane(request.pixels[0], float(request.step[0])),
            **in_runtimes("extract", pixels=request.pixels, step=request.step),
        },
        "embed, no network": {
            "numpy": lambda: reference.embed(request),
            **in_runtimes("embed", **inputs),
        },
        "embed, no network, with phase plane": {
            "numpy": with_phase_plane(embed_reference),
            **{name: with_phase_plane(functions["embed"]) for name, functions in work.items()},
        },
    }


def open_engines(threads: int) -> dict[str, Engine]:
    """Open the released model in every runtime; none if there is no model."""
    engines: dict[str, Engine] = {
        label: LiteRtEngine(threads=threads, runtimes=(name,))
        for name, label in installed().items()
    }
    engines["TensorFlow"] = TensorFlowEngine()
    try:
        for engine in engines.values():
            engine.segment(np.zeros((1, 64, 64), np.int32))
    except ModelMissingError as error:
        print(f"without the network: {error}", file=sys.stderr)
        return {}
    return engines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[256, 512, 1024],
        help="sides of the images, pixels (default: 256 512 1024)",
    )
    parser.add_argument(
        "--rounds", type=int, default=30, help="number of timed rounds of each part (default: 30)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads of LiteRT (default: 2)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args(arguments)
    engines = open_engines(options.threads)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        work = build(Path(scratch), options.threads)
        for size in options.sizes:
            request = trial(size, size, 4095, 1)
            parts = {**block_parts(request, work), **engine_parts(request, engines)}
            for part, runs in parts.items():
                if not runs:
                    continue
                times = timed(runs, options.rounds)
                base = times.get("numpy", next(iter(times.values())))[1]
                results += [
                    {
                        "size": size,
                        "part": part,
                        "with": name,
                        "median_ms": median,
                        "least_ms": least,
                        "ratio": least / base,
                    }
                    for name, (median, least) in times.items()
                ]
    if options.json:
        print(json.dumps({"load": os.getloadavg(), "rows": results}, indent=2))
        return 0
    print(
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; times in ms; ratio of "
        "the least to numpy's, else to the first's"
    )
    print(f"{'size':>5}  {'part':36} {'with':14} {'median':>9} {'least':>9} {'ratio':>7}")
    for row in results:
        print(
            f"{row['size']:5}  {row['part']:36} {row['with']:14} {row['median_ms']:9.2f} "
            f"{row['least_ms']:9.2f} {row['ratio']:7.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
