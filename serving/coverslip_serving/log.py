"""Structured logs: one JSON object a line, on standard error. What a line may hold is listed here,
so that no identity can get in.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from typing import TextIO

FIELDS = (
    "address",
    "bytes_in",
    "bytes_out",
    "client",
    "code",
    "engine",
    "error",
    "event",
    "instances",
    "method",
    "model_version",
    "request_id",
    "seconds",
    "signal",
    "status",
    "where",
)


class Log:
    """Writes lines.

    Parameters
    ----------
    stream : TextIO, optional
        Standard error where absent.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._turn = threading.Lock()

    def write(self, event: str, level: str = "info", **fields: str | int | float) -> None:
        """One line.

        Parameters
        ----------
        event : str
            What happened.
        level : str
        **fields
            Named in `FIELDS`; never a message, a header's value or a path of the caller's.

        Raises
        ------
        ValueError
            A field that is not listed.
        """
        if strange := set(fields) - set(FIELDS):
            raise ValueError(
                f"log fields {sorted(strange)} are not listed; list them only if no identity can "
                "be in them"
            )
        now = time.time()
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        )
        line = json.dumps({"time": stamp, "level": level, "event": event, **fields})
        with self._turn:
            print(line, file=self._stream, flush=True)

    def unexpected(self, error: BaseException, request_id: str = "") -> None:
        """An error nobody planned for: its type and place. Its message may quote a header, and
        stays out.
        """
        kind, where = (
            getattr(error, "kind", type(error).__name__),
            getattr(error, "where", "") or where_of(error),
        )
        self.write("unexpected", "error", error=kind, where=where, request_id=request_id)


def where_of(error: BaseException) -> str:
    """The innermost places of an error's trace: functions and lines, no values."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
