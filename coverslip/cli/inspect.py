"""``coverslip inspect``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from coverslip.cli import options
from coverslip.cli.batch import Batch, Source, collect, misuse, refuse_missing
from coverslip.crypto.keys import Identity
from coverslip.errors import CoverslipError
from coverslip.metrics import Psnr, format_psnr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="DICOM files and folders"
    )
    options.add_engine(parser)
    options.add_carrying(parser)
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw mask and background as PNG (one input)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    # Every profile is tried, as it is.
    parser.set_defaults(profile="default", beta=None, alpha=None)


def say(result: dict[str, Any]) -> str:
    """What fits, for a person to read."""
    lines = [result["transfer_syntax"]]
    if result["frames"]:
        lowest, highest = result["legal"]
        shape = f"{result['frames']} frame(s) of {result['columns']} x {result['rows']}"
        lines = [
            f"{shape}, pixels {lowest} to {highest}, {result['transfer_syntax']}",
            f"    body {result['body']:.1%}, background that may carry {result['background']:.1%}",
        ]
    lines.append(
        f"    record of {result['recorded']} attributes: {result['sealed_bytes']} sealed bytes, "
        f"{result['modules']} modules"
    )
    lines += [f"    {name}: {_fit(fit)}" for name, fit in result["profiles"].items()]
    return "\n".join(lines)


def _fit(fit: dict[str, Any]) -> str:
    if not fit["fits"]:
        return f"refused: {fit['message']}"
    if fit["carried"] == "header":
        return f"carried in the header: {fit['header_reasons'][0]['message']}"
    return (
        f"fits in the pixels, {fit['votes_per_module']:.1f} votes a module, "
        f"{format_psnr(Psnr(**fit['psnr']))}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Inspect each input; nothing is written but the picture."""
    sources = collect(arguments.inputs)
    if not sources:
        return misuse("the folders hold no files; name DICOM files or folders that hold some")
    if arguments.picture and len(sources) != 1:
        return misuse("--picture takes one input file; name one, or leave it out")
    if arguments.picture and arguments.picture.exists():
        return misuse("--picture names a file that exists, which is never overwritten")
    try:
        engine = options.open_engine(arguments)
    except CoverslipError as error:
        return misuse(str(error))

    from coverslip import pipeline
    from coverslip.dicom.objects import read_object

    # Nothing is sealed to anybody: a key made for this run and thrown away is the recipient.
    recipient = Identity.generate().recipient
    choices = options.embed_options(arguments)

    def job(source: Source) -> dict[str, Any]:
        refuse_missing(source)
        seen = pipeline.survey(read_object(source.path), recipient, engine, choices)
        if arguments.picture and seen.pixels is not None:
            from coverslip import picture

            picture.save_survey(seen, arguments.picture)
        return seen.summary()

    return Batch(arguments.json, "inspecting").run(sources, job, say)
