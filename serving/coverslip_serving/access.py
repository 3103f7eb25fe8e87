"""The allow-list of client certificates and their rights, and where plain text is safe."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import grpc

from coverslip_serving.errors import BadRequestError, NotAllowedError


class Right(str, Enum):
    """What a client may do."""

    EMBED = "embed"
    EXTRACT = "extract"
    OPEN = "open"


EITHER_RIGHT = frozenset({Right.EMBED, Right.EXTRACT})
"""For calls that neither make nor read a record."""


@dataclass(frozen=True)
class Access:
    """The allow-list.

    Attributes
    ----------
    clients : mapping or None
        Rights by certificate name; None without certificates, where everybody has every right.
    """

    clients: Mapping[str, frozenset[Right]] | None = None

    @classmethod
    def read(cls, path: Path) -> Access:
        """Read an allow-list: ``{"clients": {"ris.example.org": ["embed"]}}``.

        Raises
        ------
        BadRequestError
            The file cannot be read or does not have that form.
        """
        try:
            listed = json.loads(path.read_text())["clients"]
            return cls(
                {
                    str(name): frozenset(Right(right) for right in rights)
                    for name, rights in listed.items()
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRequestError(
                f"the allow-list cannot be read ({type(error).__name__}): expected JSON such as "
                '{"clients": {"ris.example.org": ["embed", "extract"]}}'
            ) from None

    def check(self, names: list[str], any_of: frozenset[Right]) -> str:
        """The name on the allow-list that gives a client a right.

        Parameters
        ----------
        names : list of str
            Names in its certificate.
        any_of : frozenset of Right
            Rights of which one is enough.

        Raises
        ------
        NotAllowedError
        """
        if self.clients is None:
            return ""
        listed = [name for name in names if name in self.clients]
        for name in listed:
            if self.clients[name] & any_of:
                return name
        wanted = " or ".join(sorted(right.value for right in any_of))
        if listed:
            raise NotAllowedError(
                f"this client has no right to {wanted}: ask the operator to add it to the "
                "allow-list"
            )
        raise NotAllowedError(
            "the names of this client's certificate are not on the allow-list: ask the operator "
            "to add one"
        )


def names_of(context: grpc.ServicerContext) -> list[str]:
    """Names in a caller's certificate.

    They are its subject alternative names, or its common name if it has none (RFC 6125, section
    6.4.4).
    """
    certificate: Mapping[str, list[bytes]] = context.auth_context()
    names = (
        certificate.get("x509_subject_alternative_name")
        or certificate.get("x509_common_name")
        or []
    )
    return [name.decode("utf-8", "replace") for name in names]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``host:port``; false for any name but localhost."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
