"""Files and folders as a batch: one bad file is told and passed over, the rest goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    """Files in the order they were named; folders are walked, sorted, without hidden files and DICOMDIR."""
    sources = []
    for path in paths:
        if path.is_dir():
            found = (p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith("."))
            sources += [Source(p, p.relative_to(path)) for p in found if p.name != "DICOMDIR"]
        else:
            sources.append(Source(path, Path(path.name)))
    return sources


def target_of(source: Source, output: Path, single: bool) -> Path:
    """Where a source goes: the file named, or its place below the folder named."""
    if single and not output.is_dir():
        return output
    return output / source.relative


class Batch:
    """Runs one job over many files, with progress on the terminal and results as lines.

    Parameters
    ----------
    as_json : bool
        One JSON object a line on standard output, in place of sentences.
    verb : str
        What the progress bar says.
    """

    def __init__(self, as_json: bool, verb: str) -> None:
        self._as_json = as_json
        self._verb = verb
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self.failed = 0

    def _fail(self, source: Source, code: str, message: str) -> None:
        self.failed += 1
        if self._as_json:
            print(json.dumps({"file": str(source.path), "status": "failed", "code": code, "message": message}), flush=True)
        else:
            self._errors.print(f"{source.path}: {message}")

    def _one(self, source: Source, job: Callable[[Source], dict[str, Any]], say: Callable[[dict[str, Any]], str]) -> None:
        try:
            result = job(source)
        except CoverslipError as error:
            self._fail(source, error.code, str(error))
            return
        except OSError as error:
            # The system's own word for what is wrong with a path or a disk; it holds no content.
            reason = error.strerror or type(error).__name__
            self._fail(source, "file-system", f"{reason}: expected a file that can be read and a place to write")
            return
        if self._as_json:
            print(json.dumps({"file": str(source.path), "status": "done", **result}), flush=True)
        else:
            print(f"{source.path}: {say(result)}", flush=True)

    def run(
        self, sources: list[Source], job: Callable[[Source], dict[str, Any]], say: Callable[[dict[str, Any]], str]
    ) -> int:
        """Do the job for each source.

        Parameters
        ----------
        sources : list of Source
        job : callable
            Gives a dictionary that JSON can hold; raises `CoverslipError`.
        say : callable
            Makes a sentence of that dictionary.

        Returns
        -------
        int
            0 all done, 1 some failed.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = len(sources) < 2 or not self._errors.is_terminal
        with Progress(*columns, console=self._errors, disable=hidden) as progress:
            task = progress.add_task(self._verb, total=len(sources))
            for source in sources:
                self._one(source, job, say)
                progress.advance(task)
        return SOME_FAILED if self.failed else ALL_DONE


def refuse_missing(source: Source) -> None:
    """Raise for a source that is not there, before anything slow is loaded for it."""
    if not source.path.exists():
        raise NotAnImageError("there is no such file: expected a DICOM file or a folder of them; check the name")
