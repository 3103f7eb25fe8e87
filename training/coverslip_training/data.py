"""``coverslip train data``: turn DICOM files and annotations into records, split by patient."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from coverslip.cli.batch import ALL_DONE, SOME_FAILED, collect, misuse
from coverslip.cli.options import positive
from coverslip.errors import OutputExistsError
from coverslip_training.annotations import AnnotationSource, MaskFolder
from coverslip_training.collector import Collector, Report, Skipped, split_off_segmentations
from coverslip_training.errors import AnnotationError
from coverslip_training.patients import PatientTable, read_key
from coverslip_training.segmentations import SegFiles
from coverslip_training.via import ViaFile

KEY_NAME = "split.key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``coverslip train data``."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="DICOM files or folders of them; DICOM SEG files among them are annotations",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder for the records and the report",
    )
    parser.add_argument(
        "--shards",
        type=positive,
        default=4,
        metavar="N",
        help="number of files for each split (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing records")
    _add_annotation_arguments(parser)
    _add_split_arguments(parser)


def _add_annotation_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("annotations", "each option but --segment may be repeated")
    group.add_argument(
        "--masks",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of 1-bit mask PNG files",
    )
    group.add_argument(
        "--via",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="project or JSON export of the VIA tool",
    )
    group.add_argument(
        "--seg",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="DICOM SEG files or folders of them",
    )
    group.add_argument(
        "--segment",
        metavar="LABEL",
        help="label of the segments that are body (default: the union of all segments)",
    )


def _add_split_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("patients and splits")
    group.add_argument(
        "--table",
        type=Path,
        metavar="CSV",
        help="table that names the patient of each file, in place of Patient ID",
    )
    group.add_argument(
        "--file-column",
        default="file",
        metavar="NAME",
        help="column with the file's path (default: %(default)s)",
    )
    group.add_argument(
        "--patient-column",
        default="patient",
        metavar="NAME",
        help="column with the patient (default: %(default)s)",
    )
    group.add_argument(
        "--split-column",
        metavar="NAME",
        help="column with the split: train, val or test (default: decided by the keyed hash)",
    )
    group.add_argument(
        "--val",
        type=share,
        default=0.15,
        metavar="SHARE",
        help="share of the patients in val (default: %(default)s)",
    )
    group.add_argument(
        "--test",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of the patients in test (default: none)",
    )
    group.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help=f"key of the split, created if it does not exist (default: DIR/{KEY_NAME})",
    )


def share(text: str) -> float:
    """Parse a number of at least 0 and below 1."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return value


def _open_sources(
    arguments: argparse.Namespace, segmentations: list[Path]
) -> tuple[list[AnnotationSource], list[Skipped]]:
    """Open the sources of annotations; also return the segmentations that cannot be used."""
    _, given = split_off_segmentations(collect(arguments.seg))
    missing = [path for path in arguments.seg if not path.exists()]
    if missing:
        raise AnnotationError(
            f"{missing[0]} does not exist; DICOM SEG files or a folder of them were expected"
        )
    sources: list[AnnotationSource] = [
        *(MaskFolder(path) for path in arguments.masks),
        *(ViaFile(path) for path in arguments.via),
    ]
    paths = list({path.resolve(): path for path in [*segmentations, *given]}.values())
    if not paths:
        return sources, []
    files = SegFiles(paths, arguments.segment)
    skipped = [Skipped(name, None, AnnotationError.code, message) for name, message in files.bad]
    return [*sources, files], skipped


def _clear(out: Path, overwrite: bool) -> None:
    """Remove the records of another run, or refuse: training would read the shards of both."""
    existing = list(out.glob("*.tfrecord"))
    if existing and not overwrite:
        raise OutputExistsError(
            f"there are records in {out}: choose another folder, or use --overwrite"
        )
    for path in existing:
        path.unlink()


def run(arguments: argparse.Namespace) -> int:
    """Write the records and the report; exit code 1 if anything annotated was left out."""
    from coverslip_training.records import ShardWriter

    if arguments.val + arguments.test >= 1.0:
        return misuse("--val and --test leave nothing to train on")
    missing = [path for path in arguments.inputs if not path.exists()]
    if missing:
        return misuse(f"{missing[0]} does not exist; DICOM files or folders of them were expected")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    shares = {
        split: value for split, value in (("val", arguments.val), ("test", arguments.test)) if value
    }
    images, segmentations = split_off_segmentations(collect(arguments.inputs))
    sources, unusable = _open_sources(arguments, segmentations)
    table = None
    if arguments.table:
        table = PatientTable(
            arguments.table, arguments.file_column, arguments.patient_column, arguments.split_column
        )
    key = read_key(arguments.key or out / KEY_NAME)
    _clear(out, arguments.overwrite)
    splits = (table and table.splits) or ("train", *shares)
    with ShardWriter(out, splits, arguments.shards) as writer:
        collector = Collector(writer, sources, key, shares, table)
        for file in images:
            collector.add(file)
    report = collector.finish()
    report.skipped += unusable
    return _write_report(report, out)


def _write_report(report: Report, out: Path) -> int:
    """Write and print the report; return the exit code."""
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    text = report.as_text()
    (out / "report.txt").write_text(text)
    print(text, end="")
    empty = [split for split, counts in report.written.items() if not counts]
    for split in empty:
        print(
            f"{split} is empty: with few patients that can happen; assign them with "
            "--split-column, or add patients"
        )
    return SOME_FAILED if report.lost or "train" in empty else ALL_DONE
