"""``coverslip inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from coverslip.cli import options
from coverslip.cli.batch import Batch, Source, collect, misuse, refuse_missing
from coverslip.crypto.keys import Identity
from coverslip.errors import CoverslipError
from coverslip.scheme.profiles import PROFILES, Scheme


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="DICOM files and folders"
    )
    options.add_engine(parser)
    parser.add_argument(
        "--use-padding", action="store_true", help="count pixel padding as background"
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="draw mask and background as PNG (one input only)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def say(result: dict[str, Any]) -> str:
    """What fits, for a person to read."""
    shape = f"{result['frames']} frame(s) of {result['columns']} x {result['rows']}"
    lowest, highest = result["legal"]
    lines = [
        f"{shape}, pixels {lowest} to {highest}, {result['transfer_syntax']}",
        f"    body {result['body']:.1%}, background that may carry {result['background']:.1%}",
        f"    record of {result['recorded']} attributes: {result['sealed_bytes']} sealed bytes, "
        f"{result['modules']} modules",
    ]
    for name, fit in result["profiles"].items():
        if fit["fits"]:
            psnr = fit["psnr"]
            lines.append(
                f"    {name}: fits, {fit['votes_per_module']:.1f} votes a module, PSNR "
                f"{psnr['stored']:.1f} dB (peak of the stored bits), "
                f"{psnr['sixteen_bit']:.1f} dB (peak 65535)"
            )
        else:
            lines.append(f"    {name}: does not fit: {fit['message']}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Inspect each input; nothing is written but the picture."""
    sources = collect(arguments.inputs)
    if not sources:
        return misuse("the folders hold no files; name DICOM files or folders that hold some")
    if arguments.picture and len(sources) != 1:
        return misuse("--picture takes one input file; name one, or leave it out")
    try:
        engine = options.open_engine(arguments)
    except CoverslipError as error:
        return misuse(str(error))

    from coverslip import pipeline
    from coverslip.dicom.instance import read_instance

    # Nothing is sealed to anybody: a key made for this run and thrown away stands for the
    # recipient.
    recipient = Identity.generate().recipient

    def job(source: Source) -> dict[str, Any]:
        refuse_missing(source)
        instance = read_instance(source.path)
        seen = pipeline.survey(instance, recipient, engine, arguments.use_padding)
        fits = {
            name: pipeline.would_fit(instance, recipient, engine, profile, arguments.use_padding)
            for name, profile in PROFILES.items()
            if profile.scheme is Scheme.KEYED
        }
        if arguments.picture:
            from coverslip import picture

            picture.save_survey(seen, arguments.picture)
        return {**seen.summary(), "profiles": fits}

    return Batch(arguments.json, "inspecting").run(sources, job, say)
