"""Options of the commands that can let a server do the work; the key stays here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from coverslip.cli import options
from coverslip.errors import NoServerError
from coverslip.files import write_bytes_atomically
from coverslip.plugins import CLIENTS, load_plugin
from coverslip.scheme.profiles import PROFILES, Scheme


def add_server(parser: argparse.ArgumentParser) -> None:
    """--server and its certificates."""
    group = parser.add_argument_group("a server in place of this machine")
    group.add_argument(
        "--server", metavar="HOST:PORT", help="let this gateway ('coverslip serve') do the work"
    )
    group.add_argument(
        "--server-roots", type=Path, metavar="FILE", help="who signs the server's certificate (PEM)"
    )
    group.add_argument(
        "--server-certificate", type=Path, metavar="FILE", help="our certificate for it (PEM)"
    )
    group.add_argument("--server-key", type=Path, metavar="FILE", help="our key for it (PEM)")
    text = "longest time for one instance (default: %(default)s)"
    group.add_argument(
        "--server-seconds", type=options.positive_float, default=300.0, metavar="S", help=text
    )
    text = "send identities to another machine in plain text: never outside a trusted network"
    group.add_argument("--plaintext", action="store_true", help=text)


def misused(arguments: argparse.Namespace, here_alone: dict[str, Any]) -> str | None:
    """What is wrong with the options for a server, or None.

    Parameters
    ----------
    arguments : argparse.Namespace
    here_alone : dict
        Options that need the work to be done here, and whether they were given.
    """
    files = (arguments.server_roots, arguments.server_certificate, arguments.server_key)
    if not arguments.server:
        return (
            "--server-roots, -certificate and -key are for --server HOST:PORT: name it too"
            if any(files)
            else None
        )
    if any(files) and not all(files):
        return (
            "--server-roots, --server-certificate and --server-key belong together: name all three"
        )
    here_alone = {
        **here_alone,
        "--model": arguments.model,
        "--alpha": arguments.alpha,
        "--engine": arguments.engine != options.ENGINES[0],
    }
    given = [name for name, value in here_alone.items() if value]
    if given:
        return f"{given[0]} does not go with --server: leave one of them out"
    if arguments.profile and PROFILES[arguments.profile].scheme is not Scheme.KEYED:
        return (
            f"servers do not speak profile {arguments.profile}: choose another, or leave "
            "--server out"
        )
    return None


def connect(arguments: argparse.Namespace) -> Any:
    """A client of the server that the options name (`coverslip_serving.client.Client`).

    Raises
    ------
    NoServerError
        The gRPC packages are missing, a certificate cannot be read, or identities would cross a
        network in plain text.
    """
    try:
        connect = load_plugin(CLIENTS, "grpc")
    except (LookupError, ModuleNotFoundError):
        raise NoServerError(
            "the client for --server is not installed; install 'coverslip[serving]'"
        ) from None
    return connect(arguments)


def write_whole(content: bytes, target: Path) -> None:
    """Write a new file that appears at once and whole, and its folder if that is missing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(target, content)
