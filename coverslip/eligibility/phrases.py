"""Words to look for in what a header says."""

from __future__ import annotations

import re
from collections.abc import Collection


class Phrases:
    """Phrases to look for as whole words.

    Parameters
    ----------
    patterns : str
        Regular expressions separated by spaces; ``_`` stands for a space.
    """

    def __init__(self, patterns: str) -> None:
        choices = "|".join(pattern.replace("_", " ") for pattern in patterns.split())
        self._wanted = re.compile(rf"(?<!\w)(?:{choices})(?!\w)")

    def found_in(self, *texts: Collection[str]) -> bool:
        """Whether one of them stands in one of the texts."""
        return any(self._wanted.search(text) for some in texts for text in some)


def terms(text: str) -> frozenset[str]:
    """Terms separated by spaces; ``_`` stands for a space."""
    return frozenset(term.replace("_", " ") for term in text.split())
