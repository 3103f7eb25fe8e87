"""``coverslip train annotate``: propose outlines, draw them for review, and write them for VIA.

A person looks at the sheets, corrects in VIA the outlines that are wrong (or rejects slices with
``use: no``), and passes the project to ``coverslip train data --via``. Previews are named by a
digest of the SOP Instance UID (`slice_name`); nothing of the header is written into them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from coverslip.cli.batch import Batch, Source, collect, misuse
from coverslip.cli.options import open_engine, positive
from coverslip.dicom.instance import read_instance
from coverslip.errors import OutputExistsError
from coverslip_training.annotations import Mask, Target
from coverslip_training.classical import grey_without_padding, outline
from coverslip_training.collector import split_off_segmentations, targets_of
from coverslip_training.contours import Ring, trace_rings
from coverslip_training.sheets import Sheets, draw_cell
from coverslip_training.via import via_project

Propose = Callable[[NDArray[np.int32]], Mask]
"""Outlines the body in stored values int32 [H, W] with dark air."""

ANNOTATIONS, INDEX = "annotations.json", "index.csv"


class Annotator:
    """Proposes an outline for each slice and writes the files to review it.

    Parameters
    ----------
    out : Path
        Output folder for ``previews/``, ``sheets/``, ``annotations.json``, ``index.csv`` and,
        optionally, ``masks/``.
    propose : callable
    with_masks : bool
        Also write the proposals as 1-bit PNG.
    per_page : int
        Number of slices on a contact sheet.
    """

    def __init__(self, out: Path, propose: Propose, with_masks: bool, per_page: int) -> None:
        for name in ("previews", "sheets", *(["masks"] if with_masks else [])):
            (out / name).mkdir(parents=True, exist_ok=True)
        self._out = out
        self._propose = propose
        self._with_masks = with_masks
        self._sheets = Sheets(out / "sheets", per_page)
        self._images: list[tuple[str, int, list[Ring]]] = []
        self._index: list[tuple[int, str, str, int]] = []
        self._names: set[str] = set()

    def add(self, file: Source) -> dict[str, Any]:
        """Propose outlines for the frames of a file.

        Returns
        -------
        dict
            ``first``: number of the first frame on the sheets; ``slices``: number of frames added;
            ``outlined``: number of them with an outline.
        """
        first, outlined = len(self._index) + 1, 0
        for target, plane in targets_of(file, read_instance(file.path)):
            outlined += self._add_slice(file, target, plane)
        return {"first": first, "slices": len(self._index) + 1 - first, "outlined": outlined}

    def _add_slice(self, file: Source, target: Target, plane: NDArray[np.int32]) -> bool:
        """Add a slice unless it was added before; whether it has an outline."""
        name = target.name
        if name in self._names:
            return False
        self._names.add(name)
        mask = self._propose(plane)
        rings = trace_rings(mask)
        preview = self._out / "previews" / f"{name}.png"
        Image.fromarray(grey_without_padding(plane)).save(preview)
        if self._with_masks and mask.any():
            Image.fromarray(mask.astype(bool)).save(self._out / "masks" / f"{name}.png")
        self._images.append((preview.name, preview.stat().st_size, rings))
        self._index.append((len(self._index) + 1, name, file.path.as_posix(), target.frame))
        caption = f"{len(self._index)}  {name}" + ("" if rings else "  no outline")
        self._sheets.add(draw_cell(plane, rings, caption))
        return bool(rings)

    def finish(self) -> int:
        """Write the last sheet, the project and the index; return the number of slices."""
        self._sheets.finish()
        (self._out / ANNOTATIONS).write_text(json.dumps(via_project(self._images)) + "\n")
        with (self._out / INDEX).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["number", "name", "file", "frame"])
            table.writerows(self._index)
        return len(self._index)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``coverslip train annotate``."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="PATH", help="DICOM files or folders of them"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder for previews, contact sheets and annotations",
    )
    parser.add_argument(
        "--propose",
        choices=("classical", "network"),
        default="classical",
        help="how outlines are proposed (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="PATH",
        help="with --propose network: a model in place of the released one",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=2,
        metavar="N",
        help="number of threads of the network (default: %(default)s)",
    )
    parser.add_argument(
        "--masks", action="store_true", help="also write the proposals as 1-bit PNG"
    )
    parser.add_argument(
        "--per-page",
        type=positive,
        default=24,
        metavar="N",
        help="number of slices on a contact sheet (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing annotations")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")


def _proposer(arguments: argparse.Namespace) -> Propose:
    if arguments.propose == "classical":
        return outline
    engine = open_engine(
        argparse.Namespace(engine="litert", model=arguments.model, threads=arguments.threads)
    )
    return lambda plane: engine.segment(plane[np.newaxis]).mask[0]


def _summary(result: dict[str, Any]) -> str:
    """Describe the result of `Annotator.add` in a line."""
    last = result["first"] + result["slices"] - 1
    if not result["slices"]:
        return "skipped: an image with the same SOP Instance UID was added before"
    numbers = f"number {last}" if result["slices"] == 1 else f"numbers {result['first']} to {last}"
    return f"{numbers}, outlined: {result['outlined']}"


def run(arguments: argparse.Namespace) -> int:
    """Propose outlines and write the files; exit code 1 if an image could not be read."""
    missing = [path for path in arguments.inputs if not path.exists()]
    if missing:
        return misuse(f"{missing[0]} does not exist; DICOM files or folders of them were expected")
    if arguments.model and arguments.propose == "classical":
        return misuse("--model needs --propose network")
    if (arguments.out / ANNOTATIONS).exists() and not arguments.overwrite:
        # They may hold hours of somebody's corrections.
        raise OutputExistsError(
            f"there are annotations in {arguments.out}: choose another folder, or use --overwrite"
        )
    annotator = Annotator(arguments.out, _proposer(arguments), arguments.masks, arguments.per_page)
    images, _ = split_off_segmentations(collect(arguments.inputs))
    code = Batch(arguments.json, "annotate").run(images, annotator.add, _summary)
    count = annotator.finish()
    if not arguments.json:
        print(
            f"{count} slices in {arguments.out}: look at sheets/, then open {ANNOTATIONS} in VIA "
            "2 and add the files of previews/"
        )
    return code
