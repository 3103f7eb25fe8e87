"""How much is taken on at the same time: refuse with a sentence instead of falling over."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coverslip_serving.deadline import Deadline
from coverslip_serving.errors import BusyError, TooLargeError

_POLL = 0.25
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a gateway gives.

    Attributes
    ----------
    calls : int
        Calls taken on at the same time; more are refused.
    parallel : int
        Instances worked on at the same time; calls wait for their turn.
    memory : int
        Bytes that all instances at work may need, estimated from their headers.
    message : int
        Bytes of one message.
    instance : int
        Bytes of one instance in a stream.
    seconds : float
        Longest time for a unary call or one instance of a stream.
    idle : float
        Seconds that a stream may bring nothing while it is waited for.
    """

    calls: int = 32
    parallel: int = 2
    memory: int = 4096 * MIB
    message: int = 64 * MIB
    instance: int = 1024 * MIB
    seconds: float = 300.0
    idle: float = 60.0


class Room:
    """Keeps count."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._calls = 0
        self._memory = 0
        self._free = limits.parallel
        self._waiting: deque[threading.Event] = deque()

    @property
    def calls(self) -> int:
        """Calls under way."""
        return self._calls

    @contextmanager
    def call(self) -> Iterator[None]:
        """Take a call on.

        Raises
        ------
        BusyError
            There are as many as there may be.
        """
        with self._lock:
            if self._calls >= self.limits.calls:
                raise BusyError(
                    f"{self.limits.calls} calls are under way, which is all this server takes: "
                    "try again in a moment"
                )
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def admit(self, needed: int) -> None:
        """Refuse at once what no turn would help.

        Raises
        ------
        TooLargeError
            So many bytes are never there.
        """
        if needed > (allowed := self.limits.memory):
            raise TooLargeError(
                f"the instance needs about {needed // MIB} MiB to work on where this server "
                f"gives {allowed // MIB} MiB: "
                "split it, or ask the operator for more"
            )

    @contextmanager
    def memory(self, needed: int) -> Iterator[None]:
        """Set memory aside, for a call whose turn it is.

        Parameters
        ----------
        needed : int
            Bytes.

        Raises
        ------
        BusyError
            It is not there now.
        TooLargeError
            It never is.
        """
        self.admit(needed)
        allowed = self.limits.memory
        with self._lock:
            if self._memory + needed > allowed:
                raise BusyError(
                    f"the instances at work leave no {needed // MIB} MiB for this one: try again "
                    "in a moment"
                )
            self._memory += needed
        try:
            yield
        finally:
            with self._lock:
                self._memory -= needed

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[None]:
        """Wait until it is this call's turn to work; first come, first served.

        Raises
        ------
        DeadlinePassedError, CancelledError
        """
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            self._hand_out()
        try:
            # A semaphore would let late callers overtake those who look at their deadline now and
            # then.
            while not mine.wait(max(min(_POLL, deadline.remaining()), 0.001)):
                deadline.check()
            deadline.check()
            yield
        finally:
            with self._lock:
                if mine.is_set():
                    self._free += 1
                else:
                    self._waiting.remove(mine)
                self._hand_out()

    def _hand_out(self) -> None:
        """Give free turns to those who wait longest; the lock is held."""
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().set()
