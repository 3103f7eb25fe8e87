"""Measures the share of records read back exactly after a disturbance: `make disturbances`.

Prints a table by profile and modality. The slices are in ../shared/data, which is not part of the
project. A fake patient is written into each header, the slice is embedded with the released model,
its pixels are disturbed, and the record is read with numpy alone. Slices whose embedding is refused
are counted separately.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from disturb import CROPS, HARSHER, LISTED, edges
from evaluate import DATA, prepared, spread
from numpy.typing import NDArray
from page import SCHEME, write_block
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from rich.progress import track

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance
from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip.scheme.address import slot_count, slot_plane
from coverslip.scheme.dct import SIDE
from coverslip.scheme.profiles import PROFILES, Profile
from coverslip_edge.engine import LiteRtEngine

WANTED = 0.99
"""Least share of records that `robust` must give back under everything in `disturb.LISTED`."""

REACHED = (0.9, 0.8, 0.7, 0.6, 0.0)
"""Bounds for grouping crops by the share of slots that still have a carrier."""

DISTURBANCES = {**LISTED, **HARSHER}

Outcome = dict[str, object]
"""Results of one slice by name: of the embedding, and of every disturbance."""

Results = dict[str, list[Outcome]]
"""Outcomes by profile."""


def with_pixels(stego: Path, plane: NDArray[np.int32], path: Path) -> None:
    """Write the stego file with other pixels, int32 [H, W], uncompressed."""
    dataset = dcmread(stego)
    kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.PixelData = plane.astype(kind).tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path)


def comes_back(disturbed: Path, expected: bytes, identity: Identity, cropped: bool) -> bool:
    """Whether the pixels of a disturbed file give the exact record."""
    try:
        extraction = pipeline.extract(read_instance(disturbed), identity, cropped=cropped)
    except CoverslipError:
        return False
    pixels = extraction.carried is pipeline.Carried.PIXELS
    return pixels and records.encode(extraction.record) == expected


def one(
    row: dict[str, str],
    seed: int,
    profile: Profile,
    engine: Engine,
    identity: Identity,
    names: list[str],
    folder: Path,
) -> Outcome:
    """Embed one slice, disturb it in every way, and read each result."""
    cover = read_instance(prepared(row, seed, folder))
    _, record, _ = header.deidentify(
        cover.dataset, pipeline.uid_key(identity.recipient), allow_burned_in=False
    )
    expected = records.encode(record)
    outcome: Outcome = {"file": row["file"], "modality": row["modality"]}
    try:
        options = pipeline.EmbedOptions(profile, require_pixels=True)
        done = pipeline.embed(cover, identity.recipient, engine, options)
    except CoverslipError as error:
        return {**outcome, "refused": error.code}
    outcome |= {"psnr": done.report.psnr.stored, "votes": done.report.votes_per_module}
    (folder / "stego.dcm").unlink(missing_ok=True)
    done.write(folder / "stego.dcm")
    plane, stego = cover.planes[0], read_instance(folder / "stego.dcm").planes[0]
    lo, hi = plane.min(), plane.max()
    squared_error = float(np.mean((stego - plane).astype(np.float64) ** 2))
    outcome["psnr own range"] = 10 * np.log10(float(hi - lo) ** 2 / squared_error)
    for number, (name, disturb) in enumerate(DISTURBANCES.items()):
        if name not in names:
            continue
        with_pixels(
            folder / "stego.dcm",
            disturb(stego, cover.legal, generator(seed, number)),
            folder / "disturbed.dcm",
        )
        outcome[name] = comes_back(folder / "disturbed.dcm", expected, identity, name in CROPS)
        if name in CROPS:
            left = edges(CROPS[name], (stego.shape[0], stego.shape[1]), generator(seed, number))
            outcome[f"{name}, reached"] = reached(done, profile, left)
    return outcome


def generator(seed: int, number: int) -> np.random.Generator:
    """Random generator of a disturbance of a slice, independent of the other disturbances."""
    return np.random.default_rng([seed, number])


def reached(done: pipeline.Embedding, profile: Profile, left: tuple[slice, slice]) -> float:
    """Share of slots that still have a carrier in these rows and columns of the first frame."""
    frame = done.frames[0]
    assert frame.votes is not None
    count = slot_count(len(done.symbol), len(profile.coefficients))
    slots = slot_plane(*frame.carriers.shape, count, frame.votes.variant)
    whole = tuple(slice(-(-kept.start // SIDE), kept.stop // SIDE) for kept in left)
    return float(np.unique(slots[whole][frame.carriers[whole]]).size / count)


def print_table(profile: str, outcomes: list[Outcome], names: list[str]) -> bool:
    """Print the shares; return False if one for a listed disturbance is below `WANTED`."""
    done = [o for o in outcomes if "refused" not in o]
    groups = {
        "CT": [o for o in done if o["modality"] == "CT"],
        "MR": [o for o in done if o["modality"] == "MR"],
        "all": done,
    }
    groups = {name: group for name, group in groups.items() if group}
    print(f"\nprofile {profile}: {len(done)} of {len(outcomes)} slices embedded")
    for key in ("psnr", "psnr own range", "votes"):
        means = {
            name: np.mean([float(str(o[key])) for o in group]) for name, group in groups.items()
        }
        print(
            f"  {'mean ' + key:24}"
            + "".join(f"{name:>5}{mean:9.1f}   " for name, mean in means.items())
        )
    enough = True
    for name in names:
        print(
            f"  {name:24}"
            + "".join(
                f"{label:>5}{np.mean([bool(o[name]) for o in g]):9.1%}   "
                for label, g in groups.items()
            )
        )
        enough &= name not in LISTED or float(np.mean([bool(o[name]) for o in done])) >= WANTED
        if lost := [str(o["file"]) for o in done if not o[name]]:
            print(f"    lost: {', '.join(lost[:8])}{' ...' if len(lost) > 8 else ''}")
    for label, read in by_reach(done, [name for name in names if name in CROPS]).items():
        print(f"  {label}: {sum(read)} of {len(read)} read back")
    refused = defaultdict(list)
    for outcome in outcomes:
        if "refused" in outcome:
            refused[str(outcome["refused"])].append(str(outcome["file"]))
    for code, files in refused.items():
        print(f"  refused, {code}: {', '.join(files)}")
    return enough


def by_reach(done: list[Outcome], crops: list[str]) -> dict[str, list[bool]]:
    """Group whether cropped slices were read by the share of slots that still have a carrier.

    That share decides whether a crop is read, more than the amount that was cut off.
    """
    pairs = [(float(str(o[f"{name}, reached"])), bool(o[name])) for o in done for name in crops]
    return {
        f"cropped, {lowest:.0%} to {min(highest, 1):.0%} of the groups left": [
            was_read for share, was_read in pairs if lowest <= share < highest
        ]
        for highest, lowest in zip((1.01, *REACHED), REACHED, strict=False)
    }


def page_table(results: Results, names: list[str]) -> list[str]:
    """Make the documentation's table: disturbances down, profiles and modalities across."""
    asked = {
        (profile, modality): [o for o in outcomes if o["modality"] == modality]
        for profile, outcomes in results.items()
        for modality in ("CT", "MR")
    }
    done = {group: [o for o in outcomes if "refused" not in o] for group, outcomes in asked.items()}
    lines = [
        "| | " + " | ".join(f"{profile}, {modality}" for profile, modality in done) + " |",
        "|---|" + "---|" * len(done),
        "| slices embedded | "
        + " | ".join(f"{len(done[group])} of {len(outcomes)}" for group, outcomes in asked.items())
        + " |",
    ]
    for name in names:
        shares = (
            f"{np.mean([bool(o[name]) for o in outcomes]):.0%}" if outcomes else ""
            for outcomes in done.values()
        )
        lines.append(f"| {name} | " + " | ".join(shares) + " |")
    by_profile = [
        by_reach(outcomes, [name for name in names if name in CROPS]) for outcomes in done.values()
    ]
    for label in by_profile[0]:
        counts = (f"{sum(reads[label])} of {len(reads[label])}" for reads in by_profile)
        lines.append(f"| {label} | " + " | ".join(counts) + " |")
    return lines


def main() -> int:
    """Run the benchmark; exit code 1 if `robust` misses its share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--profiles",
        nargs="+",
        choices=("faint", "default", "robust"),
        default=["faint", "default", "robust"],
    )
    parser.add_argument("--split", choices=("train", "val"), default="val")
    parser.add_argument(
        "--limit",
        type=int,
        default=0,
        help="approximate number of slices, spread over the split (default: all)",
    )
    parser.add_argument(
        "--listed", action="store_true", help="only disturbances that robust is meant to survive"
    )
    parser.add_argument(
        "--only",
        default="",
        help="only disturbances with this in their name; 'cropped' takes the longest",
    )
    parser.add_argument(
        "--without", default="nothing at all", help="no disturbances with this in their name"
    )
    parser.add_argument("--json", type=Path, help="write every outcome to this file")
    parser.add_argument("--page", action="store_true", help="write the shares into docs/scheme.md")
    options = parser.parse_args()
    if not DATA.exists():
        print(f"no slices: there is no {DATA.parent.name}/{DATA.name} beside the project")
        return 0
    rows = spread(options.split, options.limit)
    names = list(LISTED if options.listed else DISTURBANCES)
    names = [name for name in names if options.only in name and options.without not in name]
    engine, identity = LiteRtEngine(), Identity.generate()
    results: Results = {}
    enough = True
    with tempfile.TemporaryDirectory() as folder:
        for profile in options.profiles:
            steps = track(
                list(enumerate(rows)), description=profile, disable=not sys.stderr.isatty()
            )
            results[profile] = [
                one(row, seed, PROFILES[profile], engine, identity, names, Path(folder))
                for seed, row in steps
            ]
            enough &= print_table(profile, results[profile], names) or profile != "robust"
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.page:
        write_block(SCHEME, "disturbances", __file__, page_table(results, names))
    return int(not enough)


if __name__ == "__main__":
    sys.exit(main())
