"""Measures peak memory and time of embedding, extracting and restoring instances of many frames.

Run it with ``python benchmarks/memory.py``. Each measurement runs in a process of its own, since a
process's peak never falls. ``--gateway`` streams the instance through a gateway process on loopback
instead, and reports the peaks of the server's processes and of the client separately.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from coverslip import fake_patient, pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.objects import read_object
from coverslip.pixels.scratch import PartStream
from coverslip.scheme.profiles import PROFILES
from coverslip.scheme.reference import ReferenceEngine
from coverslip_edge.engine import LiteRtEngine

MIB = 1 << 20
_BODY = 1400
"""Grey level of the drawn body."""


def write_source(path: Path, frames: int, side: int) -> None:
    """Write an instance of a fake patient, 12 bits: an ellipse on noise, changing by frame."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.Modality = MRImageStorage, "MR"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.TransferSyntaxUID = (
        MRImageStorage,
        ExplicitVRLittleEndian,
    )
    fake_patient.write_fake_patient(ds, 7)
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames, side, side
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11

    def parts() -> Iterator[bytes]:
        random = np.random.default_rng(frames)
        across = np.linspace(-1, 1, side)
        for number in range(frames):
            wide = 0.35 + 0.1 * np.sin(number / 50)
            body = (across[:, None] / 0.6) ** 2 + (across / wide) ** 2 < 1
            plane = np.where(body, _BODY, 60) + random.integers(0, 40, (side, side))
            yield plane.astype("<u2").tobytes()

    ds.add_new(0x7FE00010, "OW", PartStream(parts, frames * side * side * 2))
    ds.save_as(path, enforce_file_format=True)


def peak() -> int:
    """Peak memory of this process, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(folder: Path, profile: str, outline: bool) -> dict[str, float]:
    """Embed, extract and restore ``source.dcm``; measure seconds and the peak after each."""
    engine = (
        ReferenceEngine(lambda pixels: (pixels > _BODY // 2).astype(np.uint8))
        if outline
        else LiteRtEngine()
    )
    identity = Identity.generate()
    figures: dict[str, float] = {"start": peak()}
    began = time.perf_counter()
    options = pipeline.EmbedOptions(PROFILES[profile])
    done = pipeline.embed(
        read_object(folder / "source.dcm"), identity.recipient, engine, options, spool=folder
    )
    done.write(folder / "stego.dcm")
    figures |= {
        "embed": peak(),
        "embed_seconds": time.perf_counter() - began,
        "carrying": done.report.frames_carrying,
    }
    began = time.perf_counter()
    stego = read_object(folder / "stego.dcm")
    found = pipeline.extract(stego, identity, engine)
    restoration = pipeline.restore(stego, found, identity.recipient)
    if restoration.restored_as is not pipeline.RestoredAs.ORIGINAL_FILE:
        raise SystemExit("the original file did not come back")
    restoration.write(folder / "restored.dcm")
    return figures | {"restore": peak(), "restore_seconds": time.perf_counter() - began}


def measure(
    frames: int, side: int, profile: str, folder: Path | None, outline: bool
) -> dict[str, float]:
    """Do the same in a process of its own, on a new file."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_source(Path(scratch) / "source.dcm", frames, side)
        return _run_apart(
            "--work", scratch, "--profile", profile, *(["--outline"] if outline else [])
        )


def _run_apart(*words: str) -> dict[str, float]:
    """Run this program in a process of its own; return its figures."""
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def call(folder: Path, profile: str, address: str) -> dict[str, float]:
    """Embed ``source.dcm`` through a gateway and read the record; seconds and the client's peak."""
    from coverslip_serving import Client

    identity = Identity.generate()
    began = time.perf_counter()
    with Client(address, timeout=7200) as client:
        done = client.embed_to_file(
            folder / "source.dcm", folder / "stego.dcm", identity.recipient, profile
        )
        embedded = time.perf_counter()
        extraction = client.extract_file(folder / "stego.dcm", identity)
    if len(extraction.record) != done.report.recorded:
        raise SystemExit("the record that came back is not the one that was embedded")
    return {
        "client": peak(),
        "embed_seconds": embedded - began,
        "extract_seconds": time.perf_counter() - embedded,
        "carrying": done.report.frames_carrying,
    }


def _peak_of(process: psutil.Process) -> int:
    """Peak memory of another process, bytes (Linux)."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(match[1]) * 1024 if match else 0


def serve(frames: int, side: int, profile: str, folder: Path | None) -> dict[str, float]:
    """Do the same through a gateway with one worker process, which spools beside the file."""
    # The other measurements need none of the packages that it imports.
    from serving import running

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_source(Path(scratch) / "source.dcm", frames, side)
        (Path(scratch) / "spool").mkdir()
        words = [
            "--listen",
            "127.0.0.1:0",
            "--seconds",
            "7200",
            "--parallel",
            "1",
            "--spool",
            str(Path(scratch) / "spool"),
        ]
        with running(["serve", *words]) as (process, address):
            gateway = psutil.Process(process.pid)
            idle = sum(_peak_of(one) for one in [gateway, *gateway.children(recursive=True)])
            figures = _run_apart("--call", address, "--work", scratch, "--profile", profile)
            figures |= {
                "idle": idle,
                "server": sum(
                    _peak_of(one) for one in [gateway, *gateway.children(recursive=True)]
                ),
            }
    return figures


def _describe(figures: dict[str, float]) -> str:
    """Describe a measurement in a line."""
    mib = {name: f"{value / MIB:.0f} MiB" for name, value in figures.items()}
    if "server" in figures:
        return (
            f"gateway and its processes {mib['idle']} when ready, {mib['server']} at most; "
            f"client {mib['client']}; "
            f"embed {figures['embed_seconds']:.1f} s, extract {figures['extract_seconds']:.1f} s"
        )
    return (
        f"{mib['start']} at the start; embed {mib['embed']} in {figures['embed_seconds']:.1f} s; "
        f"extract and restore {mib['restore']} in {figures['restore_seconds']:.1f} s"
    )


def main() -> int:
    """Print a line for each number of frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--profile", default="default", choices=sorted(PROFILES))
    parser.add_argument("--folder", type=Path, help="folder for the files; not in memory")
    parser.add_argument("--gateway", action="store_true", help="through a gateway process")
    parser.add_argument(
        "--json", action="store_true", help="print bytes and seconds, one JSON object a line"
    )
    parser.add_argument(
        "--outline", action="store_true", help="use numpy and a threshold in place of the network"
    )
    parser.add_argument("--call", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        folder, profile = arguments.work, arguments.profile
        print(
            json.dumps(
                call(folder, profile, arguments.call)
                if arguments.call
                else work(folder, profile, arguments.outline)
            )
        )
        return 0
    for frames in arguments.frames:
        words = (frames, arguments.side, arguments.profile, arguments.folder)
        figures = serve(*words) if arguments.gateway else measure(*words, arguments.outline)
        title = (
            f"{frames} frames of {arguments.side} x {arguments.side} "
            f"({frames * arguments.side**2 * 2 / MIB:.0f} MiB)"
        )
        print(
            json.dumps(figures)
            if arguments.json
            else f"{title}, {figures['carrying']} carry: {_describe(figures)}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
