"""Worker processes, each with an engine of its own, and what happens when one dies."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message

from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip_serving import deadline, worker_process
from coverslip_serving.deadline import Deadline
from coverslip_serving.errors import EngineUnavailableError
from coverslip_serving.jobs import Job
from coverslip_serving.watched_engine import Observe
from coverslip_serving.worker_process import STOP_FILE, WorkerResult

_POLL = 0.25
"""Seconds between two looks at the deadline of a call whose job is being done."""
_PROBE_PAUSE = 0.05
"""Seconds before the processes that did not answer are probed again."""
_Options = TypeVar("_Options", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)


class ProcessWorkers:
    """Works in processes of its own.

    When a process dies, all are replaced, and every job that they were doing is begun again, once.

    Parameters
    ----------
    open_engine : callable
        Must be picklable.
    name : str
        Name of the engine.
    count : int
        Number of processes.
    """

    def __init__(self, open_engine: Callable[[], Engine], name: str, count: int) -> None:
        self._open_engine = open_engine
        self.name = name
        self._count = count
        self._lock = threading.Lock()
        self._pool = self._new_pool()
        self._warm = False
        self._version = 0
        self._retries: dict[int, int] = {}

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self._count, context, initializer=worker_process.start, initargs=(self._open_engine,)
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
        """As `Workers.probe`.

        The first probe goes on until every process has answered: fast processes take probes that
        were meant for slow ones.
        """
        wanted = 1 if self._warm else self._count
        answered: set[int] = set()
        while len(answered) < wanted:
            for future in [self._submit(worker_process.run_probe) for _ in range(wanted)]:
                result = self._wait_for(future, None, None)
                result.raise_failure()
                answered.add(result.worker)
            time.sleep(_PROBE_PAUSE if len(answered) < wanted else 0)
        self._warm = True

    def run(
        self, job: Job[_Options, _Answer], path: Path, options: _Options, observe: Observe
    ) -> _Answer:
        """As `Workers.run`."""
        caller = deadline.current()
        until = time.monotonic() + threading.TIMEOUT_MAX if caller is None else caller.at
        packed = options.SerializeToString()
        work = partial(worker_process.run_job, job.name, path, packed, until)
        try:
            result = self._wait_for(self._submit(work), caller, path)
        except EngineUnavailableError:
            # Another call's job may have killed the process: try once more, from the beginning.
            if caller is not None:
                caller.check()
            for leftover in path.parent.iterdir():
                if leftover != path:
                    leftover.unlink()
            result = self._wait_for(self._submit(work), caller, path)
        for signature, seconds in result.observed:
            observe(signature, seconds)
        result.raise_failure()
        answer: _Answer = job.answer.FromString(result.answer)
        return answer

    def _submit(self, work: Callable[[], WorkerResult]) -> Future[WorkerResult]:
        with self._lock:
            try:
                return self._pool.submit(work)
            except BrokenProcessPool:
                # A process died while it had nothing to do.
                self._pool = self._new_pool()
                return self._pool.submit(work)

    def _wait_for(
        self, future: Future[WorkerResult], caller: Deadline | None, path: Path | None
    ) -> WorkerResult:
        """Wait for a result, even after its caller is gone.

        Until the worker stops, it uses files and memory.

        Raises
        ------
        EngineUnavailableError
            A process died.
        DeadlinePassedError, CancelledError
            The caller is gone, and the job had not begun.
        """
        stop_requested = False
        while True:
            try:
                result = future.result(_POLL)
            except FutureTimeoutError:
                if caller is None or path is None or stop_requested:
                    continue
                try:
                    caller.check()
                except CoverslipError:
                    if future.cancel():
                        raise
                    (path.parent / STOP_FILE).touch()
                    stop_requested = True
            except BrokenProcessPool:
                raise EngineUnavailableError(
                    "a worker process died during its work: try again; if it happens again, give "
                    "the server more memory"
                ) from None
            else:
                self._version = result.version or self._version
                self._retries[result.worker] = result.retries
                return result

    def close(self) -> None:
        """As `Workers.close`."""
        self._pool.shutdown(cancel_futures=True)
