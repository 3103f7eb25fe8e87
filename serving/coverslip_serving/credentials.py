"""Certificates of both ends of a connection, checked when they are read."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from coverslip_serving.errors import CredentialsError, CredentialsProblem


@dataclass(frozen=True)
class Credentials:
    """PEM files of a client: a gateway's, or a model server's, which is the gateway itself.

    Attributes
    ----------
    roots : Path
        Authorities that may have signed the server's certificate.
    certificate, key : Path or None
        The client's own, both or neither. A gateway asks for them.
    """

    roots: Path
    certificate: Path | None = None
    key: Path | None = None

    def tls_context(self) -> ssl.SSLContext:
        """Python's own TLS settings from these files.

        gRPC takes any bytes for certificates and then fails to connect. Python parses them.

        Raises
        ------
        CredentialsError
            A file cannot be read or is not PEM, or key and certificate do not belong together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        try:
            context.load_verify_locations(cafile=self.roots)
            if self.certificate is not None:
                # Without the callback, an encrypted key would ask for its password on the terminal.
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except ssl.SSLError:
            raise CredentialsError(CredentialsProblem.NOT_PEM) from None
        except OSError as error:
            raise CredentialsError(
                CredentialsProblem.UNREADABLE, error.strerror or type(error).__name__
            ) from None
        return context

    def for_channel(self) -> grpc.ChannelCredentials:
        """These files as gRPC takes them.

        Raises
        ------
        CredentialsError
            As for `tls_context`.
        """
        self.tls_context()
        key = None if self.key is None else self.key.read_bytes()
        chain = None if self.certificate is None else self.certificate.read_bytes()
        return grpc.ssl_channel_credentials(self.roots.read_bytes(), key, chain)


@dataclass(frozen=True)
class ServerCredentials:
    """PEM files of a gateway that asks its clients for certificates.

    Attributes
    ----------
    certificate, key : Path
        The gateway's own.
    client_roots : Path
        Authorities that may have signed the clients' certificates.
    """

    certificate: Path
    key: Path
    client_roots: Path

    def for_port(self) -> grpc.ServerCredentials:
        """These files as gRPC takes them; a client without a certificate fails the handshake."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials(
            [pair], self.client_roots.read_bytes(), require_client_auth=True
        )
