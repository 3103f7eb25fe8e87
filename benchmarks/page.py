"""Reads and writes the tables that benchmarks keep in the documentation, between two marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCHEME = ROOT / "docs" / "scheme.md"


def _block(name: str, script: str) -> re.Pattern[str]:
    begin, end = (
        f"<!-- {name}: written by benchmarks/{Path(script).name} -->",
        f"<!-- end of {name} -->",
    )
    return re.compile(f"({re.escape(begin)}\n)(.*?)({re.escape(end)})", re.DOTALL)


def read_block(page: Path, name: str, script: str) -> list[str]:
    """Read the lines between the marks of a block; raises ValueError if the page lacks it."""
    match = _block(name, script).search(page.read_text())
    if match is None:
        raise ValueError(f"{page} has no block {name!r} of {Path(script).name}")
    return match[2].splitlines()


def write_block(page: Path, name: str, script: str, lines: Sequence[str]) -> None:
    """Replace the lines between the marks of a block; raises ValueError if the page lacks it."""
    read_block(page, name, script)
    text = "".join(f"{line}\n" for line in lines)
    page.write_text(
        _block(name, script).sub(lambda match: match[1] + text + match[3], page.read_text())
    )
