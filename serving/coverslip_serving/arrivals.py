"""A stream's messages, for as long as its caller keeps sending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coverslip_serving.errors import IdleError

_LOOK = 0.5
_END = object()


class _Arrivals(Iterator[Any]):
    """gRPC's own iterator waits for ever: a thread waits on it, and this waits on the thread.

    Only the time that the server spends waiting counts, not the time that it works while the caller
    has to hold back.
    """

    def __init__(self, requests: Iterator[Any], seconds: float) -> None:
        self._requests = requests
        self._seconds = seconds
        # One message is under way while one is worked on; more would be memory that nobody counts.
        self._arrived: queue.Queue[Any] = queue.Queue(1)
        self._closed = threading.Event()
        threading.Thread(target=self._receive, name="arrivals", daemon=True).start()

    def _receive(self) -> None:
        """Ends with the stream, or with the call if that is sooner."""
        try:
            for request in self._requests:
                if not self._hand_over(request):
                    return
        except Exception as error:
            # The caller went away; whoever waits for its messages is told in the same way.
            self._hand_over(error)
        else:
            self._hand_over(_END)

    def _hand_over(self, item: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._arrived.put(item, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def __next__(self) -> Any:
        try:
            item = self._arrived.get(timeout=self._seconds)
        except queue.Empty:
            raise IdleError(
                f"the stream brought nothing for {self._seconds:g} s and was ended: send the "
                "next message sooner, or end the stream"
            ) from None
        if item is _END:
            self._hand_over(_END)
            raise StopIteration
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        self._closed.set()


@contextmanager
def arriving(requests: Iterator[Any], seconds: float) -> Iterator[Iterator[Any]]:
    """A call's requests, each of which must come within some time of being waited for.

    Parameters
    ----------
    requests : iterator
        gRPC's.
    seconds : float

    Yields
    ------
    iterator
        Raises `IdleError` where nothing came, and what ``requests`` raises.
    """
    arrivals = _Arrivals(requests, seconds)
    try:
        yield arrivals
    finally:
        arrivals.close()
