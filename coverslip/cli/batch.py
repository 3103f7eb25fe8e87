"""Files and folders as a batch: one bad file is told and passed over, the rest goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coverslip.errors import CoverslipError, NotAnImageError

ALL_DONE, SOME_FAILED, MISUSE = 0, 1, 2


@dataclass(frozen=True)
class Source:
    """A file to work on.

    Attributes
    ----------
    path : Path
    relative : Path
        Its place below the folder that was named; its name for a file that was named itself.
    """

    path: Path
    relative: Path


def misuse(message: str) -> int:
    """Say what was wrong with the call; exit code 2."""
    print(f"coverslip: {message}", file=sys.stderr)
    return MISUSE


def collect(paths: Iterable[Path]) -> list[Source]:
    """Files in the order they were named; folders are walked, sorted, without hidden files and
    DICOMDIR.
    """
    sources = []
    for path in paths:
        if path.is_dir():
            found = (
                p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")
            )
            sources += [Source(p, p.relative_to(path)) for p in found if p.name != "DICOMDIR"]
        else:
            sources.append(Source(path, Path(path.name)))
    return sources


def target_of(source: Source, output: Path, single: bool) -> Path:
    """Where a source goes: the file named, or its place below the folder named."""
    if single and not output.is_dir():
        return output
    return output / source.relative


Job = Callable[[Source], dict[str, Any]]
"""Works on a source and gives a dictionary that JSON can hold; raises `CoverslipError`."""


@dataclass(frozen=True)
class Outcome:
    """What came of a source.

    Attributes
    ----------
    result : dict or None
        Of the job; None where it failed.
    code, message : str
        What was wrong: a stable word and a sentence; empty where nothing was.
    """

    result: dict[str, Any] | None
    code: str = ""
    message: str = ""


def attempt(job: Job, source: Source) -> Outcome:
    """Do a job; what is wrong with one source never stops the others."""
    try:
        return Outcome(job(source))
    except CoverslipError as error:
        return Outcome(None, error.code, str(error))
    except OSError as error:
        # The system's own word for what is wrong with a path or a disk; it holds no content.
        reason = error.strerror or type(error).__name__
        return Outcome(
            None, "file-system", f"{reason}: expected a file that can be read and a place to write"
        )


_LOST = Outcome(
    None,
    "process-lost",
    "a process that worked beside others was ended from outside, most often for want of memory; "
    "what was not finished was not written: "
    "do it again with fewer --jobs",
)

_own_job: list[Job] = []
"""The job of this process, where it is one of several."""


def _take(job: Job) -> None:
    _own_job.append(job)


def _attempt_own(source: Source) -> Outcome:
    return attempt(_own_job[0], source)


def _side_by_side(job: Job, sources: Sequence[Source], processes: int) -> Iterator[Outcome]:
    """Outcomes in the order of the sources; the job has to be one that can be pickled."""
    # Not forked: a runtime's threads would not come along.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_take, initargs=(job,)
    )
    try:
        for future in [pool.submit(_attempt_own, source) for source in sources]:
            try:
                yield future.result()
            except BrokenProcessPool:
                yield _LOST
    finally:
        pool.shutdown(cancel_futures=True)


class Batch:
    """Runs one job over many files, with progress on the terminal and results as lines.

    Parameters
    ----------
    as_json : bool
        One JSON object a line on standard output, in place of sentences.
    verb : str
        What the progress bar says.
    processes : int
        Sources that are worked on at the same time; above 1 in processes of their own.
    """

    def __init__(self, as_json: bool, verb: str, processes: int = 1) -> None:
        self._as_json = as_json
        self._verb = verb
        self._processes = processes
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def _tell(self, source: Source, outcome: Outcome, say: Callable[[dict[str, Any]], str]) -> None:
        if self._as_json:
            told = {"status": "failed", "code": outcome.code, "message": outcome.message}
            told = told if outcome.result is None else {"status": "done", **outcome.result}
            print(json.dumps({"file": str(source.path), **told}), flush=True)
        elif outcome.result is None:
            self._errors.print(f"{source.path}: {outcome.message}")
        else:
            print(f"{source.path}: {say(outcome.result)}", flush=True)

    def run(self, sources: Sequence[Source], job: Job, say: Callable[[dict[str, Any]], str]) -> int:
        """Do the job for each source.

        Parameters
        ----------
        sources : sequence of Source
        job : Job
        say : callable
            Makes a sentence of what the job gives.

        Returns
        -------
        int
            0 all done, 1 some failed.
        """
        processes = min(self._processes, len(sources))
        outcomes = (
            map(partial(attempt, job), sources)
            if processes < 2
            else _side_by_side(job, sources, processes)
        )
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        hidden = len(sources) < 2 or not self._errors.is_terminal
        failed = False
        with Progress(*columns, console=self._errors, disable=hidden) as progress:
            task = progress.add_task(self._verb, total=len(sources))
            for source, outcome in zip(sources, outcomes, strict=True):
                self._tell(source, outcome, say)
                failed |= outcome.result is None
                progress.advance(task)
        return SOME_FAILED if failed else ALL_DONE


def refuse_missing(source: Source) -> None:
    """Raise for a source that is not there, before anything slow is loaded for it."""
    if not source.path.exists():
        raise NotAnImageError(
            "there is no such file: expected a DICOM file or a folder of them; check the name"
        )
