"""``coverslip train evaluate``: measure a network on slices that it was not trained on.

The network is measured as it is used, with margin, gate and pipeline, and beside it the classical
segmentation on the same slices. The labels come from a segmentation of that kind, so overlap with
them favours it. The figures that matter are body in possible carriers, and the results on slices
that nobody could label.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from coverslip.cli.batch import misuse
from coverslip.engine import Engine
from coverslip.models import ModelKind, find_model
from coverslip.scheme.profiles import ROBUST
from coverslip.scheme.reference import ReferenceEngine
from coverslip_training import drawing
from coverslip_training.classical import outline
from coverslip_training.errors import TrainingTableError
from coverslip_training.figures import (
    Figures,
    LabelledResult,
    UnlabelledResult,
    summarise,
    worst_first,
)
from coverslip_training.measures import Case, Mask, measure
from coverslip_training.report import Evaluation, report_text, write_evaluation, write_figures
from coverslip_training.stability import (
    labelled_cases,
    measure_alteration,
    measure_stability,
    unlabelled_cases,
)

if TYPE_CHECKING:
    from coverslip_graph.network import Network

WORST_DRAWN = 24
"""Number of slices in ``worst.png``."""

TRAINED_ON = "train"
"""The split that may not be measured."""

Segment = Callable[[NDArray[np.int32]], Mask]
"""Outlines pixels int32 [1, H, W]; mask uint8 [1, H, W]."""

Item = TypeVar("Item")


def network_segment(network: Network) -> Segment:
    """Wrap a network as a function of numpy arrays."""
    import tensorflow as tf

    traced = tf.function(
        network.segment, input_signature=[tf.TensorSpec([None, None, None], tf.int32)]
    )

    def segment(pixels: NDArray[np.int32]) -> Mask:
        mask: Mask = traced(tf.constant(pixels)).mask.numpy()
        return mask

    return segment


def open_weights(path: Path) -> Engine:
    """Open a file of weights; everything but the outline is done by the numpy reference."""
    from coverslip_graph.network import Network

    segment = network_segment(Network.load(path))
    return ReferenceEngine(lambda plane: segment(plane[np.newaxis])[0])


def open_model(path: Path, threads: int) -> Engine:
    """Open a .tflite, the folder of a SavedModel, or a folder of numbered SavedModels."""
    if path.is_dir():
        from coverslip_graph.engine import TensorFlowEngine

        return TensorFlowEngine(path)
    from coverslip_edge.engine import LiteRtEngine

    return LiteRtEngine(path, threads=threads)


def both_masks(case: Case, engine: Engine) -> tuple[Mask, Mask]:
    """Outline a case with the network and with the classical segmentation."""
    return engine.segment(case.pixels[np.newaxis]).mask[0], outline(case.pixels)


def measure_labelled(
    case: Case, masks: tuple[Mask, Mask], file: Path, seed: int, engine: Engine, folder: Path
) -> LabelledResult:
    """Measure a labelled slice; ``masks`` are those of network and classical segmentation."""
    return LabelledResult(
        case.name,
        case.patient,
        case.modality,
        case.anatomy,
        case.scanner,
        measure(case, masks[0]),
        measure(case, masks[1]),
        measure_stability(case, masks[0], file, seed, engine, folder),
        measure_stability(case, masks[0], file, seed, engine, folder, ROBUST),
    )


def _with_bar(items: Iterable[Item], name: str) -> Iterable[Item]:
    """Show a progress bar on a terminal while iterating."""
    console = Console(stderr=True)
    return track(list(items), name, console=console, disable=not console.is_terminal)


def evaluate(data: Path, split: str, engine: Engine) -> Evaluation:
    """Measure an engine on one split, and on the slices without labels.

    Parameters
    ----------
    data : Path
        Folder with ``slices.csv`` and, optionally, ``hard.csv`` for slices without labels.
    split : str
    engine : Engine

    Raises
    ------
    TrainingTableError
        There is no table, or no slice in the split.
    """
    if not (data / "slices.csv").is_file():
        raise TrainingTableError(
            f"there is no slices.csv in {data}: name the folder that holds it, with slices/ and "
            "labels/"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [
            measure_labelled(case, both_masks(case, engine), data / case.name, seed, engine, folder)
            for seed, case in enumerate(_with_bar(labelled_cases(data, split), split))
        ]
        if not results:
            raise TrainingTableError(
                f"{data / 'slices.csv'} has no slice of split {split!r}; name another with --split"
            )
        classical = ReferenceEngine(outline)
        unlabelled = [
            UnlabelledResult(
                case.name,
                case.modality,
                why,
                measure_alteration(case, data / case.name, seed, engine, folder),
                measure_alteration(case, data / case.name, seed, classical, folder),
            )
            for seed, (case, why) in enumerate(_with_bar(unlabelled_cases(data), "hard"))
        ]
    figures = {
        "split": split,
        **summarise(results, unlabelled, WORST_DRAWN),
        "data": data_figures(data, split),
    }
    return Evaluation(figures, results, draw_worst(results, labelled_cases(data, split), engine))


def draw_worst(
    results: Sequence[LabelledResult], cases: Iterable[Case], engine: Engine
) -> list[Image.Image]:
    """Draw the worst slices."""
    by_name = {case.name: case for case in cases}
    cells = []
    for result in worst_first(results)[:WORST_DRAWN]:
        case = by_name[result.name]
        caption = (
            f"{result.name}  {result.modality} {result.anatomy}\n"
            f"IoU {result.network.iou:.3f} / {result.classical.iou:.3f}  "
            f"margin {result.network.needed}  in carriers {result.network.body_in_carriers}"
        )
        cells.append(drawing.draw_slice(case, *both_masks(case, engine), caption))
    return cells


def data_figures(data: Path, split: str) -> Figures:
    """Count the slices and patients of training and evaluation, by modality and licence."""
    with (data / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def patients(rows: Sequence[dict[str, str]]) -> int:
        return len({row["patient_key"] for row in rows})

    def count(split: str) -> Figures:
        members = [row for row in rows if row["split"] == split]
        kinds: dict[str, Any] = {}
        for kind in sorted({row["modality"] for row in members}):
            of_kind = [row for row in members if row["modality"] == kind]
            kinds[kind] = {"slices": len(of_kind), "patients": patients(of_kind)}
        return {"slices": len(members), "patients": patients(members), "by_modality": kinds}

    def count_licence(licence: str) -> Figures:
        members = [row for row in rows if row.get("licence", "not said") == licence]
        splits = Counter(row["split"] for row in members)
        return {
            "licence": licence,
            "train": splits["train"],
            "measured": splits[split],
            "patients": patients(members),
        }

    licences = sorted({row.get("licence", "not said") for row in rows})
    return {
        "train": count("train"),
        "measured": count(split),
        "licences": [count_licence(licence) for licence in licences],
    }


def describe_model(path: Path) -> Figures:
    """Form, name and size of the measured model; of a file also its SHA-256."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    form = ("weights" if path.suffix == ".npz" else "tflite") if path.is_file() else "savedmodel"
    model: Figures = {
        "form": form,
        "name": path.name,
        "bytes": sum(file.stat().st_size for file in files),
    }
    if path.is_file():
        model["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``coverslip train evaluate``."""
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
        help="split to measure (default: %(default)s); not the one that was trained on",
    )
    network = parser.add_mutually_exclusive_group()
    network.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help=".tflite, or folder of a SavedModel (default: the released .tflite)",
    )
    network.add_argument("--weights", type=Path, metavar="FILE", help="trained weights, .npz")
    parser.add_argument(
        "--threads",
        type=int,
        default=2,
        metavar="N",
        help="number of threads of the runtime (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="output folder for the report, the figures by slice and a picture of the worst slices",
    )
    parser.add_argument(
        "--metrics", type=Path, metavar="FILE", help="also write the figures to this JSON file"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the report, and write the requested files."""
    if arguments.split == TRAINED_ON:
        return misuse(
            f"the network was trained on split '{TRAINED_ON}', so figures on it say nothing about "
            "slices that come later: name a split that was held back"
        )
    if arguments.weights and not arguments.weights.is_file():
        return misuse(
            f"there are no weights at {arguments.weights}: give the .npz file that training wrote"
        )
    if arguments.weights:
        path, engine = arguments.weights, open_weights(arguments.weights)
    else:
        path = arguments.model or find_model(ModelKind.LITERT)
        engine = open_model(path, arguments.threads)
    evaluation = evaluate(arguments.data, arguments.split, engine)
    evaluation.figures = {"model": describe_model(path), **evaluation.figures}
    print(report_text(evaluation.figures), end="")
    if arguments.out:
        write_evaluation(evaluation, arguments.out)
    if arguments.metrics:
        write_figures(evaluation.figures, arguments.metrics)
    return 0
