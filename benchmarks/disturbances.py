"""Share of slices whose record comes back exactly after a disturbance, by profile and modality.
Prints a table: `make disturbances`.

The slices lie in ../shared/data and are not part of the project. An invented patient is written
into each header, the slice is embedded with the released model, its pixels are disturbed, and the
record is read with numpy alone. Slices that are refused when embedding are told apart.
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
"""Share of slices that `robust` must give back under everything in `disturb.LISTED`."""

REACHED = (0.9, 0.8, 0.7, 0.6, 0.0)
"""Least shares of the groups of modules that a crop leaves a carrier; crops are told by these too,
whatever was cut off.
"""

DISTURBANCES = {**LISTED, **HARSHER}

Results = dict[str, list[dict[str, object]]]


def with_pixels(stego: Path, plane: np.ndarray, path: Path) -> None:
    """The stego file with other pixels, int32 [H, W], uncompressed."""
    dataset = dcmread(stego)
    kind = f"<{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.PixelData = plane.astype(kind).tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path)


def comes_back(disturbed: Path, expected: bytes, identity: Identity, cropped: bool) -> bool:
    """Whether a disturbed file gives the exact record."""
    try:
        found = pipeline.extract(read_instance(disturbed), identity, cropped=cropped)
    except CoverslipError:
        return False
    return records.encode(found.record) == expected


def one(
    row: dict[str, str],
    seed: int,
    profile: Profile,
    engine: Engine,
    identity: Identity,
    names: list[str],
    folder: Path,
) -> dict[str, object]:
    """Embed one slice, disturb it in every way, read it each time."""
    cover = read_instance(prepared(row, seed, folder))
    _, record, _ = header.deidentify(
        cover.dataset, pipeline.uid_key(identity.recipient), allow_burned_in=False
    )
    expected = records.encode(record)
    outcome: dict[str, object] = {"file": row["file"], "modality": row["modality"]}
    try:
        done = pipeline.embed(cover, identity.recipient, engine, pipeline.EmbedOptions(profile))
    except CoverslipError as error:
        return {**outcome, "refused": error.code}
    outcome |= {"psnr": done.report.psnr.stored, "votes": done.report.votes_per_module}
    (folder / "stego.dcm").unlink(missing_ok=True)
    done.write(folder / "stego.dcm")
    plane, stego = cover.planes[0], read_instance(folder / "stego.dcm").planes[0]
    lo, hi = plane.min(), plane.max()
    error = float(np.mean((stego - plane).astype(np.float64) ** 2))
    outcome["psnr own range"] = 10 * np.log10(float(hi - lo) ** 2 / error)
    for number, (name, disturb) in enumerate(DISTURBANCES.items()):
        if name not in names:
            continue
        with_pixels(
            folder / "stego.dcm",
            disturb(stego, cover.legal, chance(seed, number)),
            folder / "disturbed.dcm",
        )
        outcome[name] = comes_back(folder / "disturbed.dcm", expected, identity, name in CROPS)
        if name in CROPS:
            outcome[f"{name}, reached"] = reached(
                done, profile, edges(CROPS[name], stego.shape, chance(seed, number))
            )
    return outcome


def chance(seed: int, number: int) -> np.random.Generator:
    """The source of chance of one disturbance of one slice: the same whatever else is asked for."""
    return np.random.default_rng([seed, number])


def reached(done: pipeline.Embedding, profile: Profile, left: tuple[slice, slice]) -> float:
    """Share of the groups of modules that still have a carrier where only these rows and columns of
    the first frame are left.
    """
    frame = done.frames[0]
    assert frame.votes is not None
    count = slot_count(len(done.symbol), len(profile.coefficients))
    slots = slot_plane(*frame.carriers.shape, count, frame.votes.variant)
    whole = tuple(slice(-(-kept.start // SIDE), kept.stop // SIDE) for kept in left)
    return float(np.unique(slots[whole][frame.carriers[whole]]).size / count)


def table(profile: str, outcomes: list[dict[str, object]], names: list[str]) -> bool:
    """Print the shares; False where a listed disturbance leaves too few."""
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
    good = True
    for name in names:
        print(
            f"  {name:24}"
            + "".join(
                f"{label:>5}{np.mean([bool(o[name]) for o in g]):9.1%}   "
                for label, g in groups.items()
            )
        )
        good &= name not in LISTED or float(np.mean([bool(o[name]) for o in done])) >= WANTED
        if lost := [str(o["file"]) for o in done if not o[name]]:
            print(f"    lost: {', '.join(lost[:8])}{' ...' if len(lost) > 8 else ''}")
    told_by_reach(done, [name for name in names if name in CROPS])
    refused = defaultdict(list)
    for outcome in outcomes:
        if "refused" in outcome:
            refused[str(outcome["refused"])].append(str(outcome["file"]))
    for code, files in refused.items():
        print(f"  refused, {code}: {', '.join(files)}")
    return good


def told_by_reach(done: list[dict[str, object]], crops: list[str]) -> None:
    """Print what decides whether a cropped slice reads: how many groups of modules still have a
    carrier.
    """
    for label, read in by_reach(done, crops).items():
        print(f"  {label}: {sum(read)} of {len(read)} read back")


def by_reach(done: list[dict[str, object]], crops: list[str]) -> dict[str, list[bool]]:
    """Whether each cropped slice was read, by how many groups of modules still have a carrier."""
    pairs = [(float(str(o[f"{name}, reached"])), bool(o[name])) for o in done for name in crops]
    return {
        f"cropped, {lowest:.0%} to {min(highest, 1):.0%} of the groups left": [
            good for share, good in pairs if lowest <= share < highest
        ]
        for highest, lowest in zip((1.01, *REACHED), REACHED, strict=False)
    }


def page(results: Results, names: list[str]) -> list[str]:
    """The same for the documentation: a row for each disturbance, CT and MR of each profile side by
    side.
    """
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
    """Run it; exit code 1 when `robust` misses its share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
        help="take about so many slices, spread over the split (default: all)",
    )
    parser.add_argument(
        "--listed", action="store_true", help="only what robust is for, nothing harsher"
    )
    parser.add_argument(
        "--only", default="", help="only what has this in its name; 'cropped' takes the longest"
    )
    parser.add_argument(
        "--without", default="nothing at all", help="nothing that has this in its name"
    )
    parser.add_argument("--json", type=Path, help="write every outcome there")
    parser.add_argument("--page", action="store_true", help="write the shares into docs/scheme.md")
    options = parser.parse_args()
    if not DATA.exists():
        print(f"no slices: {DATA.name} is not there beside the project")
        return 0
    rows = spread(options.split, options.limit)
    names = list(LISTED if options.listed else DISTURBANCES)
    names = [name for name in names if options.only in name and options.without not in name]
    engine, identity = LiteRtEngine(), Identity.generate()
    results: Results = {}
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for profile in options.profiles:
            steps = track(
                list(enumerate(rows)), description=profile, disable=not sys.stderr.isatty()
            )
            results[profile] = [
                one(row, seed, PROFILES[profile], engine, identity, names, Path(folder))
                for seed, row in steps
            ]
            good &= table(profile, results[profile], names) or profile != "robust"
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.page:
        write_block(SCHEME, "disturbances", __file__, page(results, names))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
