"""Measures the outline with float32, float16 and 8-bit weights: size, time and overlap.

Only the signature ``segment`` is converted from the released SavedModel. Overlap is measured with
the labels of split `val` in ../shared/data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.errors import EngineError
from coverslip.metrics import iou
from coverslip.models import ModelKind, find_model
from coverslip_edge.engine import RUNTIMES, LiteRtEngine
from coverslip_training.records import Slice, read_slices

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
KINDS = ("float32", "float16", "int8")
"""int8 is dynamic-range quantisation: 8-bit weights, and 8-bit arithmetic if the runtime has it."""


def convert(kind: str) -> bytes:
    """Convert the signature ``segment`` to a .tflite of one kind."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(find_model(ModelKind.TENSORFLOW)), signature_keys=["segment"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    model: bytes = converter.convert()
    return model


def overlap(engine: LiteRtEngine, items: list[Slice]) -> dict[str, float]:
    """Measure the mean IoU by modality."""
    overlaps: dict[str, list[float]] = {}
    for item in items:
        mask = engine.segment(item.pixels[np.newaxis].astype(np.int32)).mask[0]
        overlaps.setdefault(item.modality, []).append(iou(mask, item.label))
    return {modality: float(np.mean(shares)) for modality, shares in overlaps.items()}


def least_time(engine: LiteRtEngine, pixels: NDArray[np.int32], rounds: int) -> float:
    """Measure the least time of one outline, seconds."""
    engine.segment(pixels)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        engine.segment(pixels)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take one slice in N")
    parser.add_argument("--rounds", type=int, default=30, help="number of timed runs (default: 30)")
    arguments = parser.parse_args()
    items = list(read_slices(DATA, "val"))[:: arguments.every]
    pixels = np.random.default_rng(0).integers(0, 4096, (1, 512, 512), dtype=np.int32)
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = Path(folder) / f"{kind}.tflite"
            path.write_bytes(convert(kind))
            for runtime in RUNTIMES:
                engine = LiteRtEngine(path, runtimes=(runtime,))
                try:
                    seconds = least_time(engine, pixels, arguments.rounds)
                    shares = "  ".join(
                        f"IoU {modality} {share:.4f}"
                        for modality, share in overlap(engine, items).items()
                    )
                except EngineError as error:
                    print(
                        f"{kind:8} {runtime.split('.')[0]:18} cannot run it: "
                        f"{str(error).splitlines()[0][:90]}"
                    )
                    continue
                print(
                    f"{kind:8} {runtime.split('.')[0]:18} {path.stat().st_size / 1e6:5.1f} MB  "
                    f"{seconds * 1e3:6.1f} ms  {shares}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
