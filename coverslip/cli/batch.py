"""Files and folders as a batch: a bad file is reported and skipped, and the rest goes on."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coverslip.cli.speech import printable
from coverslip.errors import CoverslipError, NotDicomError, OutputExistsError, UnreadableFileError

ALL_DONE, SOME_FAILED, MISUSE = 0, 1, 2


@dataclass(frozen=True)
class Source:
    """A file to work on.

    Attributes
    ----------
    path : Path
    relative : Path
        Its place below the folder that was named; its name for a file that was named itself.
    is_named : bool
        It was named itself, and not found in a folder.
    """

    path: Path
    relative: Path
    is_named: bool = True


class Sources(list[Source]):
    """The files that a call names.

    Attributes
    ----------
    directories : int
        DICOMDIR files, which are left out: their index would name what is not there any more.
    """

    directories = 0


class Status(str, Enum):
    """How a file went."""

    DONE = "done"
    CHANGED = "changed"
    """Done, but the record may belong to another image."""
    FAILED = "failed"
    EXISTED = "existed"
    """Its output was there already, and --skip-existing was given."""
    NOT_DICOM = "not-dicom"
    """Found in a folder, and no DICOM."""


_BAD = (Status.FAILED, Status.CHANGED)


@dataclass(frozen=True)
class FileResult:
    """What came of a source.

    Attributes
    ----------
    status : Status
    result : dict
        What the job gave; empty where it failed.
    code, message : str
        What was wrong: a stable word and a sentence; empty where nothing was.
    """

    status: Status
    result: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    message: str = ""


def misuse(message: str) -> int:
    """Say what was wrong with the call; exit code 2."""
    print(f"coverslip: {message}", file=sys.stderr)
    return MISUSE


def collect(paths: Iterable[Path]) -> Sources:
    """Files in the order they were named; folders are walked, sorted, without hidden files."""
    files = Sources()
    for path in paths:
        if not path.is_dir():
            files.append(Source(path, Path(path.name)))
            continue
        for found in sorted(path.rglob("*")):
            if not found.is_file() or found.name.startswith("."):
                continue
            if found.name == "DICOMDIR":
                files.directories += 1
            else:
                files.append(Source(found, found.relative_to(path), is_named=False))
    return files


def target_of(source: Source, output: Path, single: bool) -> Path:
    """Where a source goes: the file named, or its place below the folder named."""
    if single and not output.is_dir():
        return output
    return output / source.relative


DISK_FULL = "disk-full"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_SENTENCE = (
    "the disk is full, and so the rest was left undone; what was written is whole: make room, then "
    "go on with --skip-existing"
)

Job = Callable[[Source], dict[str, Any]]
"""Works on a source and gives a dictionary that JSON can hold; raises `CoverslipError`."""


def attempt(job: Job, skip_existing: bool, source: Source) -> FileResult:
    """Do a job; what is wrong with one source never stops the others."""
    try:
        result = job(source)
    except OutputExistsError as error:
        status = Status.EXISTED if skip_existing else Status.FAILED
        return FileResult(status, {}, error.code, str(error))
    except CoverslipError as error:
        # By its code: a server's refusal has the same one, and a type of its own.
        passed_over = error.code == NotDicomError.code and not source.is_named
        status = Status.NOT_DICOM if passed_over else Status.FAILED
        return FileResult(status, {}, error.code, str(error))
    except OSError as error:
        if error.errno in _DISK_FULL:
            return FileResult(Status.FAILED, {}, DISK_FULL, _DISK_FULL_SENTENCE)
        # The system's own word for what is wrong with a path or a disk; it holds no content.
        reason = error.strerror or type(error).__name__
        message = f"{reason}: expected a file that can be read and a place to write"
        return FileResult(Status.FAILED, {}, "file-system", message)
    changed = result.get("binding") == Status.CHANGED.value
    return FileResult(Status.CHANGED if changed else Status.DONE, result)


_LOST = FileResult(
    Status.FAILED,
    {},
    "process-lost",
    "a worker process was killed, usually because memory ran out; what was not finished was not "
    "written: do it again with fewer --jobs",
)

_own_job: list[Callable[[Source], FileResult]] = []
"""The job of this process, where it is one of several."""


def _take(job: Callable[[Source], FileResult]) -> None:
    _own_job.append(job)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, however it ended."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _attempt_own(source: Source) -> FileResult:
    return _own_job[0](source)


def _in_processes(
    job: Callable[[Source], FileResult], sources: Sequence[Source], processes: int
) -> Iterator[FileResult]:
    """Results in the order of the sources; the job has to be picklable."""
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


@dataclass
class Summary:
    """What came of all sources.

    Attributes
    ----------
    statuses : counts by `Status`
    carried : counts of ``pixels`` and ``header``
    in_header : counts of why, by code
    failures : counts by code
    directories : int
        DICOMDIR files left out.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    in_header: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    directories: int = 0

    def add(self, file: FileResult) -> None:
        """Count a file in."""
        self.statuses[file.status.value] += 1
        if file.status is Status.FAILED:
            self.failures[file.code] += 1
        if carried := file.result.get("carried"):
            self.carried[str(carried)] += 1
        for reason in file.result.get("header_reasons", [])[:1]:
            self.in_header[reason["code"]] += 1

    def as_json(self) -> dict[str, Any]:
        """The counts, ready for JSON."""
        return {
            "files": self.statuses.total(),
            **dict(self.statuses),
            "carried": dict(self.carried),
            "carried_in_header": dict(self.in_header),
            "failures": dict(self.failures),
            "dicomdir_left_out": self.directories,
        }

    def sentence(self) -> str:
        """The counts for a person to read."""
        parts = [f"{self.statuses[Status.DONE.value]} done"]
        if self.carried:
            header = f"{self.carried['header']} in the header"
            why = f" ({_counts(self.in_header)})" if self.in_header else ""
            parts[0] += f": {self.carried['pixels']} carried in pixels, {header}{why}"
        for status, text in (
            (Status.CHANGED, "changed since embedding"),
            (Status.EXISTED, "had been done before"),
            (Status.NOT_DICOM, "not DICOM, skipped"),
        ):
            if count := self.statuses[status.value]:
                parts.append(f"{count} {text}")
        if self.failures:
            parts.append(f"{self.failures.total()} failed ({_counts(self.failures)})")
        if self.directories:
            parts.append(f"{self.directories} DICOMDIR left out: make a new one of the output")
        return "; ".join(parts)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


class Batch:
    """Runs one job over many files, with progress on the terminal and results as lines.

    Parameters
    ----------
    as_json : bool
        One JSON object a line on standard output, in place of sentences.
    verb : str
        What the progress bar says.
    processes : int
        Number of worker processes; 1 works in this one.
    skip_existing : bool
        A file whose output is there already is no failure.
    """

    def __init__(
        self, as_json: bool, verb: str, processes: int = 1, skip_existing: bool = False
    ) -> None:
        self._as_json = as_json
        self._verb = verb
        self._processes = processes
        self._skip_existing = skip_existing
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def _print(
        self, source: Source, file: FileResult, say: Callable[[dict[str, Any]], str]
    ) -> None:
        if self._as_json:
            line = {"file": str(source.path), "status": file.status.value, **file.result}
            if file.code:
                line |= {"code": file.code, "message": file.message}
            print(json.dumps(line), flush=True)
        elif file.code and file.status is Status.FAILED:
            self._errors.print(f"{printable(str(source.path))}: {file.message}")
        elif not file.code:
            print(f"{printable(str(source.path))}: {say(file.result)}", flush=True)

    def _print_summary(self, summary: Summary) -> None:
        if self._as_json:
            print(json.dumps({"summary": summary.as_json()}), flush=True)
        else:
            self._errors.print(summary.sentence())

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
            0 all done, 1 some failed or changed.
        """
        files = list(sources)
        careful = partial(attempt, job, self._skip_existing)
        processes = min(self._processes, len(files))
        several = processes > 1
        results = _in_processes(careful, files, processes) if several else map(careful, files)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        hidden = len(files) < 2 or not self._errors.is_terminal
        summary = Summary()
        if isinstance(sources, Sources):
            summary.directories = sources.directories
        with Progress(*columns, console=self._errors, disable=hidden) as progress:
            task = progress.add_task(self._verb, total=len(files))
            for source, file in zip(files, results, strict=False):
                self._print(source, file, say)
                summary.add(file)
                progress.advance(task)
                if file.code == DISK_FULL:
                    break
        if len(files) > 1 or not all(source.is_named for source in files):
            self._print_summary(summary)
        bad = any(summary.statuses[status.value] for status in _BAD)
        return SOME_FAILED if bad else ALL_DONE


def refuse_missing(source: Source) -> None:
    """Raise for a source that is not there, before anything slow is loaded for it."""
    if not source.path.exists():
        raise UnreadableFileError(
            "there is no such file: expected a DICOM file or a folder of them; check the name"
        )
