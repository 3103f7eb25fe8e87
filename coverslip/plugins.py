"""What the packages beside the core provide: engines, commands and clients, found by name as entry
points.

The core imports none of those packages. A group's names are in ``pyproject.toml``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

ENGINES = "coverslip.engines"
COMMANDS = "coverslip.commands"
CLIENTS = "coverslip.clients"


def load_plugin(group: str, name: str) -> Any:
    """The object that a group's entry point of this name refers to.

    Parameters
    ----------
    group : str
        `ENGINES`, `COMMANDS` or `CLIENTS`.
    name : str

    Raises
    ------
    LookupError
        No installed package provides it.
    ModuleNotFoundError
        It needs a package that is not installed.
    """
    for point in entry_points(group=group, name=name):
        return point.load()
    raise LookupError(f"nothing that is installed provides {name} for {group}")
