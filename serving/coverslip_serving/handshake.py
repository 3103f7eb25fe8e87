"""Finds out why TLS fails, by a handshake of its own: gRPC gives the cause only as prose."""

from __future__ import annotations

import socket
import ssl

from coverslip_serving.credentials import Credentials
from coverslip_serving.errors import CredentialsProblem

_LONGEST = 2.0
"""Seconds for each step of the handshake."""


def find_problem(
    target: str, credentials: Credentials | None, seconds: float | None = None
) -> CredentialsProblem | None:
    """Shake hands with a server that gRPC could not reach.

    Parameters
    ----------
    target : str
        ``host:port``; nothing is tried for gRPC's other forms.
    credentials : Credentials or None
        The client's; None where it speaks plain text.
    seconds : float, optional
        Time that is left; at most 2 are taken for each step.

    Returns
    -------
    CredentialsProblem or None
        None where the certificates are not the cause, such as a server that is not running.
    """
    host, _, port = target.rpartition(":")
    if not port.isdigit() or (":" in host and not host.startswith("[")):
        return None
    host = host.strip("[]")
    longest = _LONGEST if seconds is None else min(seconds, _LONGEST)
    context = _context_without_certificates() if credentials is None else credentials.tls_context()
    try:
        with socket.create_connection((host, int(port)), longest) as plain:
            try:
                secured = context.wrap_socket(plain, server_hostname=host)
            except ssl.SSLCertVerificationError:
                return CredentialsProblem.SERVER_NOT_TRUSTED
            except ssl.SSLError:
                return None if credentials is None else CredentialsProblem.NO_TLS
            if credentials is None:
                return CredentialsProblem.TLS_EXPECTED
            with secured:
                return _check_first_byte(secured)
    except OSError:
        return None


def _check_first_byte(secured: ssl.SSLSocket) -> CredentialsProblem | None:
    """In TLS 1.3 a server looks at the client's certificate after the client's side is done.

    A gRPC server that accepts it sends its HTTP/2 settings at once; one that does not hangs up.
    """
    try:
        accepted = bool(secured.recv(1))
    except TimeoutError:
        return None
    except ssl.SSLError:
        accepted = False
    return None if accepted else CredentialsProblem.CLIENT_NOT_ACCEPTED


def _context_without_certificates() -> ssl.SSLContext:
    """To learn whether a server speaks TLS at all. Nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
