"""Tables that benchmarks write into the documentation, between two marks."""

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
    """The lines between the marks of a block; raises ValueError where the page has none."""
    found = _block(name, script).search(page.read_text())
    if found is None:
        raise ValueError(f"{page} has no block {name!r} of {Path(script).name}")
    return found[2].splitlines()


def write_block(page: Path, name: str, script: str, lines: Sequence[str]) -> None:
    """Put lines in the place of those between the marks of a block; raises ValueError where the
    page has none.
    """
    read_block(page, name, script)
    text = "".join(f"{line}\n" for line in lines)
    page.write_text(
        _block(name, script).sub(lambda found: found[1] + text + found[3], page.read_text())
    )
