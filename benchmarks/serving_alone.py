"""The work of a gateway without a gateway: what benchmarks/serving.py compares it with."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
from coverslip_serving import seal_instance

SLICES = 6


@dataclass(frozen=True)
class Slice:
    """One instance, and the answer that is right for it.

    Attributes
    ----------
    path : Path
        The file that callers send.
    original : Path
        The file with its identity.
    sealed : bytes
        The record, sealed by the caller; empty if the server seals.
    expected : bytes
        The stego instance; empty if the server seals.
    record : bytes
        The record, encoded.
    """

    path: Path
    original: Path
    sealed: bytes
    expected: bytes
    record: bytes


def write_covers(folder: Path) -> list[Path]:
    """Write 512 x 512 CT slices, uncompressed: one real head, mirrored and shifted.

    Each has a fake patient of its own.
    """
    paths = []
    for number in range(SLICES):
        dataset = dcmread(str(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)))
        dataset.decompress()
        plane = np.frombuffer(dataset.PixelData, dtype=np.int16).reshape(
            dataset.Rows, dataset.Columns
        )
        turned = np.roll(plane[:, :: 1 if number % 2 else -1], 4 * (number // 2), axis=0)
        dataset.PixelData = np.ascontiguousarray(turned).tobytes()
        write_fake_patient(dataset, seed=number)
        paths.append(folder / f"cover-{number}.dcm")
        dataset.save_as(paths[-1])
    return paths


def embed(path: Path, sealed: bytes, identity: Identity, engine: Any, target: Path) -> bytes:
    """Embed one file into another, as the gateway's workers do."""
    done = pipeline.embed(
        read_instance(path),
        identity.recipient,
        engine,
        pipeline.EmbedOptions(DEFAULT),
        sealed or None,
    )
    done.write(target, overwrite=True)
    return target.read_bytes()


def prepare(folder: Path, identity: Identity, engine: Any, server_seals: bool) -> list[Slice]:
    """The slices, with the answers that are right for them."""
    slices = []
    for number, original in enumerate(write_covers(folder)):
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


def is_right(answer: bytes, wanted: Slice, identity: Identity, folder: Path) -> bool:
    """Whether a stego instance is right, to the last byte or to the last attribute."""
    if wanted.expected:
        return answer == wanted.expected
    path = folder / f"check-{os.getpid()}-{threading.get_ident()}.dcm"
    path.write_bytes(answer)
    return records.encode(pipeline.extract(read_instance(path), identity).record) == wanted.record


def files_alone(
    folder: Path, slices: list[Slice], identity: Identity, number: int
) -> Callable[[int], None]:
    """A function that embeds one file into another and checks it."""
    engine, target = LiteRtEngine(threads=1), folder / f"alone-{number}.dcm"

    def step(count: int) -> None:
        wanted = slices[(number + count) % len(slices)]
        if not is_right(
            embed(wanted.path, wanted.sealed, identity, engine, target), wanted, identity, folder
        ):
            raise SystemExit(
                "an answer was wrong without any network: no figure would mean anything"
            )

    return step


class _Captured(Exception):  # noqa: N818
    """Holds the request that the pipeline would have sent to the engine."""


class _Capture:
    """An engine that captures the pipeline's request."""

    name = "capture"

    def embed(self, request: EmbedRequest) -> Any:
        raise _Captured(request)


def model_alone(
    _: Path, slices: list[Slice], identity: Identity, number: int
) -> Callable[[int], None]:
    """A function that calls the model once."""
    engine, requests = LiteRtEngine(threads=1), []
    for one in slices:
        try:
            embed(one.path, one.sealed, identity, _Capture(), one.path)
        except _Captured as captured:
            requests.append(captured.args[0])

    def step(count: int) -> None:
        engine.embed(requests[(number + count) % len(requests)])

    return step


def _in_process(
    kind: Callable[..., Callable[[int], None]],
    words: tuple[Any, ...],
    start: Any,
    seconds: float,
    rates: Any,
) -> None:
    step, count = kind(*words), 0
    step(0)
    start.wait()
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() < began + seconds:
        step(count)
        count += 1
    rates.put((count / (time.monotonic() - began), (time.process_time() - used) / count))


def alone(
    kind: Callable[..., Callable[[int], None]], words: tuple[Any, ...], workers: int, seconds: float
) -> NDArray[np.float64]:
    """Images a second in a number of processes, and seconds of a core for each image."""
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(workers), context.Queue()
    started = [
        context.Process(target=_in_process, args=(kind, (*words, number), start, seconds, queue))
        for number in range(workers)
    ]
    for process in started:
        process.start()
    rates = np.array([queue.get(timeout=seconds + 120) for _ in started])
    for process in started:
        process.join()
    return np.array([rates[:, 0].sum(), rates[:, 1].mean()])
