"""The deadline of the call that a thread works for, and whether its caller is still connected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from coverslip_serving.errors import CancelledError, DeadlinePassedError


@dataclass(frozen=True)
class Deadline:
    """When a call must have ended.

    Attributes
    ----------
    at : float
        Seconds on the monotonic clock.
    alive : callable
        Whether the caller is still connected.
    """

    at: float
    alive: Callable[[], bool]

    def remaining(self) -> float:
        """Seconds left; negative after the deadline."""
        return self.at - time.monotonic()

    def check(self) -> None:
        """Stop work whose result nobody would get.

        Raises
        ------
        DeadlinePassedError, CancelledError
        """
        if self.remaining() <= 0:
            raise DeadlinePassedError(
                "the call's deadline passed before the work was done: allow more time, or send "
                "fewer frames at once"
            )
        if not self.alive():
            raise CancelledError("the caller cancelled the call")


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    """The deadline of the call that this thread works for, or None."""
    return _current.get()


@contextmanager
def working_for(deadline: Deadline) -> Iterator[None]:
    """Work for the call with this deadline inside the block."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)
