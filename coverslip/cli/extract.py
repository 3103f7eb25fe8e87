"""``coverslip extract``."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coverslip.cli import options, remote
from coverslip.cli.batch import Batch, Job, Source, collect, misuse, refuse_missing
from coverslip.crypto.keys import Identity
from coverslip.errors import CoverslipError, OutputExistsError

if TYPE_CHECKING:
    from coverslip.dicom.instance import Instance
    from coverslip.engine import Engine
    from coverslip.record import Record
    from coverslip.scheme.profiles import Profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="stego files and folders"
    )
    parser.add_argument(
        "--identity",
        required=True,
        type=Path,
        metavar="FILE",
        help="the identity file that keygen wrote",
    )
    options.add_profile(parser, default=None)
    options.add_batch_engine(parser)
    parser.add_argument(
        "--no-model", action="store_true", help="read without a network: numpy alone"
    )
    parser.add_argument(
        "--cropped",
        action="store_true",
        help="rows or columns may have been cut away: search for the place too",
    )
    parser.add_argument(
        "--restore", type=Path, metavar="DIR", help="write the re-identified files there"
    )
    parser.add_argument(
        "--qr",
        type=Path,
        metavar="FILE",
        help="save the recovered QR symbol as PNG (one input only)",
    )
    remote.add_server(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line; attributes in the DICOM JSON model (PS3.18 F)",
    )


def say(result: dict[str, Any]) -> str:
    """The record for a person to read."""
    lines = [
        f"{result['attributes']} attributes, read with profile {result['profile']} from frame "
        f"{result['frame'] + 1}"
    ]
    lines += [f"    {line}" for line in result["listing"]]
    if "restored" in result:
        lines.append(f"    restored to {result['restored']}")
    return "\n".join(lines)


def _misused(arguments: argparse.Namespace, sources: list[Source]) -> str | None:
    """What is wrong with the call, or None."""
    single = len(arguments.inputs) == 1 and not arguments.inputs[0].is_dir()
    if not sources:
        return "the folders hold no files; name DICOM files or folders that hold some"
    if arguments.qr and not single:
        return "--qr takes one input file; name one, or leave it out"
    if arguments.beta is not None and arguments.profile is None:
        return "--beta needs the --profile that it was embedded with"
    return remote.misused(
        arguments, {"--qr": arguments.qr, "--beta": arguments.beta, "--jobs": arguments.jobs > 1}
    )


def _restored(
    arguments: argparse.Namespace, source: Source, instance: Instance, record: Record
) -> str:
    """Write the instance with its identity back; where."""
    from coverslip import pipeline
    from coverslip.dicom.instance import write_instance

    target: Path = arguments.restore / source.relative
    if target.exists():
        raise OutputExistsError(
            "the restored file exists already and is never overwritten: choose another folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    restored = pipeline.restore(instance, record)
    write_instance(restored, restored.frames, target)
    return str(target)


def _told(found: Any, agreement: float) -> dict[str, Any]:
    """A result as JSON holds it."""
    from coverslip.dicom.record_views import as_json, as_lines

    return {
        "profile": found.profile,
        "frame": found.frame,
        "agreement": round(agreement, 1),
        "attributes": len(found.record),
        "record": as_json(found.record),
        "listing": as_lines(found.record),
    }


class _RemoteJob:
    """Lets a server find the sealed record of one source, opens it here, and writes what was asked
    for.
    """

    def __init__(self, arguments: argparse.Namespace, identity: Identity, client: Any) -> None:
        self._arguments = arguments
        self._identity = identity
        self._client = client

    def __call__(self, source: Source) -> dict[str, Any]:
        from coverslip.dicom.instance import read_instance

        refuse_missing(source)
        choices: dict[str, Any] = {
            "without_model": self._arguments.no_model,
            "cropped": self._arguments.cropped,
        }
        found = self._client.extract_file(
            source.path, self._identity, self._arguments.profile or "", **choices
        )
        result = _told(found, found.agreement)
        if self._arguments.restore:
            result["restored"] = _restored(
                self._arguments, source, read_instance(source.path), found.record
            )
        return result


class _Job:
    """Extracts from one source and writes what was asked for. It can be pickled until it was first
    called.
    """

    def __init__(self, arguments: argparse.Namespace, identity: Identity) -> None:
        self._arguments = arguments
        self._identity = identity
        self._profile = options.chosen_profile(arguments)

    @cached_property
    def _engine(self) -> Engine | None:
        return None if self._arguments.no_model else options.open_engine(self._arguments)

    def _profile_for(self, instance: Instance) -> Profile | None:
        from coverslip import pipeline

        return (
            None
            if self._profile is None
            else pipeline.settle_step(self._profile, self._arguments.beta, instance)
        )

    def __call__(self, source: Source) -> dict[str, Any]:
        from coverslip import pipeline
        from coverslip.dicom.instance import read_instance

        refuse_missing(source)
        instance = read_instance(source.path)
        profile = self._profile_for(instance)
        found = pipeline.extract(
            instance, self._identity, self._engine, profile, cropped=self._arguments.cropped
        )
        result = _told(found, found.votes.agreement)
        if self._arguments.restore:
            result["restored"] = _restored(self._arguments, source, instance, found.record)
        if self._arguments.qr:
            from coverslip import picture

            picture.save_symbol(found.votes.symbol(), self._arguments.qr)
        return result


def run(arguments: argparse.Namespace) -> int:
    """Extract from each input."""
    sources = collect(arguments.inputs)
    if wrong := _misused(arguments, sources):
        return misuse(wrong)
    options.settle_threads(arguments)
    with ExitStack() as held:
        try:
            identity = Identity.read(arguments.identity)
            job: Job
            if arguments.server:
                job = _RemoteJob(arguments, identity, held.enter_context(remote.connect(arguments)))
            else:
                job = _Job(arguments, identity)
        except CoverslipError as error:
            return misuse(str(error))
        return Batch(arguments.json, "extracting", arguments.jobs).run(sources, job, say)
