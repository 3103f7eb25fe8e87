"""``coverslip train evaluate``: measure a network on slices that it was not trained on, as it is
used: with margin, gate and pipeline.

Beside the network stands the classical segmentation, on the same slices. The labels come from one
of its kind, so that overlap with them favours it; what counts is the body that may come to carry,
and what happens on slices that nobody could label.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from coverslip.cli.batch import misuse
from coverslip.engine import Engine
from coverslip.errors import TrainingTableError
from coverslip.models import ModelKind, find_model
from coverslip.scheme.profiles import ROBUST
from coverslip.scheme.reference import ReferenceEngine
from coverslip_training import drawing, summaries
from coverslip_training.classical import outline
from coverslip_training.measures import MARGINS, PRODUCT_MARGIN, Case, Mask, measure
from coverslip_training.outcomes import alter, labelled, unlabelled, withstand
from coverslip_training.summaries import HardRow, Row

WORST = 24
"""Slices that are drawn."""

LEARNED = "train"
"""The split that nothing is measured on."""

Segment = Callable[[NDArray[np.int32]], Mask]
"""Pixels int32 [1, H, W] to mask uint8 [1, H, W]."""


@dataclass
class Evaluated:
    """What an evaluation found.

    Attributes
    ----------
    figures : dict
        Ready for JSON.
    rows : list of Row
        Each labelled slice.
    worst : list of image
        The worst slices, drawn, worst first.
    """

    figures: dict[str, Any]
    rows: list[Row]
    worst: list[Image.Image]


def network_segment(network: Any) -> Segment:
    """A `coverslip_graph.network.Network` as a function of numpy arrays."""
    import tensorflow as tf

    traced = tf.function(
        network.segment, input_signature=[tf.TensorSpec([None, None, None], tf.int32)]
    )

    def segment(pixels: NDArray[np.int32]) -> Mask:
        mask: Mask = traced(tf.constant(pixels)).mask.numpy()
        return mask

    return segment


def open_weights(path: Path) -> Engine:
    """The network of a file of weights, with the numpy reference for everything but the outline."""
    from coverslip_graph.network import Network

    segment = network_segment(Network.load(path))
    return ReferenceEngine(lambda plane: segment(plane[np.newaxis])[0])


def open_model(path: Path, threads: int) -> Engine:
    """The engine for a .tflite, or for a SavedModel's folder or one of numbered versions."""
    if path.is_dir():
        from coverslip_graph.engine import TensorFlowEngine

        return TensorFlowEngine(path)
    from coverslip_edge.engine import LiteRtEngine

    return LiteRtEngine(path, threads=threads)


def measure_row(
    case: Case, masks: tuple[Mask, Mask], file: Path, seed: int, engine: Engine, folder: Path
) -> Row:
    """Everything about a labelled slice, from the masks of network and classical segmentation."""
    return Row(
        case.name,
        case.patient,
        case.modality,
        case.anatomy,
        case.scanner,
        measure(case, masks[0]),
        measure(case, masks[1]),
        withstand(case, masks[0], file, seed, engine, folder),
        withstand(case, masks[0], file, seed, engine, folder, ROBUST),
    )


def both_masks(case: Case, engine: Engine) -> tuple[Mask, Mask]:
    """The network's outline and the classical one."""
    return engine.segment(case.pixels[np.newaxis]).mask[0], outline(case.pixels)


def evaluate(data: Path, split: str, engine: Engine) -> Evaluated:
    """Measure an engine on one split, and on the slices without labels.

    Parameters
    ----------
    data : Path
        Folder with ``slices.csv`` and, if there are slices without labels, ``hard.csv``.
    split : str
    engine : Engine

    Raises
    ------
    TrainingTableError
        There is no table, or nothing in the split.
    """
    if not (data / "slices.csv").is_file():
        raise TrainingTableError(
            f"there is no slices.csv in {data}: name the folder that holds it, with slices/ and "
            "labels/"
        )
    console = Console(stderr=True)

    def bar(items: Any, name: str) -> Any:
        return track(items, description=name, console=console, disable=not console.is_terminal)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            measure_row(case, both_masks(case, engine), data / case.name, seed, engine, folder)
            for seed, case in enumerate(bar(list(labelled(data, split)), split))
        ]
        if not rows:
            raise TrainingTableError(
                f"{data / 'slices.csv'} has no slice of split {split!r}; name another with --split"
            )
        engines = (engine, ReferenceEngine(outline))
        hard = [
            HardRow(
                case.name,
                case.modality,
                why,
                *(alter(case, data / case.name, seed, one, folder) for one in engines),
            )
            for seed, (case, why) in enumerate(bar(list(unlabelled(data)), "hard"))
        ]
    figures = {
        "split": split,
        **summaries.summarise(rows, hard, WORST),
        "data": data_figures(data, split),
    }
    return Evaluated(figures, rows, draw(rows, list(labelled(data, split)), engine))


def draw(rows: list[Row], cases: list[Case], engine: Engine) -> list[Image.Image]:
    """The worst slices."""
    by_name = {case.name: case for case in cases}
    cells = []
    for row in summaries.worst_first(rows)[:WORST]:
        caption = (
            f"{row.name}  {row.modality} {row.anatomy}\n"
            f"IoU {row.network.iou:.3f} / {row.classical.iou:.3f}  margin {row.network.needed}  "
            f"carries body {row.network.in_carriers}"
        )
        cells.append(
            drawing.cell(by_name[row.name], *both_masks(by_name[row.name], engine), caption)
        )
    return cells


def data_figures(data: Path, split: str) -> dict[str, Any]:
    """Slices and patients behind training and evaluation, by modality and licence."""
    with (data / "slices.csv").open(newline="") as file:
        table = list(csv.DictReader(file))

    def counted(rows: list[dict[str, str]]) -> dict[str, Any]:
        kinds = Counter(row["modality"] for row in rows)
        patients = {
            kind: len({row["patient_key"] for row in rows if row["modality"] == kind})
            for kind in kinds
        }
        return {
            "slices": len(rows),
            "patients": len({row["patient_key"] for row in rows}),
            "by_modality": {
                kind: {"slices": kinds[kind], "patients": patients[kind]} for kind in sorted(kinds)
            },
        }

    licences = sorted({row.get("licence", "not said") for row in table})
    return {
        "train": counted([row for row in table if row["split"] == "train"]),
        "measured": counted([row for row in table if row["split"] == split]),
        "licences": [
            {
                "licence": licence,
                **{
                    key: sum(
                        row.get("licence", "not said") == licence and row["split"] == part
                        for row in table
                    )
                    for key, part in (("train", "train"), ("measured", split))
                },
                "patients": len(
                    {
                        row["patient_key"]
                        for row in table
                        if row.get("licence", "not said") == licence
                    }
                ),
            }
            for licence in licences
        ],
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as text, in Markdown; the model card holds the same tables."""
    kinds = ("modality",)
    parts = [
        ("Outline", summaries.outline_table(figures, kinds)),
        ("What may carry", summaries.outcome_table(figures, kinds)),
        ("Where one outline fails and the other does not", summaries.comparison_lines(figures)),
        ("Margins", summaries.margin_table(figures)),
        ("Cover against stego", summaries.lasting_table(figures, kinds)),
        (
            "Cover against stego, profile robust",
            summaries.lasting_table(figures, kinds, "embedded_robust"),
        ),
        ("Without a label", summaries.hard_table(figures) + "\n\n" + summaries.hard_rows(figures)),
        (
            "By anatomy and scanner: outline",
            summaries.outline_table(figures, ("anatomy", "scanner")),
        ),
        (
            "By anatomy and scanner: what may carry",
            summaries.outcome_table(figures, ("anatomy", "scanner")),
        ),
        (
            "By anatomy and scanner: cover against stego",
            summaries.lasting_table(figures, ("anatomy", "scanner")),
        ),
        ("Worst", summaries.worst_table(figures, 8)),
    ]
    notes = (
        f"Split {figures['split']}; margin {figures['margin_px']} pixels; step "
        f"{figures['step']:g} grey levels. "
        f"Saidi et al. 2024 report a mean IoU of {figures['paper_iou']} on slices of their own. "
        "The labels come from a classical "
        "segmentation, so that IoU and distances favour the classical outline; what counts is "
        "body that may carry, and the slices "
        "without a label."
    )
    if left := figures["labels_that_leave_out_visible_body"]:
        notes += (
            f" {len(left)} {summaries.LEAVES_OUT} ({left[0]} to {left[-1]}): there, IoU measures "
            "the label."
        )
    return "\n\n".join([notes, *(f"## {title}\n\n{text}" for title, text in parts)]) + "\n"


def slice_table(rows: list[Row]) -> list[dict[str, Any]]:
    """One line for each slice, for a spreadsheet."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {
            key: getattr(row, key) for key in ("name", "patient", "modality", "anatomy", "scanner")
        }
        for side in summaries.OUTLINERS:
            one = getattr(row, side)
            at = MARGINS.index(PRODUCT_MARGIN)
            line |= {
                f"{side}_iou": round(one.iou, 5),
                f"{side}_rim_mean_px": round(one.distances.mean, 3),
                f"{side}_rim_p95_px": round(one.distances.p95, 3),
                f"{side}_rim_hausdorff_px": round(one.distances.hausdorff, 3),
                f"{side}_rim_signed_px": round(one.distances.signed, 3),
                f"{side}_margin_needed_px": one.needed,
                f"{side}_body_pixels_missed": one.missed[at],
                f"{side}_body_pixels_in_carriers": one.carriers[at],
                f"{side}_background_found": round(one.found[at], 4),
            }
        lasting = {
            "refused": row.lasting.refused,
            "mask_ncc": round(row.lasting.ncc, 6),
            "carriers_moved": round(row.lasting.moved, 6),
        }
        lasting["carriers_moved_by_outline"] = round(row.lasting.moved_by_outline, 6)
        lines.append(line | lasting | {"body_pixels_altered": row.lasting.body_altered})
    return lines


def write(found: Evaluated, out: Path) -> None:
    """``report.md``, ``slices.csv``, ``metrics.json`` and ``worst.png`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    everything = (
        f"## Every slice without a label\n\n{summaries.hard_rows(found.figures, everything=True)}\n"
    )
    (out / "report.md").write_text(report(found.figures) + "\n" + everything)
    write_json(found.figures, out / "metrics.json")
    lines = slice_table(found.rows)
    with (out / "slices.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    drawing.page(found.worst, out / "worst.png")


def write_json(figures: dict[str, Any], path: Path) -> None:
    """The figures as a file."""
    path.write_text(json.dumps(figures, indent=1) + "\n")


def described(path: Path) -> dict[str, Any]:
    """What was measured: its name, size and SHA-256."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    kind = ("weights" if path.suffix == ".npz" else "tflite") if path.is_file() else "savedmodel"
    found: dict[str, Any] = {
        "form": kind,
        "name": path.name,
        "bytes": sum(file.stat().st_size for file in files),
    }
    return (
        found
        if kind == "savedmodel"
        else found | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder with slices.csv, slices/, labels/ and hard.csv",
    )
    parser.add_argument(
        "--split",
        default="val",
        help="which slices of the table (default: %(default)s); not those it was trained on",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help=".tflite, or a SavedModel's folder (default: the released .tflite)",
    )
    network.add_argument("--weights", type=Path, metavar="FILE", help="trained weights, .npz")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        metavar="N",
        help="threads of the runtime (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the report, the figures by slice and the worst slices, drawn",
    )
    parser.add_argument(
        "--metrics", type=Path, metavar="FILE", help="write the figures there, as JSON"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the report, and write what was asked for."""
    if arguments.split == LEARNED:
        return misuse(
            f"figures on the split '{LEARNED}' say nothing about slices that come later: name "
            "the one that was held back"
        )
    if arguments.weights and not arguments.weights.is_file():
        return misuse(
            f"there are no weights at {arguments.weights}: give the .npz file that training wrote"
        )
    if arguments.weights:
        source, engine = arguments.weights, open_weights(arguments.weights)
    else:
        source = arguments.model or find_model(ModelKind.LITERT)
        engine = open_model(source, arguments.threads)
    found = evaluate(arguments.data, arguments.split, engine)
    found.figures = {"model": described(source), **found.figures}
    print(report(found.figures), end="")
    if arguments.out:
        write(found, arguments.out)
    if arguments.metrics:
        write_json(found.figures, arguments.metrics)
    return 0
