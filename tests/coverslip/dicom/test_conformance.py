"""Every unusual file is read, de-identified, restored and written, or refused with its error."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from coverslip.deidentification.header import deidentify, restore
from coverslip.deidentification.mark import Mark, read_mark, write_mark
from coverslip.dicom.instance import read_instance, write_instance
from coverslip.dicom.raw import leaf
from coverslip.errors import CoverslipError
from coverslip.fake_patient import write_fake_patient
from coverslip.pixels.decoding import NATIVE
from coverslip.record import Record, decode, encode

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

LOSSY = {
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
}
REWRITTEN = NATIVE | {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"}


def expected_refusal(row: dict[str, str]) -> str | None:
    """The code that a file of this description must be refused with; None where it must be read."""
    if "too_short" in row["file"]:
        return "truncated-file"
    if "no 'Pixel Data'" in row["decode_note"]:
        return "not-an-image"
    if row["bits_allocated"] in ("32", "64") and row["samples_per_pixel"] == "1":
        return "float-pixels"
    if row["samples_per_pixel"] == "3" or row["photometric"].startswith("PALETTE"):
        return "colour-pixels"
    if row["bits_allocated"] == "1":
        return "binary-pixels"
    return "lossy-source" if row["transfer_syntax"] in LOSSY else None


def handle(row: dict[str, str], folder: Path, target: Path) -> None:
    """Fail unless one file is handled as its description says."""
    path = folder / row["file"]
    refusal = expected_refusal(row)
    if refusal is not None:
        with pytest.raises(CoverslipError) as caught:
            read_instance(path)
        assert caught.value.code == refusal
        return
    instance = read_instance(path)
    assert not row["min"] or (instance.planes.min(), instance.planes.max()) == (
        int(row["min"]),
        int(row["max"]),
    )
    write_fake_patient(instance.dataset, seed=len(path.name))
    planes = instance.planes.copy()
    planes[:, ::7, ::5] += np.where(planes[:, ::7, ::5] >= instance.legal[1], -1, 1)
    clean, record, dropped = deidentify(instance.dataset, bytes(32), allow_burned_in=True)
    write_mark(clean, Mark(1, "default", 8.0, b"12345678"))
    notes = write_instance(instance.with_dataset(clean), planes, target)
    stego = read_instance(target)
    assert np.array_equal(stego.planes, planes) and np.array_equal(
        dcmread(target).pixel_array.reshape(planes.shape), planes
    )
    kept = stego.transfer_syntax == instance.transfer_syntax
    assert kept == (instance.transfer_syntax in REWRITTEN) and kept != bool(notes)
    assert read_mark(stego.dataset) is not None
    check_restored(
        instance.dataset,
        restore(stego.dataset, decode(encode(record))),
        record,
        {each.path for each in dropped},
    )


def check_restored(original: Dataset, restored: Dataset, record: Record, lost: set[str]) -> None:
    for element in record.level.elements:
        assert not isinstance(element.value, bytes) or leaf(restored, element.tag) == element
    expected = [
        e for e in original if str(e.tag) not in lost and e.tag.group != 0x7FE0 and e.tag.element
    ]
    assert [e.tag for e in expected if restored.get(e.tag) != e] == []


def test_every_conformance_file_is_handled_as_its_description_says(
    shared_data: Path, tmp_path: Path
) -> None:
    with (shared_data / "conformance.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 90
    assert sum(bool(row["min"]) for row in rows) > 50
    wrong = {}
    for number, row in enumerate(rows):
        try:
            handle(row, shared_data, tmp_path / f"{number}.dcm")
        except (AssertionError, CoverslipError, pytest.fail.Exception) as error:
            wrong[row["file"]] = str(error)[:200]
    assert wrong == {}


@pytest.mark.parametrize("number", range(0, 400, 40))
def test_identities_of_real_slices_come_back(shared_data: Path, number: int) -> None:
    path = sorted((shared_data / "slices").glob("*.dcm"))[number]
    ds = dcmread(path, stop_before_pixels=True)
    write_fake_patient(ds, number)
    clean, record, dropped = deidentify(ds, bytes(32))
    restored = restore(clean, decode(encode(record)))
    lost = {each.path for each in dropped}
    assert len(record) >= 40
    assert [
        e.tag
        for e in ds
        if str(e.tag) not in lost and not e.tag.is_private and restored.get(e.tag) != e
    ] == []
