"""``coverslip extract``."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coverslip.cli import options, remote
from coverslip.cli.batch import Batch, Job, Source, Sources, collect, misuse, refuse_missing
from coverslip.cli.speech import printable
from coverslip.crypto.keys import Identity
from coverslip.errors import CoverslipError, OutputExistsError

if TYPE_CHECKING:
    from coverslip.dicom.objects import DicomObject
    from coverslip.engine import Engine
    from coverslip.pipeline import Extraction
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
        "--even-if-changed",
        action="store_true",
        help="with --restore: restore even what may belong to another image",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="with --restore: a file whose output exists is no failure",
    )
    parser.add_argument(
        "--qr", type=Path, metavar="FILE", help="save the recovered QR symbol as PNG (one input)"
    )
    remote.add_server(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line; attributes in the DICOM JSON model (PS3.18 F)",
    )


BINDINGS = {
    "verified": "verified: this is the image it was embedded into",
    "changed": "CHANGED since embedding, so that the record may belong to another image",
    "not-bound": "not bound to its image (written by an earlier release)",
}
"""What is said of each `coverslip.pipeline.Binding`."""

RESTORED = {
    "original-file": "the original file, byte for byte",
    "original": "the original data set and pixel data",
    "identity": "the identity alone, under a SOP Instance UID of its own",
}
"""What is said of each `coverslip.pipeline.RestoredAs`."""


def say(result: dict[str, Any]) -> str:
    """The record for a person to read."""
    where = "the header"
    if result["carried"] == "pixels":
        where = f"frame {result['frame'] + 1}, with profile {result['profile']}"
    lines = [
        f"{result['attributes']} attributes, carried: {result['carried']}, read from {where}; "
        f"{BINDINGS[result['binding']]}"
    ]
    if result["changes"]:
        lines.append(f"    differs from what was written: {', '.join(result['changes'])}")
    if result["header_part"]:
        lines.append(f"    sealed header part: {result['header_part']}")
    lines += [f"    {printable(line)}" for line in result["listing"]]
    if "restored" in result:
        lines.append(f"    restored to {result['restored']}: {RESTORED[result['restored_as']]}")
        if result["not_original_because"]:
            lines.append(f"    because of: {', '.join(result['not_original_because'])}")
        if result["refused"]:
            lines.append(f"    not put back: {', '.join(result['refused'])}")
    if "not_restored" in result:
        lines.append(f"    {result['not_restored']}")
    return "\n".join(lines)


def _misused(arguments: argparse.Namespace, sources: Sources) -> str | None:
    """What is wrong with the call, or None."""
    single = len(arguments.inputs) == 1 and not arguments.inputs[0].is_dir()
    if not sources:
        return "the folders hold no files; name DICOM files or folders that hold some"
    if arguments.qr and not single:
        return "--qr takes one input file; name one, or leave it out"
    if arguments.qr and arguments.qr.exists():
        return "--qr names a file that exists, which is never overwritten: choose another"
    if arguments.even_if_changed and not arguments.restore:
        return "--even-if-changed is for --restore DIR: name it too"
    if arguments.beta is not None and arguments.profile is None:
        return "--beta needs the --profile that it was embedded with"
    return remote.misused(
        arguments, {"--qr": arguments.qr, "--beta": arguments.beta, "--jobs": arguments.jobs > 1}
    )


def as_result(found: Extraction) -> dict[str, Any]:
    """An extraction as JSON holds it."""
    from coverslip.dicom.record_views import as_json, as_lines

    return {
        "profile": found.profile,
        "frame": found.frame,
        "agreement": round(found.found.agreement, 1),
        "carried": found.carried.value,
        "binding": found.binding.value,
        "changes": [change.value for change in found.changes],
        "header_part": "" if found.part_error is None else str(found.part_error),
        "attributes": len(found.record),
        "record": as_json(found.record),
        "listing": as_lines(found.record),
    }


class _Restorer:
    """Writes objects with their identity back, where that was asked for."""

    def __init__(self, arguments: argparse.Namespace, identity: Identity) -> None:
        self._folder: Path | None = arguments.restore
        self._even_if_changed: bool = arguments.even_if_changed
        self._recipient = identity.recipient

    def target(self, source: Source) -> Path | None:
        """Where a source would be restored to.

        Raises
        ------
        OutputExistsError
        """
        if self._folder is None:
            return None
        target = self._folder / source.relative
        if target.exists():
            raise OutputExistsError(
                "the restored file exists already and is never overwritten: choose another "
                "folder, or say --skip-existing"
            )
        return target

    def write(self, source: DicomObject, found: Extraction, target: Path) -> dict[str, Any]:
        """Restore; what is to be reported of it."""
        from coverslip import pipeline
        from coverslip.errors import ChangedError

        try:
            restoration = pipeline.restore(
                source, found, self._recipient, even_if_changed=self._even_if_changed
            )
        except ChangedError as error:
            return {"not_restored": str(error)}
        target.parent.mkdir(parents=True, exist_ok=True)
        restoration.write(target)
        return {
            "restored": str(target),
            "restored_as": restoration.restored_as.value,
            "not_original_because": [missing.value for missing in restoration.missing],
            "refused": restoration.refused,
        }


class RemoteExtractor:
    """Lets a server find the sealed record of one source, opens it here, and restores."""

    def __init__(self, arguments: argparse.Namespace, identity: Identity, client: Any) -> None:
        self._arguments = arguments
        self._identity = identity
        self._client = client
        self._restorer = _Restorer(arguments, identity)

    def __call__(self, source: Source) -> dict[str, Any]:
        """Extract from one source; what is to be reported."""
        from coverslip import pipeline
        from coverslip.dicom.objects import read_object

        refuse_missing(source)
        target = self._restorer.target(source)
        choices: dict[str, Any] = {
            "without_model": self._arguments.no_model,
            "cropped": self._arguments.cropped,
        }
        sealed = self._client.extract_sealed_file(
            source.path, self._identity.recipient, self._arguments.profile or "", **choices
        )
        stego = read_object(source.path)
        found = pipeline.open_sealed(stego, sealed, self._identity)
        result = as_result(found)
        return result if target is None else result | self._restorer.write(stego, found, target)


class LocalExtractor:
    """Extracts from one source and restores; picklable only before the first call."""

    def __init__(self, arguments: argparse.Namespace, identity: Identity) -> None:
        self._arguments = arguments
        self._identity = identity
        self._profile = options.chosen_profile(arguments)
        self._restorer = _Restorer(arguments, identity)

    @cached_property
    def _engine(self) -> Engine | None:
        return None if self._arguments.no_model else options.open_engine(self._arguments)

    def _profile_for(self, stego: DicomObject) -> Profile | None:
        from coverslip import pipeline

        if self._profile is None or stego.image is None:
            return self._profile
        return pipeline.resolve_step(self._profile, self._arguments.beta, stego.image)

    def __call__(self, source: Source) -> dict[str, Any]:
        """Extract from one source; what is to be reported."""
        from coverslip import pipeline
        from coverslip.dicom.objects import read_object

        refuse_missing(source)
        target = self._restorer.target(source)
        stego = read_object(source.path)
        found = pipeline.extract(
            stego,
            self._identity,
            self._engine,
            self._profile_for(stego),
            cropped=self._arguments.cropped,
        )
        result = as_result(found)
        if target is not None:
            result |= self._restorer.write(stego, found, target)
        if self._arguments.qr and found.votes is not None:
            from coverslip import picture

            picture.save_symbol(found.votes.symbol(), self._arguments.qr)
        return result


def run(arguments: argparse.Namespace) -> int:
    """Extract from each input."""
    sources = collect(arguments.inputs)
    if wrong := _misused(arguments, sources):
        return misuse(wrong)
    options.resolve_threads(arguments)
    with ExitStack() as held:
        try:
            identity = Identity.read(arguments.identity)
            job: Job
            if arguments.server:
                client = held.enter_context(remote.connect(arguments))
                job = RemoteExtractor(arguments, identity, client)
            else:
                job = LocalExtractor(arguments, identity)
        except CoverslipError as error:
            return misuse(str(error))
        batch = Batch(arguments.json, "extracting", arguments.jobs, arguments.skip_existing)
        return batch.run(sources, job, say)
