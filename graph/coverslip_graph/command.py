"""``coverslip export``: turns trained weights into a SavedModel and a .tflite."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from coverslip.cli import options
from coverslip.cli.batch import ALL_DONE, SOME_FAILED, misuse
from coverslip.errors import CoverslipError

if TYPE_CHECKING:
    from coverslip_graph.export import ModelRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``coverslip export``."""
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="FILE", help="trained weights, .npz"
    )
    parser.add_argument(
        "--version",
        type=options.positive,
        required=True,
        metavar="N",
        help="version number of both files",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("models"),
        metavar="DIR",
        help="output folder: coverslip/N/, coverslip.tflite, model.json (default: %(default)s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace a version that was made from other weights"
    )
    parser.add_argument("--json", action="store_true", help="print the contents of model.json")


def _summary(record: ModelRecord, out: Path) -> str:
    signatures = ", ".join(record["signatures"])
    return "\n".join(
        [
            f"version {record['version']}, checked in TensorFlow and LiteRT against the reference",
            f"    {out / 'coverslip' / str(record['version'])}  sha256 "
            f"{record['savedmodel_sha256']}",
            f"    {out / 'coverslip.tflite'}  sha256 {record['tflite_sha256']}",
            f"    signatures {signatures}",
        ]
    )


def run(arguments: argparse.Namespace) -> int:
    """Export and check; exit code 1 if a check fails or another version is in the way."""
    if not arguments.weights.is_file():
        return misuse(
            f"there are no weights at {arguments.weights}: give the .npz file that training wrote"
        )
    # Keep TensorFlow's log lines out of the report.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from coverslip_graph.export import digest, export
        from coverslip_graph.network import Network
    except ModuleNotFoundError as error:
        return misuse(
            f"{error.name} is not installed; exporting needs it: install 'coverslip[training]'"
        )
    try:
        network = Network.load(arguments.weights)
        record = export(
            network, arguments.out, arguments.version, digest(arguments.weights), arguments.force
        )
    except (CoverslipError, ValueError) as error:
        misuse(str(error))
        return SOME_FAILED
    print(json.dumps(record, indent=2) if arguments.json else _summary(record, arguments.out))
    return ALL_DONE
