"""TensorFlow Serving's configuration files in protobuf's text format, read without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from coverslip_serving._stubs.ssl_config_pb2 import SslConfig

_Config = TypeVar("_Config", bound=Message)


def parse_text(path: Path, message: _Config) -> _Config:
    """Fill a message with a file's text.

    Parameters
    ----------
    path : Path
    message : Message
        Filled and returned.

    Raises
    ------
    ValueError
        The file does not have the message's form.
    """
    try:
        text_format.Parse(path.read_text(), message)
    except text_format.ParseError:
        # protobuf's message may quote a line, and the line may be a key's.
        raise ValueError(f"not a {message.DESCRIPTOR.name} in protobuf's text format") from None
    return message


def read_ssl_config(path: Path) -> grpc.ServerCredentials:
    """The server credentials in an ``ssl_config`` of TensorFlow Serving.

    Raises
    ------
    ValueError
        The file does not have that form, has no key or certificate, or asks clients for
        certificates without naming their authorities.
    """
    config = parse_text(path, SslConfig())
    if not (config.server_key and config.server_cert):
        raise ValueError("the ssl_config has no server_key or no server_cert")
    if config.client_verify and not config.custom_ca:
        raise ValueError("the ssl_config has client_verify and no custom_ca")
    pair = (config.server_key.encode(), config.server_cert.encode())
    return grpc.ssl_server_credentials(
        [pair], config.custom_ca.encode() or None, require_client_auth=config.client_verify
    )
