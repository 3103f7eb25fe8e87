"""``coverslip keygen``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from coverslip.cli.batch import ALL_DONE, SOME_FAILED
from coverslip.crypto.keys import Identity
from coverslip.errors import CoverslipError, KeyFileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "identity", type=Path, metavar="FILE", help="where the identity is written, mode 0600"
    )
    parser.add_argument("--json", action="store_true", help="print the recipient as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Write a new identity; print its recipient."""
    identity = Identity.generate()
    try:
        _write(identity, arguments.identity)
    except CoverslipError as error:
        print(
            json.dumps({"status": "failed", "code": error.code, "message": str(error)})
            if arguments.json
            else f"coverslip: {error}"
        )
        return SOME_FAILED
    print(
        json.dumps({"recipient": str(identity.recipient)})
        if arguments.json
        else str(identity.recipient)
    )
    return ALL_DONE


def _write(identity: Identity, path: Path) -> None:
    try:
        identity.write(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise KeyFileError(
            f"the identity file cannot be written ({reason}); a name in a folder that is there, on "
            "a disk with room, was expected: make the folder, or choose another"
        ) from None
