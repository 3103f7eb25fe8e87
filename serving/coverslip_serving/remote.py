"""The client that the command line's ``--server`` options describe."""

from __future__ import annotations

import argparse

from coverslip.errors import NoServerError
from coverslip_serving.access import is_loopback
from coverslip_serving.client import Client, Credentials


def connect(arguments: argparse.Namespace) -> Client:
    """A client of the server that the options name.

    Raises
    ------
    NoServerError
        A certificate cannot be read, or identities would cross a network in plain text.
    """
    if not (arguments.server_roots or arguments.plaintext or is_loopback(arguments.server)):
        raise NoServerError(
            "plain text is spoken on loopback only: name --server-roots, --server-certificate "
            "and --server-key, or say --plaintext if the "
            "network is trusted"
        )
    try:
        return Client(arguments.server, _credentials(arguments), timeout=arguments.server_seconds)
    except OSError as error:
        raise NoServerError(
            f"a certificate cannot be read ({type(error).__name__}): expected three PEM files"
        ) from None


def _credentials(arguments: argparse.Namespace) -> Credentials | None:
    if not arguments.server_roots:
        return None
    return Credentials(arguments.server_roots, arguments.server_certificate, arguments.server_key)
