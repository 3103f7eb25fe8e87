"""The structured log: one JSON object a line, on standard error.

A line may hold the fields of `FIELDS` alone, so that no identity can get in.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from typing import TextIO

FIELDS = {
    "address": "where the process listens: gRPC, health or metrics, with host and port",
    "bytes_in": "bytes of the instances that a call brought",
    "bytes_out": "bytes of the instances or records that a call returned",
    "client": "the caller's name on the allow-list; empty in plain text",
    "code": "Coverslip's code of a failure, or ok",
    "engine": "name of the engine",
    "error": "type of an unexpected error, never its message",
    "event": "kind of the line",
    "instances": "number of instances that a call brought",
    "method": "name of the call in the contract",
    "model_version": "version of the model that answered last; 0 if unknown",
    "request_id": "the caller's x-request-id, or the one that the gateway made",
    "seconds": "time that a call took",
    "status": "name of a call's gRPC status",
    "where": "functions and lines of an unexpected error, innermost first",
}
"""Meaning of each field. Every line also has ``time`` (UTC) and ``level``."""


class Log:
    """Writes lines; threads may share one.

    Parameters
    ----------
    stream : TextIO, optional
        Standard error if absent.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._lock = threading.Lock()

    def write(self, event: str, level: str = "info", **fields: str | int | float) -> None:
        """Write one line.

        Parameters
        ----------
        event : str
            Kind of the line.
        level : str
        **fields
            Names of `FIELDS`. Values are never a message, a header's value or a caller's path.

        Raises
        ------
        ValueError
            A field is not listed.
        """
        if unlisted := set(fields) - set(FIELDS):
            raise ValueError(
                f"log fields {sorted(unlisted)} are not listed; list them only if no identity can "
                "be in them"
            )
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        )
        line = json.dumps({"time": stamp, "level": level, "event": event, **fields})
        with self._lock:
            print(line, file=self._stream, flush=True)

    def unexpected(self, error: BaseException, request_id: str = "") -> None:
        """Write the type and the place of an unexpected error.

        Its message may quote a header and is left out. An error that a worker process met brings
        its own ``kind`` and ``where``.
        """
        kind = getattr(error, "kind", type(error).__name__)
        where = getattr(error, "where", "") or where_of(error)
        self.write("unexpected", "error", error=kind, where=where, request_id=request_id)


def where_of(error: BaseException) -> str:
    """The innermost places of an error's traceback: functions and lines, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
