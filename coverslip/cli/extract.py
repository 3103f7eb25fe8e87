"""``coverslip extract``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from coverslip.cli import options
from coverslip.cli.batch import Batch, Source, collect, misuse, refuse_missing
from coverslip.errors import CoverslipError, OutputExistsError
from coverslip.keys import Identity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="stego files and folders")
    parser.add_argument("--identity", required=True, type=Path, metavar="FILE", help="the identity file that keygen wrote")
    options.add_profile(parser, default=None)
    options.add_engine(parser)
    parser.add_argument("--no-model", action="store_true", help="read without a network: numpy alone")
    parser.add_argument("--restore", type=Path, metavar="DIR", help="write the re-identified files there")
    parser.add_argument("--qr", type=Path, metavar="FILE", help="save the recovered QR symbol as PNG (one input only)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line; attributes in the DICOM JSON model (PS3.18 F)")


def say(result: dict[str, Any]) -> str:
    """The record for a person to read."""
    lines = [f"{result['attributes']} attributes, read with profile {result['profile']} from frame {result['frame'] + 1}"]
    lines += [f"    {line}" for line in result["listing"]]
    if "restored" in result:
        lines.append(f"    restored to {result['restored']}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Extract from each input."""
    sources = collect(arguments.inputs)
    single = len(arguments.inputs) == 1 and not arguments.inputs[0].is_dir()
    if not sources:
        return misuse("the folders hold no files; name DICOM files or folders that hold some")
    if arguments.qr and not single:
        return misuse("--qr takes one input file; name one, or leave it out")
    if arguments.beta is not None and arguments.profile is None:
        return misuse("--beta needs the --profile that it was embedded with")
    if arguments.profile == "paper":
        return misuse("the paper's scheme cannot be read back from integer pixels; 'coverslip embed' never writes it")
    try:
        identity = Identity.read(arguments.identity)
        engine = None if arguments.no_model else options.open_engine(arguments)
    except CoverslipError as error:
        return misuse(str(error))

    from coverslip import pipeline
    from coverslip.dicom.instance import read_instance, write_instance

    profile = options.chosen_profile(arguments)

    def job(source: Source) -> dict[str, Any]:
        refuse_missing(source)
        instance = read_instance(source.path)
        chosen = profile
        if profile is not None and arguments.beta is not None:
            chosen = profile.with_beta(arguments.beta, instance.legal[1] - instance.legal[0])
        elif profile is not None:
            chosen = replace(profile)
        found = pipeline.extract(instance, identity, engine, chosen)
        result: dict[str, Any] = {
            "profile": found.profile,
            "frame": found.frame,
            "agreement": round(found.votes.agreement, 1),
            "attributes": len(found.record),
            "record": found.record.to_json(),
            "listing": found.record.listing(),
        }
        if arguments.restore:
            target = arguments.restore / source.relative
            if target.exists():
                raise OutputExistsError("the restored file exists already and is never overwritten: choose another folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            restored = pipeline.restore(instance, found.record)
            write_instance(restored, restored.planes, target)
            result["restored"] = str(target)
        if arguments.qr:
            from coverslip import picture

            picture.save_symbol(found.votes.symbol(), arguments.qr)
        return result

    return Batch(arguments.json, "extracting").run(sources, job, say)
