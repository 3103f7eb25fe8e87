"""Coverslip over gRPC: a gateway and its client, and TensorFlow Serving as an engine.

Start at `Client`. Importing this package loads nothing; a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coverslip_serving.client import Client
    from coverslip_serving.credentials import Credentials
    from coverslip_serving.errors import (
        CredentialsError,
        CredentialsProblem,
        RemoteError,
        UnknownProfileError,
    )
    from coverslip_serving.results import EmbedResult, ExtractResult, OpenedRecord, Outlines
    from coverslip_serving.sealing import seal_instance
else:
    # Hidden from type checkers, to which it would make every misspelt name a valid one.
    _MODULES = {
        "Client": "client",
        "Credentials": "credentials",
        "CredentialsError": "errors",
        "CredentialsProblem": "errors",
        "EmbedResult": "results",
        "ExtractResult": "results",
        "OpenedRecord": "results",
        "Outlines": "results",
        "RemoteError": "errors",
        "UnknownProfileError": "errors",
        "seal_instance": "sealing",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__():
        return sorted([*globals(), *__all__])


__all__ = [
    "Client",
    "Credentials",
    "CredentialsError",
    "CredentialsProblem",
    "EmbedResult",
    "ExtractResult",
    "OpenedRecord",
    "Outlines",
    "RemoteError",
    "UnknownProfileError",
    "seal_instance",
]
