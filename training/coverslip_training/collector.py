"""Collects annotated slices into records, and reports every slice that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from coverslip.cli.batch import Source
from coverslip.dicom.instance import Instance, read_instance
from coverslip.errors import CoverslipError
from coverslip_training.annotations import AnnotationSource, Mask, Target, read_annotation
from coverslip_training.patients import PatientTable, header_patient, pseudonym, split_of
from coverslip_training.segmentations import is_seg

if TYPE_CHECKING:
    from coverslip_training.records import Slice

NO_ANNOTATION, NO_PATIENT, DUPLICATE = "no-annotation", "no-patient", "duplicate"
HARMLESS = frozenset({NO_ANNOTATION, "not-an-image", "rejected"})
"""Codes of slices that were left out on purpose, so that nothing is lost."""


@dataclass(frozen=True)
class Skipped:
    """A file or frame that was left out.

    Attributes
    ----------
    file : str
        Path below the given folder.
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
    """What was written and what was left out.

    Attributes
    ----------
    written : dict
        Number of slices by split, then modality.
    patients : dict
        Patients by split.
    skipped : list of Skipped
    unused : list of str
        Annotations of none of the images.
    """

    written: dict[str, Counter[str]] = field(default_factory=dict)
    patients: dict[str, set[str]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def count(self, split: str, modality: str, patient: str) -> None:
        """Count a slice that was written."""
        self.written.setdefault(split, Counter())[modality or "unknown"] += 1
        self.patients.setdefault(split, set()).add(patient)

    @property
    def lost(self) -> int:
        """Number of slices that were annotated, or meant to be, and are not in the records."""
        return len(self.unused) + sum(item.code not in HARMLESS for item in self.skipped)

    def as_json(self) -> dict[str, Any]:
        """The report for a program; patients are only counted."""
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
        """The report for a person."""
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
        lines += [f"annotation without an image: {name}" for name in self.unused]
        return "\n".join(lines) + "\n"


def dark_air(instance: Instance, plane: NDArray[np.int32]) -> NDArray[np.int32]:
    """Invert a plane [H, W] of a MONOCHROME1 image, so that air is dark."""
    low, high = instance.legal
    return low + high - plane if instance.inverted else plane


def targets_of(file: Source, instance: Instance) -> Iterator[tuple[Target, NDArray[np.int32]]]:
    """Yield the frames of an instance, each with its plane int32 [H, W] with dark air."""
    frames, rows, columns = instance.planes.shape
    uid = str(instance.dataset.get("SOPInstanceUID") or "") or file.relative.as_posix()
    for number, plane in enumerate(instance.planes, start=1):
        yield (
            Target(file.relative.as_posix(), uid, number, frames, (rows, columns)),
            dark_air(instance, plane),
        )


class Writer(Protocol):
    """Writes slices; `coverslip_training.records.ShardWriter` is one."""

    written: dict[str, int]
    """Number of slices written to each split."""

    def write(self, split: str, item: Slice) -> None:
        """Write a slice to a split."""
        ...


class Collector:
    """Writes annotated slices and reports the others.

    Parameters
    ----------
    writer : Writer
    sources : sequence of AnnotationSource
    key : bytes
    shares : mapping
        See `split_of`.
    table : PatientTable, optional
        Names the patient in place of Patient ID.
    """

    def __init__(
        self,
        writer: Writer,
        sources: Sequence[AnnotationSource],
        key: bytes,
        shares: Mapping[str, float],
        table: PatientTable | None = None,
    ) -> None:
        self._writer = writer
        self._sources = sources
        self._key = key
        self._shares = shares
        self._table = table
        self._names: set[str] = set()
        self.report = Report({split: Counter() for split in writer.written})

    def _skip(self, file: Source, frame: int | None, code: str, message: str) -> None:
        self.report.skipped.append(Skipped(file.relative.as_posix(), frame, code, message))

    def add(self, file: Source) -> None:
        """Write the annotated frames of a file."""
        try:
            instance = read_instance(file.path)
        except CoverslipError as error:
            self._skip(file, None, error.code, str(error))
            return
        for target, plane in targets_of(file, instance):
            frame = target.frame if target.frames > 1 else None
            try:
                mask = read_annotation(self._sources, target)
            except CoverslipError as error:
                self._skip(file, frame, error.code, str(error))
                continue
            if mask is None:
                self._skip(file, frame, NO_ANNOTATION, "it has no annotation")
            elif target.name in self._names:
                message = "an image with the same SOP Instance UID was written before"
                self._skip(file, frame, DUPLICATE, message)
            elif patient := self._patient(file, instance):
                self._write(patient, instance, target, plane, mask)
            else:
                reason = (
                    "the table does not name its patient"
                    if self._table
                    else "it has no Patient ID; give a table that names its patient"
                )
                message = f"{reason}: without it, one patient could be in two splits"
                self._skip(file, frame, NO_PATIENT, message)

    def _patient(self, file: Source, instance: Instance) -> str:
        return self._table.patient(file.path) if self._table else header_patient(instance)

    def _write(
        self, patient: str, instance: Instance, target: Target, plane: NDArray[np.int32], mask: Mask
    ) -> None:
        from coverslip_training.records import Slice

        split = (self._table.split(patient) if self._table else None) or split_of(
            self._key, patient, self._shares
        )

        def header(keyword: str) -> str:
            return str(instance.dataset.get(keyword) or "")

        item = Slice(
            target.name,
            pseudonym(self._key, patient),
            header("Modality"),
            plane,
            mask,
            header("BodyPartExamined"),
            f"{header('Manufacturer')} {header('ManufacturerModelName')}".strip(),
        )
        self._writer.write(split, item)
        self._names.add(target.name)
        self.report.count(split, item.modality, item.patient)

    def finish(self) -> Report:
        """Complete the report with the annotations that were not used."""
        self.report.unused = [name for source in self._sources for name in source.unused()]
        return self.report


def split_off_segmentations(files: Sequence[Source]) -> tuple[list[Source], list[Path]]:
    """Separate files that may be images from DICOM segmentations."""
    images, segmentations = [], []
    for file in files:
        try:
            segmentation = is_seg(
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
            segmentation = False  # read_instance reports what is wrong with the file
        if segmentation:
            segmentations.append(file.path)
        else:
            images.append(file)
    return images, segmentations
