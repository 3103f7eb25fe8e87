"""Ends streams whose caller stops sending or stops reading. gRPC itself waits for ever for both."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final, Generic, TypeVar

import grpc

from coverslip_serving.errors import IdleError

_POLL = 0.5
"""Seconds between two looks at whether the call has ended."""
_Message = TypeVar("_Message")


class _End:
    """Stands in the queue for the end of the stream."""


_END: Final = _End()


class _Arrivals(Generic[_Message]):
    """A thread waits for gRPC's iterator, and this object waits for the thread.

    Only the time that the server waits counts, not the time that it works while the caller has to
    hold back.
    """

    def __init__(self, requests: Iterator[_Message], seconds: float) -> None:
        self._requests = requests
        self._seconds = seconds
        # One message may arrive while another is worked on. More would be uncounted memory.
        self._arrived: queue.Queue[_Message | Exception | _End] = queue.Queue(1)
        self._closed = threading.Event()
        threading.Thread(target=self._receive, name="arrivals", daemon=True).start()

    def _receive(self) -> None:
        """Runs until the stream ends or the call does."""
        try:
            for request in self._requests:
                if not self._hand_over(request):
                    return
        except Exception as error:
            # The caller disconnected; whoever waits for messages gets the same error.
            self._hand_over(error)
        else:
            self._hand_over(_END)

    def _hand_over(self, item: _Message | Exception | _End) -> bool:
        while not self._closed.is_set():
            try:
                self._arrived.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[_Message]:
        return self

    def __next__(self) -> _Message:
        try:
            item = self._arrived.get(timeout=self._seconds)
        except queue.Empty:
            raise IdleError(
                f"the stream brought nothing for {self._seconds:g} s and was ended: send the "
                "next message sooner, or end the stream"
            ) from None
        if isinstance(item, _End):
            self._hand_over(item)
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self._closed.set()


@contextmanager
def limit_waiting(requests: Iterator[_Message], seconds: float) -> Iterator[Iterator[_Message]]:
    """A call's requests, each of which must arrive in time once the server waits for it.

    Parameters
    ----------
    requests : iterator
        gRPC's.
    seconds : float

    Yields
    ------
    iterator
        Raises `IdleError` if nothing arrives, and every error that ``requests`` raises.
    """
    arrivals = _Arrivals(requests, seconds)
    try:
        yield arrivals
    finally:
        arrivals.close()


def limit_stalling(
    answers: Generator[_Message, None, None], context: grpc.ServicerContext, seconds: float
) -> Iterator[_Message]:
    """A stream's answers, each of which the caller must read in time, or its call is cancelled.

    Parameters
    ----------
    answers : generator
        Closed at the end.
    context : grpc.ServicerContext
    seconds : float
    """
    with closing(answers):
        for answer in answers:
            stalled = threading.Timer(seconds, context.cancel)
            stalled.daemon = True
            stalled.start()
            try:
                yield answer
            finally:
                stalled.cancel()
