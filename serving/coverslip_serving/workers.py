"""Where the work is done: in threads of the gateway's own process, or in processes beside it, where
Python's lock does not queue it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip_serving import deadline
from coverslip_serving.errors import EngineUnavailableError
from coverslip_serving.jobs import JOBS, WatchedEngine
from coverslip_serving.log import where_of

_PROBE_SIDE = 64
_LOOK = 0.25
_MOMENT = 0.05
_STOP = "stop"
"""A file of this name beside an instance tells its worker that nobody waits any more."""

Observe = Callable[[str, float], None]


class UnplannedError(Exception):
    """A worker process met an error that nobody planned for.

    Parameters
    ----------
    kind : str
        Name of its type.
    where : str
        Places in the code, innermost first; the message may quote a header and stays in the worker.
    """

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.where = where


class Workers(Protocol):
    """Does jobs of `coverslip_serving.jobs`."""

    name: str
    """Of the engine."""

    @property
    def version(self) -> int:
        """Of the model that answered last; 0 where the engine does not tell."""
        ...

    @property
    def retries(self) -> int:
        """Calls that were sent to a model server again."""
        ...

    def probe(self) -> None:
        """Ask the model for the outline of nothing, which also warms it up.

        Raises
        ------
        CoverslipError
        """
        ...

    def run(self, job: str, path: Path, options: Any, observe: Observe) -> Any:
        """Do one job on the instance in a file.

        Parameters
        ----------
        job : str
            Of `coverslip_serving.jobs.JOBS`.
        path : Path
        options : message
            The job's.
        observe : callable
            Told each engine signature and its seconds.

        Returns
        -------
        message
            The job's answer.

        Raises
        ------
        CoverslipError, UnplannedError
        """
        ...

    def close(self) -> None:
        """Give everything up."""
        ...


def _probe(engine: Engine) -> None:
    engine.segment(np.zeros((1, _PROBE_SIDE, _PROBE_SIDE), dtype=np.int32))


def _version(engine: Engine) -> int:
    return int(getattr(engine, "version", 0))


def _retries(engine: Engine) -> int:
    return int(getattr(engine, "retries", 0))


class Here:
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
        return _version(self._engine)

    @property
    def retries(self) -> int:
        """As `Workers.retries`."""
        return _retries(self._engine)

    def probe(self) -> None:
        """As `Workers.probe`."""
        _probe(self._engine)

    def run(self, job: str, path: Path, options: Any, observe: Observe) -> Any:
        """As `Workers.run`."""
        return JOBS[job].run(WatchedEngine(self._engine, observe), path, options)

    def close(self) -> None:
        """As `Workers.close`."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            with suppress(ValueError):
                close()


@dataclass
class _Result:
    """What a worker process gives back."""

    worker: int
    version: int = 0
    retries: int = 0
    answer: bytes = b""
    refused: tuple[type[CoverslipError], str, dict[str, Any]] | None = None
    unplanned: tuple[str, str] | None = None
    observed: list[tuple[str, float]] = field(default_factory=list)

    def message(self, job: str) -> Any:
        """The answer, or the error that it stands for is raised."""
        if self.unplanned is not None:
            raise UnplannedError(*self.unplanned)
        if self.refused is not None:
            kind, text, attributes = self.refused
            # Errors are made of figures as often as of sentences: this one is made already.
            error = kind.__new__(kind, text)
            vars(error).update(attributes)
            raise error
        return JOBS[job].answer.FromString(self.answer) if job else None


class _Worker:
    """What a worker process holds."""

    open_engine: Callable[[], Engine] | None = None
    engine: Engine | None = None


def _begin(open_engine: Callable[[], Engine]) -> None:
    """Start a worker process; its engine is opened by its first job, which can say what is wrong
    with it.
    """
    _Worker.open_engine = open_engine
    # The gateway is told to stop, and stops its workers when their work is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        # A gateway that was killed cannot stop anybody.
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, name="follow", daemon=True).start()


def _work(job: str, path: Path, options: bytes, until: float) -> _Result:
    """Runs in a worker process. ``until`` is on the monotonic clock, which the processes of a
    machine share.
    """
    result = _Result(os.getpid())
    stop = path.parent / _STOP
    try:
        if _Worker.engine is None:
            assert _Worker.open_engine is not None
            _Worker.engine = _Worker.open_engine()
        engine = _Worker.engine
        with deadline.working_for(deadline.Deadline(until, lambda: not (job and stop.exists()))):
            if job:
                watched = WatchedEngine(
                    engine, lambda signature, seconds: result.observed.append((signature, seconds))
                )
                result.answer = (
                    JOBS[job]
                    .run(watched, path, JOBS[job].options.FromString(options))
                    .SerializeToString()
                )
            else:
                _probe(engine)
        result.version = _version(engine)
    except CoverslipError as error:
        result.refused = (type(error), str(error), vars(error))
    except Exception as error:
        # Pickled, it would bring its message along; the gateway says that it happened and where.
        result.unplanned = (type(error).__name__, where_of(error))
    if _Worker.engine is not None:
        result.retries = _retries(_Worker.engine)
    return result


class Processes:
    """Works in processes of its own, each with an engine.

    A process that dies takes the work of all with it; new ones are started, and what was worked on
    begins again, once.

    Parameters
    ----------
    open_engine : callable
        Can be pickled.
    name : str
        Of the engine.
    count : int
    """

    def __init__(self, open_engine: Callable[[], Engine], name: str, count: int) -> None:
        self._open_engine = open_engine
        self.name = name
        self._count = count
        self._turn = threading.Lock()
        self._pool = self._new()
        self._cold = True
        self._version = 0
        self._retries: dict[int, int] = {}

    def _new(self) -> futures.ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(
            self._count, context, initializer=_begin, initargs=(self._open_engine,)
        )

    @property
    def version(self) -> int:
        """As `Workers.version`."""
        return self._version

    @property
    def retries(self) -> int:
        """As `Workers.retries`."""
        return sum(self._retries.copy().values())

    def probe(self) -> None:
        """As `Workers.probe`; the first one asks until every process has answered: the quick ones
        take the questions of the slow.
        """
        wanted = self._count if self._cold else 1
        answered: set[int] = set()
        while len(answered) < wanted:
            asked = [self._submit("", Path(), b"", None) for _ in range(wanted)]
            for future in asked:
                result = self._taken(future, None, Path())
                result.message("")
                answered.add(result.worker)
            time.sleep(_MOMENT if len(answered) < wanted else 0)
        self._cold = False

    def run(self, job: str, path: Path, options: Any, observe: Observe) -> Any:
        """As `Workers.run`."""
        working_for, packed = deadline.current(), options.SerializeToString()
        try:
            result = self._taken(self._submit(job, path, packed, working_for), working_for, path)
        except EngineUnavailableError:
            # It may have been another call's doing: once more, from the beginning.
            if working_for is not None:
                working_for.check()
            for made in path.parent.iterdir():
                if made != path:
                    made.unlink()
            result = self._taken(self._submit(job, path, packed, working_for), working_for, path)
        for signature, seconds in result.observed:
            observe(signature, seconds)
        return result.message(job)

    def _submit(
        self, job: str, path: Path, options: bytes, working_for: deadline.Deadline | None
    ) -> futures.Future[_Result]:
        until = time.monotonic() + threading.TIMEOUT_MAX if working_for is None else working_for.at
        with self._turn:
            try:
                return self._pool.submit(_work, job, path, options, until)
            except BrokenProcessPool:
                # One died while nothing was asked of it.
                self._pool = self._new()
                return self._pool.submit(_work, job, path, options, until)

    def _taken(
        self, future: futures.Future[_Result], working_for: deadline.Deadline | None, path: Path
    ) -> _Result:
        """Wait for a result, whoever has gone: files and memory are in use until the worker
        stops.
        """
        told = False
        while True:
            try:
                result = future.result(_LOOK)
            except futures.TimeoutError:
                if working_for is None or told:
                    continue
                try:
                    working_for.check()
                except CoverslipError:
                    if future.cancel():
                        raise
                    (path.parent / _STOP).touch()
                    told = True
            except BrokenProcessPool:
                raise EngineUnavailableError(
                    "a worker process ended in the middle of its work: try again; if it happens "
                    "again, give the server more memory"
                ) from None
            else:
                self._version = result.version or self._version
                self._retries[result.worker] = result.retries
                return result

    def close(self) -> None:
        """As `Workers.close`."""
        self._pool.shutdown(cancel_futures=True)
