"""The client that the command line's ``--server`` options describe."""

from __future__ import annotations

import argparse

from coverslip.errors import NoServerError
from coverslip_serving import Client
from coverslip_serving.access import is_loopback
from coverslip_serving.credentials import Credentials


def connect(arguments: argparse.Namespace) -> Client:
    """A client of the server that the options name.

    Raises
    ------
    NoServerError
        Identities would cross a network in plain text.
    CredentialsError
        The certificates cannot be used.
    """
    if not (arguments.server_roots or arguments.plaintext or is_loopback(arguments.server)):
        raise NoServerError(
            "plain text is allowed on loopback only: name --server-roots, --server-certificate and "
            "--server-key, or add --plaintext if the network is trusted"
        )
    credentials = None
    if arguments.server_roots:
        credentials = Credentials(
            arguments.server_roots, arguments.server_certificate, arguments.server_key
        )
    return Client(arguments.server, credentials, timeout=arguments.server_seconds)
