"""How long the call that is being worked on may still take, and whether its caller is still
there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from coverslip_serving.errors import CancelledError, DeadlinePassedError


@dataclass(frozen=True)
class Deadline:
    """When a call must be over.

    Attributes
    ----------
    at : float
        On the monotonic clock, seconds.
    alive : callable
        Whether the caller is still there.
    """

    at: float
    alive: Callable[[], bool]

    def remaining(self) -> float:
        """Seconds left; negative when none are."""
        return self.at - time.monotonic()

    def check(self) -> None:
        """Stop the work where it is for nobody.

        Raises
        ------
        DeadlinePassedError, CancelledError
        """
        if self.remaining() <= 0:
            raise DeadlinePassedError(
                "the deadline of the call passed before it was done: allow more time, or send "
                "fewer frames at once"
            )
        if not self.alive():
            raise CancelledError("the caller cancelled the call")


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """The deadline of the call that this thread works on, or None."""
    return _current.get()


@contextmanager
def working_for(deadline: Deadline) -> Iterator[None]:
    """Everything inside works for one call."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)
