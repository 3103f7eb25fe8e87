"""Records in Model Garden's format, split by patient."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow")
decoders = pytest.importorskip("official.vision.dataloaders.tf_example_decoder")

from coverslip_training.records import (  # noqa: E402
    ShardWriter,
    Slice,
    bounds,
    from_example,
    make_records,
    read_records,
    read_slices,
    to_example,
)
from tests.training.slices import make_slice, write_dicom  # noqa: E402


def write_data(folder: Path, rows: list[tuple[Slice, str]]) -> None:
    """A data folder with these slices, each of the split that stands beside it."""
    with (folder / "slices.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "split", "modality", "patient_key"])
        for item, split in rows:
            table.writerow(
                [item.name, item.name.replace(".dcm", ".png"), split, item.modality, item.patient]
            )
            write_dicom(folder / item.name, item.pixels)
            Image.fromarray(item.label.astype(bool)).save(
                folder / item.name.replace(".dcm", ".png")
            )


@pytest.mark.parametrize("lowest", [-3024, 0, 30000])
def test_a_slice_comes_back(lowest: int) -> None:
    item = make_slice("a.dcm", "P1", lowest=lowest)
    back = from_example(to_example(item).SerializeToString())
    assert np.array_equal(back.pixels, item.pixels) and np.array_equal(back.label, item.label)
    assert (back.name, back.patient, back.modality) == (item.name, item.patient, item.modality)


def test_model_garden_reads_the_masks() -> None:
    item = make_slice("a.dcm", "P1")
    decoded = decoders.TfExampleDecoder(include_mask=True).decode(
        to_example(item).SerializeToString()
    )
    assert decoded["image"].shape == (*item.label.shape, 3)
    inside, outside = (
        decoded["image"].numpy()[item.label == 1],
        decoded["image"].numpy()[item.label == 0],
    )
    assert inside.mean() > outside.mean() + 100
    assert np.array_equal(decoded["groundtruth_instance_masks"].numpy()[0], item.label)
    height, width = item.label.shape
    assert np.allclose(
        decoded["groundtruth_boxes"][0] * [height, width, height, width], bounds(item.label)
    )
    assert decoded["groundtruth_classes"].numpy().tolist() == [1]


def test_nothing_is_left_of_shards_that_were_not_finished(tmp_path: Path) -> None:
    def stop_half_way() -> None:
        with ShardWriter(tmp_path, ["train"]) as writer:
            writer.write("train", make_slice("a.dcm", "P1"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_half_way()
    assert not list(tmp_path.iterdir())


def test_bounds_are_tight() -> None:
    label = np.zeros((9, 8), np.uint8)
    label[2:5, 3:7] = 1
    assert bounds(label) == (2, 3, 5, 7)


def test_records_hold_each_split(tmp_path: Path) -> None:
    empty = make_slice("empty.dcm", "P1")
    empty.label[:] = 0
    kept = [make_slice(f"{k}.dcm", f"P{k}", seed=k) for k in range(3)]
    write_data(
        tmp_path, [(kept[0], "train"), (kept[1], "train"), (kept[2], "val"), (empty, "train")]
    )
    assert make_records(tmp_path, tmp_path / "records") == {"train": 2, "val": 1}
    assert sorted(item.name for item in read_records(tmp_path / "records", "train")) == [
        "0.dcm",
        "1.dcm",
    ]
    with pytest.raises(FileNotFoundError, match="make them"):
        read_records(tmp_path, "train")


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    write_data(tmp_path, [(make_slice("0.dcm", "P"), "train"), (make_slice("1.dcm", "P"), "val")])
    with pytest.raises(ValueError, match="more than one split"):
        list(read_slices(tmp_path, "val"))
