"""A record as a data set, in the DICOM JSON model, and as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

from coverslip.dicom.raw import put_level
from coverslip.record import Record


def as_dataset(record: Record) -> Dataset:
    """The recorded attributes as a data set.

    If only changes inside a sequence were recorded, its items hold just those, and the items before
    are empty.
    """
    ds = Dataset()
    put_level(ds, record.level, partial=True)
    return ds


def as_json(record: Record) -> dict[str, Any]:
    """The recorded attributes in the DICOM JSON model (PS3.18 annex F)."""
    attributes: dict[str, Any] = as_dataset(record).to_json_dict(suppress_invalid_tags=True)
    return attributes


def as_lines(record: Record) -> list[str]:
    """One line for each recorded attribute, for a person to read."""
    return list(_lines(as_dataset(record)))


def _lines(ds: Dataset, indent: str = "") -> Iterator[str]:
    for element in ds:
        if element.VR != "SQ":
            yield f"{indent}{element.name}: {element.value}"
            continue
        for number, item in enumerate(element.value):
            if len(item):
                yield f"{indent}{element.name} [{number}]"
                yield from _lines(item, indent + "    ")
