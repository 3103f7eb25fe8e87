"""A worker process: opens its engine, does jobs, and carries results and errors to the gateway."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip_serving import deadline
from coverslip_serving.jobs import JOBS
from coverslip_serving.log import where_of
from coverslip_serving.watched_engine import WatchedEngine
from coverslip_serving.workers import WorkerError, engine_retries, engine_version, probe_engine

STOP_FILE = "stop"
"""Appears beside an instance when nobody waits for its result any more."""


@dataclass(frozen=True)
class CarriedError:
    """One of Coverslip's errors on its way to another process.

    Attributes
    ----------
    kind : type
    message : str
    attributes : dict
    """

    kind: type[CoverslipError]
    message: str
    attributes: dict[str, Any]

    def rebuild(self) -> CoverslipError:
        """The error as it was raised."""
        # Some types make their message from figures: their constructor would not take this one.
        error = self.kind.__new__(self.kind, self.message)
        vars(error).update(self.attributes)
        return error


@dataclass
class WorkerResult:
    """The result of one job, or the error in its place.

    Attributes
    ----------
    worker : int
        The process's number.
    version, retries : int
        As in `coverslip_serving.workers.Workers`.
    answer : bytes
        The serialised message.
    failure : CarriedError or WorkerError or None
    observed : list of (str, float)
        Engine signatures and their seconds.
    """

    worker: int
    version: int = 0
    retries: int = 0
    answer: bytes = b""
    failure: CarriedError | WorkerError | None = None
    observed: list[tuple[str, float]] = field(default_factory=list)

    def raise_failure(self) -> None:
        """Raise the error that the job met, if it met one.

        Raises
        ------
        CoverslipError, WorkerError
        """
        if isinstance(self.failure, CarriedError):
            raise self.failure.rebuild()
        if self.failure is not None:
            raise self.failure


class _Process:
    """State of this worker process."""

    open_engine: Callable[[], Engine] | None = None
    engine: Engine | None = None


def start(open_engine: Callable[[], Engine]) -> None:
    """Begin a worker process.

    The first job opens the engine, because a job can report what is wrong with it.
    """
    _Process.open_engine = open_engine
    # The gateway gets the signal too, and ends its workers when their work is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gateway = multiprocessing.parent_process()
    assert gateway is not None

    def follow() -> None:
        # A gateway that was killed cannot end its workers.
        wait([gateway.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="follow", daemon=True).start()


def run_probe() -> WorkerResult:
    """Probe this process's engine."""

    def work(engine: Engine, _: WorkerResult) -> bytes:
        probe_engine(engine)
        return b""

    return _attempt(work)


def run_job(name: str, path: Path, options: bytes, until: float) -> WorkerResult:
    """Do a job in this process.

    Parameters
    ----------
    name : str
        Of the job, in `JOBS`.
    path : Path
        The instance.
    options : bytes
        The job's serialised options.
    until : float
        Deadline on the monotonic clock, which the processes of a machine share.
    """
    job, stop = JOBS[name], path.parent / STOP_FILE

    def work(engine: Engine, result: WorkerResult) -> bytes:
        watched = WatchedEngine(engine, lambda *call: result.observed.append(call))
        with deadline.working_for(deadline.Deadline(until, lambda: not stop.exists())):
            answer = job.run(watched, path, job.options.FromString(options))
        packed: bytes = answer.SerializeToString()
        return packed

    return _attempt(work)


def _attempt(work: Callable[[Engine, WorkerResult], bytes]) -> WorkerResult:
    result = WorkerResult(os.getpid())
    try:
        if _Process.engine is None:
            assert _Process.open_engine is not None
            _Process.engine = _Process.open_engine()
        result.answer = work(_Process.engine, result)
        result.version = engine_version(_Process.engine)
    except CoverslipError as error:
        result.failure = CarriedError(type(error), str(error), vars(error))
    except Exception as error:
        # Its message, which may quote a header, stays here.
        result.failure = WorkerError(type(error).__name__, where_of(error))
    if _Process.engine is not None:
        result.retries = engine_retries(_Process.engine)
    return result
