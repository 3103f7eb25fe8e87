"""``coverslip demo``: the whole way on the real CT inside pydicom, with an invented patient."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from coverslip.cli import options
from coverslip.cli.batch import ALL_DONE, SOME_FAILED, misuse
from coverslip.errors import CoverslipError

if TYPE_CHECKING:
    from coverslip.pipeline import EmbedReport

_CT = "J2K_pixelrep_mismatch.dcm"
"""A 512 x 512 head CT among pydicom's own test files; part of its wheel, so nothing is
downloaded.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    text = "folder for the files (default: %(default)s)"
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("out/demo"), metavar="DIR", help=text
    )
    options.add_profile(parser, default="default")
    options.add_engine(parser)


def _names(folder: Path) -> dict[str, Path]:
    return {
        name: folder / name
        for name in ("cover.dcm", "stego.dcm", "restored.dcm", "identity.txt", "picture.png")
    }


def run(arguments: argparse.Namespace) -> int:
    """Embed, extract, restore, and say what happened."""
    from pydicom import dcmread
    from pydicom.data import get_testdata_file

    from coverslip import picture, pipeline
    from coverslip.crypto.keys import Identity
    from coverslip.dicom.objects import read_object
    from coverslip.fake_patient import write_fake_patient

    source = get_testdata_file(_CT, download=False)
    if not isinstance(source, str):
        return misuse(f"pydicom's own test file {_CT} is not there; reinstall pydicom")
    files = _names(arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for path in files.values():
        path.unlink(missing_ok=True)
    profile = options.chosen_profile(arguments)
    assert profile is not None
    try:
        cover = dcmread(source)
        write_fake_patient(cover, seed=42)
        cover.save_as(files["cover.dcm"])
        identity = Identity.generate()
        identity.write(files["identity.txt"])
        print(
            f"1. invented patient {cover.PatientName} written into the header of a real CT -> "
            f"{files['cover.dcm']}"
        )
        engine = options.open_engine(arguments)
        original = read_object(files["cover.dcm"])
        choices = pipeline.EmbedOptions(profile, beta=arguments.beta)
        embedding = pipeline.embed(original, identity.recipient, engine, choices)
        embedding.write(files["stego.dcm"])
        _print_embedding(embedding.report, engine.name, files["stego.dcm"])
        if embedding.pixels is not None and original.image is not None:
            picture.save_embedding(original.image.frames, embedding, files["picture.png"])
        stego = read_object(files["stego.dcm"])
        found = pipeline.extract(stego, identity)
        print(
            f"3. read back without a network: {len(found.record)} attributes, among them "
            f"{cover.PatientName}; {found.binding.value}"
        )
        restoration = pipeline.restore(stego, found, identity.recipient)
        restoration.write(files["restored.dcm"])
    except CoverslipError as error:
        print(f"coverslip: {error}")
        return SOME_FAILED
    same = files["restored.dcm"].read_bytes() == files["cover.dcm"].read_bytes()
    again = read_object(files["restored.dcm"])
    equal = (
        again.image is not None
        and original.image is not None
        and bool((again.image.planes == original.image.planes).all())
    )
    print(
        f"4. restored -> {files['restored.dcm']}: the cover's pixels: {'yes' if equal else 'no'}; "
        f"the cover's file, byte for byte: {'yes' if same else 'no'}"
    )
    print(f"   picture -> {files['picture.png']}")
    return ALL_DONE if equal else SOME_FAILED


def _print_embedding(report: EmbedReport, engine: str, target: Path) -> None:
    from coverslip.metrics import format_psnr

    print(
        f"2. embedded with {engine}, profile {report.profile}: {report.recorded} attributes in "
        f"{report.sealed_bytes} sealed bytes, carried: {report.carried.value}, "
        f"{report.carriers} carriers, {report.votes_per_module:.1f} votes a module, "
        f"{report.module_errors} module errors -> {target}"
    )
    print(
        f"   {format_psnr(report.psnr)}; pixels changed outside the carriers: "
        f"{report.changed_outside}"
    )
    for note in report.notes:
        print(f"   note: {note}")
