"""How much a gateway works on at once. It refuses what is beyond that instead of breaking down."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from coverslip_serving.deadline import Deadline
from coverslip_serving.errors import BusyError, TooLargeError
from coverslip_serving.sizes import MIB

_POLL = 0.25
"""Seconds between two looks at the deadline of a call that waits for its turn."""


@dataclass(frozen=True)
class Limits:
    """Limits of a gateway.

    Attributes
    ----------
    calls : int
        Calls at the same time; more are refused.
    parallel : int
        Instances worked on at the same time; further calls wait for their turn.
    memory : int
        Bytes that all instances being worked on may need, estimated from their headers.
    message : int
        Bytes of one message.
    instance : int
        Bytes of one instance in a stream.
    seconds : float
        Longest time for a unary call, or for one instance of a stream.
    idle : float
        Seconds that a stream's caller may send, or read, nothing.
    """

    calls: int = 32
    parallel: int = 2
    memory: int = 4096 * MIB
    message: int = 64 * MIB
    instance: int = 1024 * MIB
    seconds: float = 300.0
    idle: float = 60.0


class Capacity:
    """Counts calls, turns and memory against the limits.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._calls = 0
        self._memory = 0
        self._free_turns = limits.parallel
        self._waiting: deque[threading.Event] = deque()

    @property
    def calls(self) -> int:
        """Calls at present."""
        return self._calls

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn at present."""
        return len(self._waiting)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Take one call on.

        Raises
        ------
        BusyError
            There are as many calls as there may be.
        """
        with self._lock:
            if self._calls >= self.limits.calls:
                raise BusyError(
                    f"this server is busy with {self.limits.calls} calls and takes no more: try "
                    "again in a moment"
                )
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1

    def check_memory(self, needed: int) -> None:
        """Refuse an instance that could never be worked on, before it waits for its turn.

        Raises
        ------
        TooLargeError
            It needs more bytes than the limit.
        """
        if needed > (limit := self.limits.memory):
            raise TooLargeError(
                f"work on the instance needs about {needed // MIB} MiB where this server allows "
                f"{limit // MIB} MiB: split it, or ask the operator for more"
            )

    @contextmanager
    def memory(self, needed: int) -> Iterator[None]:
        """Set memory aside for a call whose turn it is.

        Parameters
        ----------
        needed : int
            Bytes.

        Raises
        ------
        BusyError
            Other instances use it at present.
        TooLargeError
            It needs more bytes than the limit.
        """
        self.check_memory(needed)
        with self._lock:
            if self._memory + needed > self.limits.memory:
                raise BusyError(
                    f"other instances leave no {needed // MIB} MiB for this one: try again in a "
                    "moment"
                )
            self._memory += needed
        try:
            yield
        finally:
            with self._lock:
                self._memory -= needed

    @contextmanager
    def turn(self, deadline: Deadline) -> Iterator[None]:
        """Wait for this call's turn to work; first come, first served.

        Raises
        ------
        DeadlinePassedError, CancelledError
        """
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            self._hand_out_turns()
        try:
            # Not a semaphore: late callers would overtake those that look at their deadline.
            while not mine.wait(max(min(_POLL, deadline.remaining()), 0.001)):
                deadline.check()
            deadline.check()
            yield
        finally:
            with self._lock:
                if mine.is_set():
                    self._free_turns += 1
                else:
                    self._waiting.remove(mine)
                self._hand_out_turns()

    def _hand_out_turns(self) -> None:
        """Give free turns to those who wait longest. The caller holds the lock."""
        while self._free_turns and self._waiting:
            self._free_turns -= 1
            self._waiting.popleft().set()
