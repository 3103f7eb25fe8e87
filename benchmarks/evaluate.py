"""Embeds every labelled slice and reads it back: `make evaluate`.

Prints whether the records came back, how much of the body changed, and the cost. The slices are in
../shared/data, which is not part of the project. A fake patient is written into each header, the
slice is embedded and written to a file, and the record is read from that file with the network,
without a network, and with the other runtime.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from rich.progress import track

from coverslip import metrics, pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import seal
from coverslip.deidentification import header
from coverslip.dicom.instance import Instance, read_instance
from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip.fake_patient import write_fake_patient
from coverslip.qr import symbol as symbols
from coverslip.scheme.profiles import PROFILES, Profile
from coverslip_edge.engine import LiteRtEngine

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
PAPER_PAYLOAD = {"CT": 0.031, "MR": 0.09}
"""Payload of the paper's images (its Table 5)."""


@dataclass
class Outcome:
    """Results of one slice."""

    file: str
    modality: str
    split: str
    refused: str = ""
    wrong: list[str] = field(default_factory=list)
    body_changed: int = 0
    body: int = 0
    iou: float = 0.0
    psnr: dict[str, float] = field(default_factory=dict)
    payload: float = 0.0
    votes: float = 0.0
    module_errors: int = 0
    sealed: int = 0
    seconds: float = 0.0


def slices(every: int) -> list[dict[str, str]]:
    """Read the rows of slices.csv, one in ``every``."""
    with (DATA / "slices.csv").open(newline="") as file:
        return list(csv.DictReader(file))[::every]


def spread(split: str, limit: int) -> list[dict[str, str]]:
    """Read about ``limit`` rows of a split, spread over it; all rows if ``limit`` is 0."""
    rows = [row for row in slices(1) if row["split"] == split]
    return rows[:: max(len(rows) // limit, 1)] if limit else rows


def prepared(row: dict[str, str], seed: int, folder: Path) -> Path:
    """Write a slice with a fake patient in its header; return the path."""
    dataset = dcmread(DATA / row["file"])
    write_fake_patient(dataset, seed=seed)
    path = folder / "cover.dcm"
    dataset.save_as(path)
    return path


def read_back(
    stego: Path, expected: bytes, identity: Identity, engines: dict[str, Engine | None]
) -> list[str]:
    """List the readers that did not return the exact record, with the reason."""
    wrong = []
    for name, engine in engines.items():
        instance = read_instance(stego)
        try:
            extraction = pipeline.extract(instance, identity, engine)
        except CoverslipError as error:
            wrong.append(f"{name}: {error.code}")
            continue
        if extraction.carried is not pipeline.Carried.PIXELS:
            wrong.append(f"{name}: by the header alone")
        elif records.encode(extraction.record) != expected:
            wrong.append(f"{name}: another record")
    return wrong


def one(
    row: dict[str, str],
    seed: int,
    identity: Identity,
    writer: Engine,
    readers: dict[str, Engine | None],
    profile: Profile,
    paper_payload: bool,
    folder: Path,
) -> Outcome:
    """Embed one slice, read it back, and compare the outline with its label."""
    outcome = Outcome(row["file"], row["modality"], row["split"])
    cover_path = prepared(row, seed, folder)
    stego_path = folder / "stego.dcm"
    stego_path.unlink(missing_ok=True)
    try:
        cover = read_instance(cover_path)
        _, record, _ = header.deidentify(
            cover.dataset, pipeline.uid_key(identity.recipient), allow_burned_in=False
        )
        expected = records.encode(record)
        if paper_payload:
            profile = at_payload(profile, row["modality"], cover, expected)
        start = time.perf_counter()
        options = pipeline.EmbedOptions(profile, require_pixels=True)
        done = pipeline.embed(cover, identity.recipient, writer, options)
        outcome.seconds = time.perf_counter() - start
    except CoverslipError as error:
        outcome.refused = error.code
        return outcome
    done.write(stego_path)
    outcome.wrong = read_back(stego_path, expected, identity, readers)
    label = np.asarray(Image.open(DATA / row["label"])) > 0
    stego = read_instance(stego_path).planes[0]
    outcome.body_changed = int((stego != cover.planes[0])[label].sum())
    outcome.body = int(label.sum())
    outcome.iou = metrics.iou(done.frames[0].mask, label)
    outcome.psnr = asdict(done.report.psnr)
    outcome.payload = done.report.payload
    outcome.votes = done.report.votes_per_module
    outcome.module_errors = done.report.module_errors
    outcome.sealed = done.report.sealed_bytes
    return outcome


def at_payload(profile: Profile, modality: str, cover: Instance, record: bytes) -> Profile:
    """Change a profile's votes so that the payload is nearest to the paper's."""
    side = len(symbols.draw(seal(record, Identity.generate().recipient.public)))
    votes = PAPER_PAYLOAD[modality] * cover.planes[0].size / (side * side)
    return replace(profile, votes=max(round(votes), 1))


def print_table(outcomes: list[Outcome]) -> None:
    """Print the figures by modality."""
    print(
        f"{'':14}{'slices':>7}{'refused':>9}{'wrong':>7}{'body px changed':>17}"
        f"{'worst share':>13}{'clean slices':>14}"
        f"{'IoU':>7}{'PSNR own':>10}{'65535':>8}{'paper':>8}{'payload':>9}{'votes':>7}{'ms':>6}"
    )
    for name in ("CT", "MR", "all"):
        group = [o for o in outcomes if name in (o.modality, "all")]
        done = [o for o in group if not o.refused]
        if not done:
            continue
        mean = {
            key: float(np.mean([o.psnr[key] for o in done]))
            for key in ("stored", "sixteen_bit", "paper")
        }
        print(
            f"{name:14}{len(group):7d}{len(group) - len(done):9d}"
            f"{sum(bool(o.wrong) for o in done):7d}{sum(o.body_changed for o in done):17d}"
            f"{max(o.body_changed / max(o.body, 1) for o in done):13.4%}"
            f"{np.mean([o.body_changed == 0 for o in done]):14.1%}"
            f"{np.mean([o.iou for o in done]):7.3f}"
            f"{mean['stored']:10.1f}{mean['sixteen_bit']:8.1f}{mean['paper']:8.1f}"
            f"{np.mean([o.payload for o in done]):9.3f}{np.mean([o.votes for o in done]):7.2f}"
            f"{1000 * np.median([o.seconds for o in done]):6.0f}"
        )
    for code, count in Counter(o.refused for o in outcomes if o.refused).items():
        print(f"  refused, {code}: {count}")
    for outcome in outcomes:
        if outcome.wrong or outcome.body_changed:
            print(
                f"  {outcome.file}: body pixels changed {outcome.body_changed} of "
                f"{outcome.body}; {'; '.join(outcome.wrong)}"
            )


def main() -> int:
    """Run the benchmark; exit code 1 if a record was wrong or lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=("faint", "default", "robust"), default="default")
    parser.add_argument("--writer", choices=("litert", "tensorflow"), default="litert")
    parser.add_argument("--every", type=int, default=1, help="take one slice in N")
    parser.add_argument("--split", choices=("train", "val"), help="only this split")
    parser.add_argument(
        "--paper-payload", action="store_true", help="choose votes for the paper's payload"
    )
    parser.add_argument("--without-tensorflow", action="store_true", help="leave TensorFlow out")
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    arguments = parser.parse_args()
    if not DATA.exists():
        print(f"no slices: there is no {DATA.parent.name}/{DATA.name} beside the project")
        return 0
    engines: dict[str, Engine | None] = {"litert": LiteRtEngine(), "no model": None}
    if not arguments.without_tensorflow:
        from coverslip_graph.engine import TensorFlowEngine

        engines["tensorflow"] = TensorFlowEngine()
    writer = engines[arguments.writer]
    assert writer is not None
    identity = Identity.generate()
    outcomes = []
    rows = [row for row in slices(arguments.every) if arguments.split in (None, row["split"])]
    with tempfile.TemporaryDirectory() as name:
        for seed, row in enumerate(
            track(rows, description=arguments.profile, disable=not sys.stderr.isatty())
        ):
            profile = PROFILES[arguments.profile]
            outcomes.append(
                one(
                    row,
                    seed,
                    identity,
                    writer,
                    engines,
                    profile,
                    arguments.paper_payload,
                    Path(name),
                )
            )
    settings = (
        f"profile {arguments.profile}, written by {arguments.writer}, read by {', '.join(engines)}"
    )
    print(settings + (" at the paper's payload" if arguments.paper_payload else ""))
    print_table(outcomes)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(o) for o in outcomes], indent=1))
    return int(any(o.wrong for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
