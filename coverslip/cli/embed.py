"""``coverslip embed``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coverslip.cli import options, remote
from coverslip.cli.batch import Batch, Source, Sources, collect, misuse, refuse_missing, target_of
from coverslip.crypto.keys import Recipient
from coverslip.errors import CoverslipError, OutputExistsError

if TYPE_CHECKING:
    from coverslip.engine import Engine
    from coverslip.pipeline import EmbedOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="DICOM files and folders"
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="RECIPIENT",
        help="who will be able to read it, as keygen printed it",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        help="folder for the stego files, or a file's name for one input",
    )
    options.add_profile(parser, default="default")
    options.add_batch_engine(parser)
    options.add_carrying(parser)
    parser.add_argument(
        "--skip-existing", action="store_true", help="a file whose output exists is no failure"
    )
    parser.add_argument(
        "--qr",
        type=Path,
        metavar="FILE",
        help="save the QR symbol of the sealed record as PNG (one input only)",
    )
    text = "save cover, mask, carriers, stego and difference as PNG (one input only)"
    parser.add_argument("--picture", type=Path, metavar="FILE", help=text)
    remote.add_server(parser)
    parser.add_argument(
        "--seal-here",
        action="store_true",
        help="with --server: de-identify and seal here, the server sees no identity",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def say(result: dict[str, Any]) -> str:
    """A sentence about one embedding."""
    from coverslip.metrics import Psnr, format_psnr

    text = f"{result['recorded']} attributes in {result['sealed_bytes']} sealed bytes, "
    if result["carried"] == "header":
        reasons = "; ".join(reason["message"] for reason in result["header_reasons"])
        text += f"carried: header ({reasons}); no pixel differs"
    else:
        text += (
            f"carried: pixels, on {result['carriers']} carriers, "
            f"{result['votes_per_module']:.1f} votes a module, "
            f"{result['module_errors']} module errors; {format_psnr(Psnr(**result['psnr']))}; "
            "no pixel outside the carriers differs"
        )
    if not result["bound"]:
        text += "; the step leaves no room to bind the record to its image"
    text += f" -> {result['output']}"
    if result["frames"] > 1 and result["carried"] == "pixels":
        text += f"; {result['frames_carrying']} of {result['frames']} frames carry"
    if result["dropped"]:
        text += f"; {len(result['dropped'])} attributes are in the sealed header part alone"
    return "; ".join([text, *result["notes"]])


def _misused(arguments: argparse.Namespace, sources: Sources, single: bool) -> str | None:
    """What is wrong with the call, or None."""
    if not sources:
        return "the folders hold no files; name DICOM files or folders that hold some"
    if not single and (arguments.qr or arguments.picture):
        return "--qr and --picture take one input file; name one, or leave them out"
    for name in ("qr", "picture"):
        path = getattr(arguments, name)
        if path is not None and path.exists():
            return f"--{name} names a file that exists, which is never overwritten: choose another"
    if not single and arguments.output.exists() and not arguments.output.is_dir():
        return "--output is a file, but there are several inputs; name a folder"
    if arguments.seal_here and not arguments.server:
        return "--seal-here is for --server HOST:PORT: without one, everything is sealed here"
    return remote.misused(
        arguments,
        {"--qr": arguments.qr, "--picture": arguments.picture, "--jobs": arguments.jobs > 1},
    )


class _EmbedJob:
    """Embeds one source into the file that it is to become, and reports.

    Parameters
    ----------
    output : Path
    single : bool
        ``output`` may name a file.
    embed : callable
        Embeds one file into another; see `LocalEmbedder` and `remote_embedder`.
    """

    def __init__(
        self, output: Path, single: bool, embed: Callable[[Path, Path], dict[str, Any]]
    ) -> None:
        self._output = output
        self._single = single
        self._embed = embed

    def __call__(self, source: Source) -> dict[str, Any]:
        refuse_missing(source)
        target = target_of(source, self._output, self._single)
        if target.exists():
            raise OutputExistsError(
                "the output exists already and is never overwritten: choose another folder or "
                "name, or say --skip-existing"
            )
        return {"output": str(target), **self._embed(source.path, target)}


class LocalEmbedder:
    """Embeds one file into another on this machine; picklable only before the first call."""

    def __init__(self, arguments: argparse.Namespace, recipient: Recipient) -> None:
        self._arguments = arguments
        self._recipient = recipient

    @cached_property
    def _engine(self) -> Engine:
        return options.open_engine(self._arguments)

    @cached_property
    def _choices(self) -> EmbedOptions:
        return options.embed_options(self._arguments)

    def __call__(self, source: Path, target: Path) -> dict[str, Any]:
        """Embed one file into another; its report."""
        from coverslip import pipeline
        from coverslip.dicom.objects import read_object

        cover = read_object(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        embedding = pipeline.embed(
            cover, self._recipient, self._engine, self._choices, spool=target.parent
        )
        embedding.write(target)
        if embedding.pixels is not None and cover.image is not None:
            _draw(self._arguments, cover.image.frames, embedding)
        return embedding.report.as_json()


def run(arguments: argparse.Namespace) -> int:
    """Embed each input."""
    sources = collect(arguments.inputs)
    single = len(arguments.inputs) == 1 and not arguments.inputs[0].is_dir()
    if wrong := _misused(arguments, sources, single):
        return misuse(wrong)
    options.resolve_threads(arguments)
    with ExitStack() as held:
        try:
            recipient = Recipient.parse(arguments.to)
            embed = (
                remote_embedder(arguments, recipient, held)
                if arguments.server
                else LocalEmbedder(arguments, recipient)
            )
        except CoverslipError as error:
            return misuse(str(error))
        batch = Batch(arguments.json, "embedding", arguments.jobs, arguments.skip_existing)
        return batch.run(sources, _EmbedJob(arguments.output, single, embed), say)


def remote_embedder(
    arguments: argparse.Namespace, recipient: Recipient, held: ExitStack
) -> Callable[[Path, Path], dict[str, Any]]:
    """What lets a server embed one file into another."""
    client = held.enter_context(remote.connect(arguments))
    choices: dict[str, Any] = {
        "beta": arguments.beta,
        "use_padding": arguments.use_padding,
        "allow_burned_in": arguments.allow_burned_in,
        "require_pixels": arguments.require_pixels,
        "allow": tuple(arguments.allow),
    }

    def embed(source: Path, target: Path) -> dict[str, Any]:
        if arguments.seal_here:
            done = client.embed(source, recipient, arguments.profile, seal_here=True, **choices)
            remote.write_whole(done.instance, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            done = client.embed_to_file(source, target, recipient, arguments.profile, **choices)
        figures: dict[str, Any] = done.figures()
        return figures

    return embed


def _draw(arguments: argparse.Namespace, cover: Any, embedding: Any) -> None:
    from coverslip import picture

    if arguments.qr:
        picture.save_symbol(embedding.symbol, arguments.qr)
    if arguments.picture:
        picture.save_embedding(cover, embedding, arguments.picture)
