"""The command line: ``coverslip COMMAND``. Heavy imports stay inside the command that needs them.

Exit codes: 0 all done, 1 some failed, 2 misuse.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast

import coverslip
from coverslip import plugins
from coverslip.plugins import load_plugin


class Command(Protocol):
    """A module with these two functions, here or as an entry point of
    `coverslip.plugins.COMMANDS`.
    """

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the command's arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


COMMANDS: dict[str, str] = {
    "keygen": "make an identity (private key) and print its recipient (public key)",
    "embed": "move the identity from the header into the background",
    "extract": "read the identity back with the key",
    "inspect": "say what fits in an image, before anything is written",
    "demo": "the whole way on a real CT with a fake patient, with a picture",
}
"""Commands of the core, each a module of this package, and one line of help."""

ADDED_COMMANDS: dict[str, str] = {
    "serve": "answer imaging systems over gRPC",
    "model-server": "stand in for TensorFlow Serving, for tests and places without containers",
    "train": "prepare data, train and measure the network that outlines the body",
    "export": "write the released model, in both of its forms, from trained weights",
}
"""Commands that other packages provide, and one line of help."""


def _load(name: str) -> Command:
    if name in COMMANDS:
        return cast("Command", importlib.import_module(f"coverslip.cli.{name}"))
    return cast("Command", load_plugin(plugins.COMMANDS, name))


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coverslip",
        description="Hide a patient's identity in the background of a medical image, and give it "
        "back to the holder of the key.",
        epilog="Exit codes: 0 all done, 1 some failed, 2 misuse.",
    )
    parser.add_argument("--version", action="version", version=f"coverslip {coverslip.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in {**COMMANDS, **ADDED_COMMANDS}.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            # Only the chosen command's module is imported: the others may need what is not
            # installed.
            _load(name).add_arguments(sub)
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
    command = _load(arguments.command)
    try:
        return command.run(arguments)
    except BrokenPipeError:
        # Whoever read the output has left; what Python flushes at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("coverslip: stopped; what was written is whole", file=sys.stderr)
        return 1


def register_pydicom_subcommand(commands: Any) -> None:
    """``pydicom coverslip ...``: what pydicom's command line calls with its own sub-parsers."""
    sub = commands.add_parser(
        "coverslip", help="hide identity in the background of an image", add_help=False
    )
    sub.add_argument("words", nargs=argparse.REMAINDER)
    sub.set_defaults(func=lambda arguments: sys.exit(main(arguments.words)))
