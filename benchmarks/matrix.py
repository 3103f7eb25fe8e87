"""Reads the files of every runtime with every runtime, and with numpy alone: `make matrix`.

Prints how many records came back exactly. The slices are in ../shared/data, which is not part of
the project; each gets a fake patient.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections import Counter
from pathlib import Path

from apart import ApartEngine
from evaluate import DATA, prepared, spread
from rich.progress import track

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance
from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip.scheme.profiles import PROFILES, Profile
from coverslip_edge.engine import RUNTIMES

NAMES = dict(zip(RUNTIMES, ("LiteRT", "tflite-runtime"), strict=True))
NUMPY = "numpy"


def engines() -> dict[str, Engine]:
    """Open every installed runtime, those of LiteRT in processes of their own."""
    opened: dict[str, Engine] = {}
    if importlib.util.find_spec("tensorflow"):
        from coverslip_graph.engine import TensorFlowEngine

        opened["TensorFlow"] = TensorFlowEngine()
    for runtime, name in NAMES.items():
        if importlib.util.find_spec(runtime.split(".")[0]):
            opened[name] = ApartEngine(runtime)
    return opened


class Matrix:
    """Counts the records that came back, by writer and reader.

    Parameters
    ----------
    runtimes : dict of Engine
        Writers by name; the readers are these and numpy.
    profile : Profile
    """

    def __init__(self, runtimes: dict[str, Engine], profile: Profile) -> None:
        self.runtimes = runtimes
        self.readers: dict[str, Engine | None] = {**runtimes, NUMPY: None}
        self.profile = profile
        self.identity = Identity.generate()
        self.written: Counter[str] = Counter()
        self.exact: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.lost: list[str] = []

    def add(self, path: Path, name: str) -> None:
        """Embed one cover with every runtime, and read each file with every reader."""
        cover = read_instance(path)
        _, record, _ = header.deidentify(
            cover.dataset, pipeline.uid_key(self.identity.recipient), allow_burned_in=False
        )
        expected = records.encode(record)
        for writer, engine in self.runtimes.items():
            stego_path = path.with_name(f"stego-{writer}.dcm")
            try:
                options = pipeline.EmbedOptions(self.profile, require_pixels=True)
                done = pipeline.embed(cover, self.identity.recipient, engine, options)
            except CoverslipError as error:
                self.refused[f"{writer}: {error.code}"] += 1
                continue
            done.write(stego_path, overwrite=True)
            self.written[writer] += 1
            self._read(stego_path, writer, expected, name)

    def _read(self, stego: Path, writer: str, expected: bytes, name: str) -> None:
        for reader, engine in self.readers.items():
            try:
                found = pipeline.extract(read_instance(stego), self.identity, engine)
            except CoverslipError as error:
                self.lost.append(f"{name}, {writer} to {reader}: {error.code}")
                continue
            pixels = found.carried is pipeline.Carried.PIXELS
            same = pixels and records.encode(found.record) == expected
            self.exact[writer, reader] += same
            if not same:
                self.lost.append(f"{name}, {writer} to {reader}: another record")

    def print(self) -> None:
        """Print the number of exact records, of all that were written."""
        print(
            f"profile {self.profile.name}; exact records of those written; writers down, readers "
            "across"
        )
        print(f"{'':16}" + "".join(f"{reader:>16}" for reader in self.readers))
        for writer in self.runtimes:
            cells = [
                f"{self.exact[writer, reader]} of {self.written[writer]}" for reader in self.readers
            ]
            print(f"{writer:16}" + "".join(f"{cell:>16}" for cell in cells))
        for reason, count in self.refused.items():
            print(f"  refused, {reason}: {count}")
        for line in self.lost:
            print(f"  lost: {line}")


def main() -> int:
    """Run the benchmark; exit code 1 if a record was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("faint", "default", "robust"), default="default")
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        help="approximate number of slices, spread over the split (default: all)",
    )
    options = parser.parse_args()
    if not DATA.exists():
        print(f"no slices: there is no {DATA.parent.name}/{DATA.name} beside the project")
        return 0
    rows = spread(options.split, options.limit)
    matrix = Matrix(engines(), PROFILES[options.profile])
    with tempfile.TemporaryDirectory() as folder:
        for seed, row in enumerate(
            track(rows, description=options.profile, disable=not sys.stderr.isatty())
        ):
            matrix.add(prepared(row, seed, Path(folder)), row["file"])
    matrix.print()
    return int(bool(matrix.lost))


if __name__ == "__main__":
    sys.exit(main())
