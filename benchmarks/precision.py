"""What half floats and 8 bits would do to the outline: size, time, and overlap with the labels of
`val`. Prints a table.

The network's signature alone is converted, three ways, from the released SavedModel. The slices lie
in ../shared/data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from coverslip.errors import EngineError
from coverslip.metrics import iou
from coverslip.models import ModelKind, find_model
from coverslip_edge.engine import RUNTIMES, LiteRtEngine
from coverslip_training.records import Slice, read_slices

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
KINDS = ("float32", "float16", "int8")
"""int8 is dynamic-range quantisation: weights in 8 bits, arithmetic in 8 bits where the runtime has
it.
"""


def convert(kind: str) -> bytes:
    """The signature ``segment`` as a .tflite of one kind."""
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
    """Mean IoU by modality."""
    found: dict[str, list[float]] = {}
    for item in items:
        mask = engine.segment(item.pixels[np.newaxis].astype(np.int32)).mask[0]
        found.setdefault(item.modality, []).append(iou(mask, item.label))
    return {modality: float(np.mean(shares)) for modality, shares in found.items()}


def least(engine: LiteRtEngine, pixels: np.ndarray, rounds: int) -> float:
    """Least time of one outline, seconds."""
    engine.segment(pixels)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        engine.segment(pixels)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="take one slice in N")
    parser.add_argument("--rounds", type=int, default=30)
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
                    seconds = least(engine, pixels, arguments.rounds)
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
