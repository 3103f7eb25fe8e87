"""The command line: ``coverslip COMMAND``. Heavy imports stay inside the command that needs them.

Exit codes: 0 all done, 1 some failed, 2 misuse.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

import coverslip


class Command(Protocol):
    """A module under ``coverslip.cli`` with these two functions."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


COMMANDS: dict[str, tuple[str, str]] = {
    "keygen": ("coverslip.cli.keygen", "make an identity (private key) and print its recipient (public key)"),
    "embed": ("coverslip.cli.embed", "move the identity from the header into the background"),
    "extract": ("coverslip.cli.extract", "read the identity back with the key"),
    "inspect": ("coverslip.cli.inspect", "say what fits in an image, before anything is written"),
    "serve": ("coverslip.cli.serve", "answer imaging systems over gRPC"),
    "model-server": ("coverslip.cli.model_server", "stand in for TensorFlow Serving, for tests and places without containers"),
    "train": ("coverslip.cli.train", "prepare data, train and measure the network that outlines the body"),
    "export": ("coverslip.cli.export", "write the released model, in both of its forms, from trained weights"),
    "demo": ("coverslip.cli.demo", "the whole way on a real CT with an invented patient, with a picture"),
}
"""Command: (module, one line of help)."""


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coverslip",
        description="Hide a patient's identity in the background of a medical image, and give it back to the holder of the key.",
        epilog="Exit codes: 0 all done, 1 some failed, 2 misuse.",
    )
    parser.add_argument("--version", action="version", version=f"coverslip {coverslip.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            # Only the chosen command's module is imported: the others may need what is not installed.
            cast(Command, importlib.import_module(module)).add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Without the program's name; the process's own where absent.

    Returns
    -------
    int
        0 all done, 1 some failed, 2 misuse.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    arguments = _parser(chosen).parse_args(words)
    command = cast(Command, importlib.import_module(COMMANDS[arguments.command][0]))
    try:
        return command.run(arguments)
    except KeyboardInterrupt:
        print("coverslip: stopped; what was written is whole", file=sys.stderr)
        return 1


def register_pydicom_subcommand(commands: Any) -> None:
    """``pydicom coverslip ...``: what pydicom's command line calls with its own sub-parsers."""
    sub = commands.add_parser("coverslip", help="hide identity in the background of an image", add_help=False)
    sub.add_argument("words", nargs=argparse.REMAINDER)
    sub.set_defaults(func=lambda arguments: sys.exit(main(arguments.words)))
