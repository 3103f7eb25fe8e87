"""Where a gateway's work is done: in its threads, or in processes beside it.

Processes are the default: Python's global lock serialises threads.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from google.protobuf.message import Message

from coverslip.engine import Engine
from coverslip_serving.jobs import Job
from coverslip_serving.watched_engine import Observe, WatchedEngine

_PROBE_SIDE = 64
_Options = TypeVar("_Options", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)


class WorkerError(Exception):
    """A worker process met an unexpected error.

    Parameters
    ----------
    kind : str
        Name of the error's type.
    where : str
        Places in the code, innermost first. The error's message may quote a header and stays in the
        worker.
    """

    def __init__(self, kind: str, where: str) -> None:
        # Both, so that it can be pickled.
        super().__init__(kind, where)
        self.kind = kind
        self.where = where


class Workers(Protocol):
    """Does the jobs of `coverslip_serving.jobs`."""

    name: str
    """Name of the engine."""

    @property
    def version(self) -> int:
        """Version of the model that answered last; 0 if the engine does not know it."""
        ...

    @property
    def retries(self) -> int:
        """Attempts at calls to a model server after the first."""
        ...

    def probe(self) -> None:
        """Ask the model for the outline in an empty image, which also warms it up.

        Raises
        ------
        CoverslipError
        """
        ...

    def run(
        self, job: Job[_Options, _Answer], path: Path, options: _Options, observe: Observe
    ) -> _Answer:
        """Do one job on the instance in a file.

        Parameters
        ----------
        job : Job
        path : Path
        options : message
            The job's.
        observe : callable
            Called with each engine signature and its seconds.

        Returns
        -------
        message
            The job's answer.

        Raises
        ------
        CoverslipError, WorkerError
        """
        ...

    def close(self) -> None:
        """Close the engine and end the processes."""
        ...


def probe_engine(engine: Engine) -> None:
    """Ask an engine for the outline in an empty image."""
    engine.segment(np.zeros((1, _PROBE_SIDE, _PROBE_SIDE), dtype=np.int32))


def engine_version(engine: Engine) -> int:
    """Version of the model that an engine used last; 0 if the engine does not know it."""
    return int(getattr(engine, "version", 0))


def engine_retries(engine: Engine) -> int:
    """Attempts after the first at calls of an engine; 0 for one in process."""
    return int(getattr(engine, "retries", 0))


class ThreadWorkers:
    """Works in the threads that call it.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name

    @property
    def version(self) -> int:
        """As `Workers.version`."""
        return engine_version(self._engine)

    @property
    def retries(self) -> int:
        """As `Workers.retries`."""
        return engine_retries(self._engine)

    def probe(self) -> None:
        """As `Workers.probe`."""
        probe_engine(self._engine)

    def run(
        self, job: Job[_Options, _Answer], path: Path, options: _Options, observe: Observe
    ) -> _Answer:
        """As `Workers.run`."""
        return job.run(WatchedEngine(self._engine, observe), path, options)

    def close(self) -> None:
        """As `Workers.close`."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            with suppress(ValueError):
                close()
