"""``coverslip train``: from DICOM files and annotations to a released model, one sub-command for
each part of the way.

Each part is a module of ``coverslip_training`` with ``add_arguments(parser)`` and ``run(arguments)
-> int``. It is imported only when it was asked for: most of them load TensorFlow.
"""

from __future__ import annotations

import argparse
import importlib
import os
from typing import TYPE_CHECKING, Any, cast

from coverslip.cli.batch import misuse
from coverslip.errors import CoverslipError

if TYPE_CHECKING:
    from coverslip.cli import Command

PARTS: dict[str, tuple[str, str]] = {
    "data": (
        "coverslip_training.data",
        "DICOM files and their annotations to sharded records, split by patient",
    ),
    "annotate": (
        "coverslip_training.annotate",
        "propose outlines, draw them to be checked by eye, write them for the VIA tool",
    ),
    "fit": (
        "coverslip_training.train",
        "train the network, from the last checkpoint if there is one",
    ),
    "evaluate": (
        "coverslip_training.evaluate",
        "measure a network on slices that it was not trained on",
    ),
}
"""Part: (module, one line of help)."""


class _PartParser(argparse.ArgumentParser):
    """A part's parser, which asks the part's module for its arguments only when there is something
    to parse.
    """

    module: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Add the arguments of the part, then parse."""
        if self.module is not None:
            module, self.module = self.module, None
            self._load(module).add_arguments(self)
        return super().parse_known_args(args, namespace)

    def _load(self, module: str) -> Command:
        # TensorFlow's greetings would stand between the lines of a report.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            return cast("Command", importlib.import_module(module))
        except ModuleNotFoundError as error:
            raise SystemExit(_not_installed(error)) from None


def _not_installed(error: ModuleNotFoundError) -> int:
    if error.name is None or error.name.startswith("coverslip"):
        raise error
    return misuse(
        f"{error.name} is not installed; training needs it: install 'coverslip[training]'"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the parts; the chosen one adds its arguments when its turn comes."""
    parts = parser.add_subparsers(
        dest="part", metavar="PART", required=True, parser_class=_PartParser
    )
    for name, (module, text) in PARTS.items():
        parts.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        ).module = module


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen part; what it refuses with a `CoverslipError` is said in a sentence, exit code
    2.
    """
    part = cast("Command", importlib.import_module(PARTS[arguments.part][0]))
    try:
        return part.run(arguments)
    except ModuleNotFoundError as error:
        return _not_installed(error)
    except CoverslipError as error:
        return misuse(str(error))
