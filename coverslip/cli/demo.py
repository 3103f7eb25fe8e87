"""``coverslip demo``: the whole way on the real CT inside pydicom, with an invented patient."""

from __future__ import annotations

import argparse
from pathlib import Path

from coverslip.cli import options
from coverslip.cli.batch import ALL_DONE, SOME_FAILED, misuse
from coverslip.errors import CoverslipError

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
    from coverslip.dicom.instance import read_instance, write_instance
    from coverslip.dicom.record_views import as_dataset
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
        instance = read_instance(files["cover.dcm"])
        choices = pipeline.EmbedOptions(profile, beta=arguments.beta)
        embedding = pipeline.embed(instance, identity.recipient, engine, choices)
        embedding.write(files["stego.dcm"])
        _tell_embedding(embedding.report, engine.name, files["stego.dcm"])
        picture.save_embedding(instance.frames, embedding, files["picture.png"])
        stego = read_instance(files["stego.dcm"])
        found = pipeline.extract(stego, identity)
        print(
            f"3. read back without a network: {len(found.record)} attributes, among them "
            f"{cover.PatientName}"
        )
        restored = pipeline.restore(stego, found.record)
        write_instance(restored, restored.frames, files["restored.dcm"])
    except CoverslipError as error:
        print(f"coverslip: {error}")
        return SOME_FAILED
    again = dcmread(files["restored.dcm"])
    different = [
        e.keyword for e in as_dataset(found.record) if again.get(e.tag) != cover.get(e.tag)
    ]
    print(
        f"4. restored -> {files['restored.dcm']}; recorded attributes that differ from the "
        f"cover's: {len(different)}"
    )
    print(f"   picture -> {files['picture.png']}")
    return ALL_DONE if not different else SOME_FAILED


def _tell_embedding(report: object, engine: str, target: Path) -> None:
    from coverslip.pipeline import EmbedReport

    assert isinstance(report, EmbedReport)
    print(
        f"2. embedded with {engine}, profile {report.profile}: {report.recorded} attributes in "
        f"{report.sealed_bytes} sealed bytes, "
        f"{report.carriers} carriers, {report.votes_per_module:.1f} votes a module, "
        f"{report.module_errors} module errors -> {target}"
    )
    print(
        f"   PSNR {report.psnr.stored:.1f} dB (peak of the stored bits), "
        f"{report.psnr.sixteen_bit:.1f} dB (peak 65535), "
        f"{report.psnr.paper:.1f} dB (the paper's convention); pixels changed outside the "
        f"carriers: {report.changed_outside}"
    )
    for note in report.notes:
        print(f"   note: {note}")
