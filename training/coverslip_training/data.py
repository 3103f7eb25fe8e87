"""``coverslip train data``: DICOM files and annotations to records of `coverslip_training.records`,
split by patient.

Nobody's slices are on both sides of a split: the split is a function of the patient alone, a keyed
hash that is compared with the shares wanted, so that a patient who comes back next year with new
images goes where the old ones are.
"""

from __future__ import annotations

import argparse
import csv
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from coverslip.cli.batch import ALL_DONE, SOME_FAILED, collect, misuse
from coverslip.cli.batch import Source as File
from coverslip.cli.options import positive
from coverslip.dicom.instance import Instance, read_instance
from coverslip.errors import (
    AnnotationError,
    CoverslipError,
    OutputExistsError,
    TrainingTableError,
)
from coverslip_training.annotations import (
    Mask,
    MaskFolder,
    SegFiles,
    Source,
    Target,
    ViaFile,
    is_seg,
    read_annotation,
)

if TYPE_CHECKING:
    from coverslip_training.records import ShardWriter

KEY_BYTES = 32
KEY_NAME = "split.key"
SPLITS = ("train", "val", "test")

NO_ANNOTATION, NO_PATIENT, DUPLICATE = "no-annotation", "no-patient", "duplicate"
HARMLESS = frozenset({NO_ANNOTATION, "not-an-image", "rejected"})
"""Reasons for which leaving a slice out loses nothing that anyone asked for."""


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why.

    Attributes
    ----------
    file : str
        As it was named, or below the folder that was named.
    frame : int or None
        From 1; None for the whole file.
    code : str
        `CoverslipError.code`, or one of this module's.
    message : str
    """

    file: str
    frame: int | None
    code: str
    message: str


@dataclass
class Report:
    """What became of everything that was given.

    Attributes
    ----------
    written : dict
        Slices by split, then modality.
    patients : dict
        Patients by split.
    skipped : list of Skipped
    unused : list of str
        Annotations that are of none of the images.
    """

    written: dict[str, Counter[str]] = field(default_factory=dict)
    patients: dict[str, set[str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def count(self, split: str, modality: str, patient: str) -> None:
        """Note a slice that was written."""
        self.written.setdefault(split, Counter())[modality or "unknown"] += 1
        self.patients.setdefault(split, set()).add(patient)

    @property
    def lost(self) -> int:
        """Items that somebody annotated, or meant to, and that are not in the records."""
        return len(self.unused) + sum(item.code not in HARMLESS for item in self.skipped)

    def as_json(self) -> dict[str, Any]:
        """For a program; patients only as numbers."""
        return {
            "written": {
                split: dict(sorted(counts.items())) for split, counts in self.written.items()
            },
            "patients": {split: len(patients) for split, patients in self.patients.items()},
            "skipped": dict(sorted(Counter(item.code for item in self.skipped).items())),
            "items": [vars(item) for item in self.skipped],
            "unused_annotations": self.unused,
        }

    def as_text(self) -> str:
        """For a person."""
        lines = []
        for split, counts in self.written.items():
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
            slices, patients = counts.total(), len(self.patients.get(split, ()))
            lines.append(
                f"{split}: {slices} slice{'s' * (slices != 1)} of {patients} "
                f"patient{'s' * (patients != 1)} ({kinds or 'none'})"
            )
        reasons = Counter(item.code for item in self.skipped)
        lines += [f"skipped, {code}: {number}" for code, number in sorted(reasons.items())]
        for item in self.skipped:
            where = item.file if item.frame is None else f"{item.file}, frame {item.frame}"
            lines.append(f"  {item.code}: {where}: {item.message}")
        lines += [f"annotation of no image given: {name}" for name in self.unused]
        return "\n".join(lines) + "\n"


def split_of(key: bytes, patient: str, shares: Mapping[str, float]) -> str:
    """The split of a patient.

    Parameters
    ----------
    key : bytes
    patient : str
    shares : mapping
        Share of each split but ``train``, which gets the rest; 0 to 1 together.

    Returns
    -------
    str
        HMAC-SHA-256 (RFC 2104) of the patient as a fraction of 1, put into the first share that
        reaches it.
    """
    fraction = (
        int.from_bytes(hmac.digest(key, b"split " + patient.encode(), "sha256")[:8], "big")
        / 2.0**64
    )
    reached = 0.0
    for split, share in shares.items():
        reached += share
        if fraction < reached:
            return split
    return "train"


def pseudonym(key: bytes, patient: str) -> str:
    """What stands for a patient in the records: 64 bits that only the key leads back to."""
    return hmac.digest(key, b"patient " + patient.encode(), "sha256")[:8].hex()


def read_key(path: Path) -> bytes:
    """The key of the split; made, for the owner's eyes alone, where there is none yet.

    Raises
    ------
    TrainingTableError
        What is there is no key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text().strip()
        try:
            made = bytes.fromhex(key)
        except ValueError:
            made = b""
        if len(made) < KEY_BYTES // 2:
            raise TrainingTableError(
                f"{path} holds no key; {KEY_BYTES} bytes as hexadecimal digits were expected: "
                "name another file"
            ) from None
        return made
    with os.fdopen(descriptor, "w") as file:
        made = secrets.token_bytes(KEY_BYTES)
        file.write(made.hex() + "\n")
    return made


class Table:
    """A CSV file that says whose a file is, and which split it belongs to.

    Parameters
    ----------
    path : Path
    file_column, patient_column : str
        The files are relative to the table's folder.
    split_column : str, optional

    Raises
    ------
    TrainingTableError
        A column is missing, a split unknown, or a patient in two splits.
    """

    def __init__(
        self, path: Path, file_column: str, patient_column: str, split_column: str | None = None
    ) -> None:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error):
            raise TrainingTableError(
                f"{path} cannot be read as CSV with a first line of column names"
            ) from None
        wanted = [file_column, patient_column, *([split_column] if split_column else [])]
        missing = [column for column in wanted if not rows or column not in rows[0]]
        if missing:
            raise TrainingTableError(
                f"{path} has no column {missing[0]!r} or no rows: name the column that holds it"
            )
        self._patients = {
            (path.parent / row[file_column]).resolve(): (row[patient_column] or "").strip()
            for row in rows
        }
        self._splits = (
            self._read_splits(path, rows, patient_column, split_column) if split_column else {}
        )

    @staticmethod
    def _read_splits(
        path: Path, rows: Sequence[Mapping[str, str]], patient_column: str, split_column: str
    ) -> dict[str, str]:
        splits: dict[str, str] = {}
        for number, row in enumerate(rows, start=2):
            patient, split = (row[patient_column] or "").strip(), (row[split_column] or "").strip()
            if split not in SPLITS:
                raise TrainingTableError(
                    f"{path}, line {number}: {split!r} is no split; one of {', '.join(SPLITS)} "
                    "was expected"
                )
            if splits.setdefault(patient, split) != split:
                raise TrainingTableError(
                    f"{path}, line {number}: its patient is in another split before; split by "
                    "patient"
                )
        return splits

    @property
    def splits(self) -> list[str]:
        """Splits that the table names, as `SPLITS` has them."""
        return [split for split in SPLITS if split in self._splits.values()]

    def patient(self, path: Path) -> str:
        """Whose the file is; empty where the table does not say."""
        return self._patients.get(path.resolve(), "")

    def split(self, patient: str) -> str | None:
        """The patient's split; None where the table says none."""
        return self._splits.get(patient)


def header_patient(instance: Instance) -> str:
    """Patient ID with its issuer (PS3.3 section C.2.2); empty where there is none."""
    number = str(instance.dataset.get("PatientID") or "").strip()
    return f"{instance.dataset.get('IssuerOfPatientID') or ''}\\{number}" if number else ""


def dark_air(instance: Instance, plane: NDArray[np.int32]) -> NDArray[np.int32]:
    """A plane [H, W] as the network is given it: MONOCHROME1 turned over, so that air is dark."""
    low, high = instance.legal
    return low + high - plane if instance.inverted else plane


def targets_of(file: File, instance: Instance) -> Iterator[tuple[Target, NDArray[np.int32]]]:
    """The instance's frames, each with the planes int32 [H, W] that the network is given."""
    frames, rows, columns = instance.planes.shape
    uid = str(instance.dataset.get("SOPInstanceUID") or "") or file.relative.as_posix()
    for number, plane in enumerate(instance.planes, start=1):
        yield (
            Target(file.relative.as_posix(), uid, number, frames, (rows, columns)),
            dark_air(instance, plane),
        )


class Collector:
    """Puts slices into records, and what does not go there into the report.

    Parameters
    ----------
    writer : ShardWriter
    sources : sequence of Source
    key : bytes
    shares : mapping
        See `split_of`.
    table : Table, optional
        In place of Patient ID.
    """

    def __init__(
        self,
        writer: ShardWriter,
        sources: Sequence[Source],
        key: bytes,
        shares: Mapping[str, float],
        table: Table | None = None,
    ) -> None:
        self._writer = writer
        self._sources = sources
        self._key = key
        self._shares = shares
        self._table = table
        self._names: set[str] = set()
        self.report = Report({split: Counter() for split in writer.written})

    def skip(self, file: File, frame: int | None, code: str, message: str) -> None:
        """Note what is left out."""
        self.report.skipped.append(Skipped(file.relative.as_posix(), frame, code, message))

    def add(self, file: File) -> None:
        """Every annotated frame of a file."""
        try:
            instance = read_instance(file.path)
        except CoverslipError as error:
            self.skip(file, None, error.code, str(error))
            return
        for target, plane in targets_of(file, instance):
            frame = target.frame if target.frames > 1 else None
            try:
                mask = read_annotation(self._sources, target)
            except CoverslipError as error:
                self.skip(file, frame, error.code, str(error))
                continue
            if mask is None:
                self.skip(file, frame, NO_ANNOTATION, "nothing annotates it")
            elif target.name in self._names:
                self.skip(
                    file,
                    frame,
                    DUPLICATE,
                    "an image with the same SOP Instance UID was taken before",
                )
            else:
                self._take(file, frame, instance, target, plane, mask)

    def _take(
        self,
        file: File,
        frame: int | None,
        instance: Instance,
        target: Target,
        plane: NDArray[np.int32],
        mask: Mask,
    ) -> None:
        from coverslip_training.records import Slice

        patient = self._table.patient(file.path) if self._table else header_patient(instance)
        if not patient:
            where = (
                "the table does not name it"
                if self._table
                else "it has no Patient ID; name a table that says whose it is"
            )
            self.skip(
                file,
                frame,
                NO_PATIENT,
                f"{where}: without its patient it cannot be kept out of the other split",
            )
            return
        split = (self._table.split(patient) if self._table else None) or split_of(
            self._key, patient, self._shares
        )
        header, known = instance.dataset, pseudonym(self._key, patient)
        modality, anatomy = (
            str(header.get("Modality") or ""),
            str(header.get("BodyPartExamined") or ""),
        )
        names = (header.get("Manufacturer"), header.get("ManufacturerModelName"))
        scanner = f"{names[0] or ''} {names[1] or ''}".strip()
        self._writer.write(
            split, Slice(target.name, known, modality, plane, mask, anatomy, scanner)
        )
        self._names.add(target.name)
        self.report.count(split, modality, known)

    def finish(self) -> Report:
        """The report, with the annotations that nothing asked for."""
        self.report.unused = [name for source in self._sources for name in source.unused()]
        return self.report


def part_segmentations(files: Sequence[File]) -> tuple[list[File], list[Path]]:
    """Files that may be images, and those that are DICOM SEG."""
    images, segmentations = [], []
    for file in files:
        try:
            found = is_seg(
                dcmread(file.path, specific_tags=["SOPClassUID"], stop_before_pixels=True)
            )
        except (
            InvalidDicomError,
            OSError,
            EOFError,
            ValueError,
            AttributeError,
            NotImplementedError,
        ):
            found = False  # read_instance says what it is
        if found:
            segmentations.append(file.path)
        else:
            images.append(file)
    return images, segmentations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="DICOM files or folders of them; DICOM SEG among them count",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the records and the report",
    )
    parser.add_argument(
        "--masks",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder of 1-bit mask PNG",
    )
    parser.add_argument(
        "--via",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="project or JSON export of the VIA tool",
    )
    parser.add_argument(
        "--seg",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="DICOM SEG files or folders of them",
    )
    parser.add_argument(
        "--segment",
        metavar="LABEL",
        help="label of the segments that are body (default: all of them, joined)",
    )
    parser.add_argument(
        "--table", type=Path, metavar="CSV", help="says whose each file is, in place of Patient ID"
    )
    parser.add_argument(
        "--file-column",
        default="file",
        metavar="NAME",
        help="column of the file's path (default: %(default)s)",
    )
    parser.add_argument(
        "--patient-column",
        default="patient",
        metavar="NAME",
        help="column of the patient (default: %(default)s)",
    )
    parser.add_argument(
        "--split-column",
        metavar="NAME",
        help="column of the split: train, val or test (default: by the keyed hash)",
    )
    parser.add_argument(
        "--val",
        type=share,
        default=0.15,
        metavar="SHARE",
        help="share of the patients in val (default: %(default)s)",
    )
    parser.add_argument(
        "--test",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of the patients in test (default: none)",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help=f"key of the split, made if it is not there (default: DIR/{KEY_NAME})",
    )
    parser.add_argument(
        "--shards",
        type=positive,
        default=4,
        metavar="N",
        help="files for each split (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace records that are there")


def share(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value


def _sources(
    arguments: argparse.Namespace, segmentations: list[Path]
) -> tuple[list[Source], list[tuple[str, str]]]:
    """The sources of annotations, and what is wrong with segmentations."""
    _, named = part_segmentations(collect(arguments.seg))
    wrong = [path for path in arguments.seg if not path.exists()]
    if wrong:
        raise AnnotationError(
            f"{wrong[0]} is not there; DICOM SEG files or a folder of them were expected"
        )
    masks: list[Source] = [MaskFolder(path) for path in arguments.masks]
    drawn: list[Source] = [ViaFile(path) for path in arguments.via]
    paths = list({path.resolve(): path for path in [*segmentations, *named]}.values())
    if not paths:
        return masks + drawn, []
    segs = SegFiles(paths, arguments.segment)
    return [*masks, *drawn, segs], segs.bad


def _clear(out: Path, overwrite: bool) -> None:
    """Refuse records of another run, or take them away: a reader would take the shards of both."""
    there = list(out.glob("*.tfrecord"))
    if there and not overwrite:
        raise OutputExistsError(
            f"there are records in {out}: choose another folder, or say --overwrite"
        )
    for path in there:
        path.unlink()


def run(arguments: argparse.Namespace) -> int:
    """Make the records and say what became of everything."""
    from coverslip_training.records import ShardWriter

    if arguments.val + arguments.test >= 1.0:
        return misuse("--val and --test leave nothing to train on")
    missing = [path for path in arguments.inputs if not path.exists()]
    if missing:
        return misuse(f"{missing[0]} is not there; DICOM files or folders of them were expected")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    shares = {
        split: value for split, value in (("val", arguments.val), ("test", arguments.test)) if value
    }
    images, segmentations = part_segmentations(collect(arguments.inputs))
    sources, bad = _sources(arguments, segmentations)
    table = None
    if arguments.table:
        table = Table(
            arguments.table, arguments.file_column, arguments.patient_column, arguments.split_column
        )
    key = read_key(arguments.key or out / KEY_NAME)
    _clear(out, arguments.overwrite)
    with ShardWriter(
        out, (table and table.splits) or ("train", *shares), arguments.shards
    ) as writer:
        collector = Collector(writer, sources, key, shares, table)
        for file in images:
            collector.add(file)
    report = collector.finish()
    report.skipped += [Skipped(name, None, AnnotationError.code, message) for name, message in bad]
    return _tell(report, out)


def _tell(report: Report, out: Path) -> int:
    (out / "report.json").write_text(json.dumps(report.as_json(), indent=2) + "\n")
    text = report.as_text()
    (out / "report.txt").write_text(text)
    print(text, end="")
    empty = [split for split, counts in report.written.items() if not counts]
    for split in empty:
        print(
            f"nothing went to {split}: with few patients a split may stay empty; say who goes "
            "where with --split-column, or add patients"
        )
    return SOME_FAILED if report.lost or "train" in empty else ALL_DONE
