"""TensorFlow Serving's configurations in protobuf's text format, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from coverslip_serving._stubs.ssl_config_pb2 import SslConfig

_Parsed = TypeVar("_Parsed", bound=Message)


def parsed(path: Path, message: _Parsed) -> _Parsed:
    """A file's text as a message.

    Parameters
    ----------
    path : Path
    message : Message
        Filled.

    Raises
    ------
    ValueError
        It is not of that form.
    """
    try:
        text_format.Parse(path.read_text(), message)
    except text_format.ParseError:
        # What protobuf says may quote a line, and the line may be a key's.
        raise ValueError(f"not a {message.DESCRIPTOR.name} in protobuf's text format") from None
    return message


def read_ssl_config(path: Path) -> grpc.ServerCredentials:
    """The server credentials that an ``ssl_config`` of TensorFlow Serving describes.

    Raises
    ------
    ValueError
        It is none, or has no key or certificate, or asks clients for certificates without saying
        who signs them.
    """
    config = parsed(path, SslConfig())
    if not (config.server_key and config.server_cert):
        raise ValueError("the ssl_config has no server_key or no server_cert")
    if config.client_verify and not config.custom_ca:
        raise ValueError("the ssl_config has client_verify and no custom_ca")
    pair = (config.server_key.encode(), config.server_cert.encode())
    return grpc.ssl_server_credentials(
        [pair], config.custom_ca.encode() or None, require_client_auth=config.client_verify
    )
