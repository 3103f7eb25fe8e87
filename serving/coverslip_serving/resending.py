"""Pauses between attempts at a call that a server could not take."""

from __future__ import annotations

import random
from collections.abc import Iterator

_FIRST = 0.1
_LONGEST = 2.0


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt: 0.1 at most at first, then twice that, up to 2.

    Half of each is random, so that the callers of a server that comes back do not all ask at once.
    """
    longest = _FIRST
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - jitter
        longest = min(2 * longest, _LONGEST)
