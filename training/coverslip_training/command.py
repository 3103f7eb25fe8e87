"""``coverslip train``: from DICOM files and annotations to trained weights.

Each sub-command is a module with ``add_arguments(parser)`` and ``run(arguments) -> int``. Only the
chosen one is imported, because most of them load TensorFlow.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from coverslip.cli.batch import misuse
from coverslip.errors import CoverslipError

if TYPE_CHECKING:
    from coverslip.cli import Command


class Part(NamedTuple):
    """A sub-command: its module and one line of help."""

    module: str
    help: str


PARTS = {
    "data": Part(
        "coverslip_training.data",
        "turn DICOM files and their annotations into sharded records, split by patient",
    ),
    "annotate": Part(
        "coverslip_training.annotate",
        "propose outlines, draw them for review, and write them for the VIA tool",
    ),
    "fit": Part(
        "coverslip_training.train",
        "train the network, resuming from the last checkpoint if there is one",
    ),
    "evaluate": Part(
        "coverslip_training.evaluate",
        "measure a network on slices that it was not trained on",
    ),
}


class _WordCollector(argparse.ArgumentParser):
    """Keeps a sub-command's words as they are; `run` parses them once its module is loaded."""

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Put all words into ``words``."""
        namespace = argparse.Namespace() if namespace is None else namespace
        namespace.words = list(args or ())
        return namespace, []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    parts = parser.add_subparsers(
        dest="part", metavar="PART", required=True, parser_class=_WordCollector
    )
    for name, part in PARTS.items():
        parts.add_parser(name, help=part.help)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen sub-command; a `CoverslipError` becomes a message and exit code 2."""
    part = PARTS[arguments.part]
    parser = argparse.ArgumentParser(
        prog=f"coverslip train {arguments.part}",
        description=part.help[0].upper() + part.help[1:] + ".",
    )
    # Keep TensorFlow's log lines out of the report.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        command = cast("Command", importlib.import_module(part.module))
        command.add_arguments(parser)
        return command.run(parser.parse_args(arguments.words))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("coverslip"):
            raise
        return misuse(
            f"{error.name} is not installed; training needs it: install 'coverslip[training]'"
        )
    except CoverslipError as error:
        return misuse(str(error))
