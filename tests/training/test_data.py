"""From DICOM files and annotations to records, split by patient."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

tf = pytest.importorskip("tensorflow")
decoders = pytest.importorskip("official.vision.dataloaders.tf_example_decoder")
pytest.importorskip("highdicom")

from pydicom.data import get_testdata_file  # noqa: E402

from coverslip.cli.batch import Source  # noqa: E402
from coverslip.errors import CoverslipError, OutputExistsError  # noqa: E402
from coverslip_training import data  # noqa: E402
from coverslip_training.annotations import Mask, Target, slice_name  # noqa: E402
from coverslip_training.collector import Collector  # noqa: E402
from coverslip_training.errors import TrainingTableError  # noqa: E402
from coverslip_training.patients import PatientTable, pseudonym, read_key, split_of  # noqa: E402
from coverslip_training.records import Slice, read_records  # noqa: E402
from tests.training.images import HEIGHT, WIDTH, body, write_image, write_seg  # noqa: E402

patients = st.lists(st.text(min_size=1), min_size=1, max_size=60)
keys = st.binary(min_size=16, max_size=32)
shares = st.sampled_from([{"val": 0.15}, {"val": 0.2, "test": 0.3}, {}, {"val": 0.999}])


def make(*words: object, code: int = 0) -> None:
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    assert data.run(parser.parse_args([str(word) for word in words])) == code


def report(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    return content


def write_mask(path: Path, mask: Mask) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(bool)).save(path)


@given(patients, keys, shares)
def test_a_patient_is_in_one_split_in_any_order_and_company(
    names: list[str], key: bytes, wanted: dict[str, float]
) -> None:
    splits: dict[str, str] = {}
    for name in names + names[::-1]:
        split = split_of(key, name, wanted)
        assert split in ("train", *wanted)
        assert splits.setdefault(name, split) == split


def test_split_and_pseudonym_are_those_of_earlier_versions() -> None:
    # printf "split P1" | openssl dgst -sha256 -mac HMAC -macopt hexkey:00...00 gives d96c5e3e...,
    # which is 0.8493 of the way to ffffffff; "patient P1" gives 39c81cdaa75f789e...
    key = bytes(32)
    assert pseudonym(key, "P1") == "39c81cdaa75f789e"
    assert split_of(key, "P1", {"val": 0.84}) == "train"
    assert split_of(key, "P1", {"val": 0.85}) == "val"
    assert split_of(key, "P1", {"val": 0.5, "test": 0.35}) == "test"


@given(keys)
def test_the_shares_are_about_what_was_asked_for(key: bytes) -> None:
    splits = [
        split_of(key, f"patient {number}", {"val": 0.2, "test": 0.1}) for number in range(600)
    ]
    assert 70 < splits.count("val") < 175 and 25 < splits.count("test") < 100


@given(st.sets(st.text(), min_size=2, max_size=2), keys)
def test_a_pseudonym_tells_patients_apart_and_hangs_on_the_key(two: set[str], key: bytes) -> None:
    one, other = two
    assert pseudonym(key, one) != pseudonym(key, other)
    assert pseudonym(key, one) != pseudonym(key + b"x", one)
    assert len(one) < 5 or one not in pseudonym(key, one)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = read_key(tmp_path / "key")
    assert len(key) == 32 and read_key(tmp_path / "key") == key
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "key").write_text("not a key")
    with pytest.raises(TrainingTableError, match="holds no key"):
        read_key(tmp_path / "key")


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["CT", "MR"])), min_size=1, max_size=20),
    keys,
)
@settings(max_examples=20, deadline=None)
def test_no_patient_is_in_two_splits_of_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]], key: bytes
) -> None:
    """Through `Collector`, with files of several patients in any order."""

    class Kept:
        def __init__(self) -> None:
            self.written = {"train": 0, "val": 0}
            self.patients: dict[str, set[str]] = {"train": set(), "val": set()}

        def write(self, split: str, item: Slice) -> None:
            self.written[split] += 1
            self.patients[split].add(item.patient)

    class Everything:
        def has(self, target: Target) -> bool:
            return True

        def read(self, target: Target) -> Mask:
            return np.ones(target.shape, np.uint8)

        def unused(self) -> list[str]:
            return []

    folder = tmp_path_factory.mktemp("patients")
    kept = Kept()
    collector = Collector(kept, [Everything()], key, {"val": 0.5})
    for number, (patient, modality) in enumerate(rows):
        path = folder / f"{number}.dcm"
        write_image(path, [np.ones((8, 8), np.uint8)], patient=f"P{patient}", Modality=modality)
        collector.add(Source(path, path.relative_to(folder)))
    made = collector.finish()
    assert not kept.patients["train"] & kept.patients["val"]
    assert (
        sum(kept.written.values())
        == len(rows)
        == sum(counts.total() for counts in made.written.values())
    )
    everyone = {pseudonym(key, f"\\P{patient}") for patient, _ in rows}
    assert kept.patients["train"] | kept.patients["val"] == everyone


def test_masks_become_records_that_model_garden_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = [body(), body(40, 50, 20)]
    images = [
        write_image(tmp_path / "in" / f"p{k}" / "1.dcm", [mask], patient=f"SECRET-{k}")
        for k, mask in enumerate(masks)
    ]
    for k, mask in enumerate(masks):
        write_mask(tmp_path / "masks" / f"p{k}" / "1.png", mask)
    out = tmp_path / "records"
    make(tmp_path / "in", "--masks", tmp_path / "masks", "--out", out, "--val", 0, "--shards", 2)
    assert sorted(path.name for path in out.glob("*.tfrecord")) == [
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]
    decoder = decoders.TfExampleDecoder(include_mask=True)
    shards = sorted(str(path) for path in out.glob("*.tfrecord"))
    decoded = {}
    for raw in tf.data.TFRecordDataset(shards):
        tensors = decoder.decode(raw)
        decoded[tensors["source_id"].numpy().decode()] = tensors
    for image, mask in zip(images, masks, strict=True):
        tensors = decoded[slice_name(image.SOPInstanceUID)]
        assert np.array_equal(tensors["groundtruth_instance_masks"].numpy()[0], mask)
        assert tensors["image"].shape == (HEIGHT, WIDTH, 3)
    kept = read_records(out, "train")
    assert {item.modality for item in kept} == {"CT"}
    wanted = {slice_name(image.SOPInstanceUID): image.pixel_array for image in images}
    assert all(np.array_equal(item.pixels, wanted[item.name]) for item in kept)
    everything = (
        b"".join(path.read_bytes() for path in out.iterdir()) + capsys.readouterr().out.encode()
    )
    assert b"SECRET" not in everything and b"Invented^" not in everything
    assert images[0].SOPInstanceUID.encode() not in everything


def test_skipped_slices_are_reported_with_their_reason_and_the_rest_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, masks = tmp_path / "in", tmp_path / "masks"
    disc = body()
    good = write_image(files / "good.dcm", [disc])
    write_image(files / "again.dcm", [disc], SOPInstanceUID=good.SOPInstanceUID)
    write_image(files / "without.dcm", [disc])
    write_image(files / "nobody.dcm", [disc], patient="")
    write_image(files / "size.dcm", [disc])
    write_image(files / "empty.dcm", [disc])
    write_image(files / "grey.dcm", [disc])
    write_image(files / "cut.dcm", [disc])
    (files / "cut.dcm").write_bytes((files / "cut.dcm").read_bytes()[:-2000])
    colour = str(get_testdata_file("SC_rgb_small_odd.dcm", download=False))
    shutil.copy(colour, files / "colour.dcm")
    (files / "notes.txt").write_text("no DICOM")
    for name in ("good", "nobody", "cut", "colour", "lost"):
        write_mask(masks / f"{name}.png", disc)
    write_mask(masks / f"{good.SOPInstanceUID}.png", disc)
    (masks / "good.png").unlink()
    write_mask(masks / "size.png", disc[1:])
    write_mask(masks / "empty.png", np.zeros_like(disc))
    Image.fromarray(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)).save(
        masks / "grey.png"
    )
    out = tmp_path / "records"
    make(files, "--masks", masks, "--out", out, "--val", 0, code=1)
    made = report(out)
    assert made["written"] == {"train": {"CT": 1}} and made["patients"] == {"train": 1}
    reasons = {item["file"]: item["code"] for item in made["items"]}
    assert reasons == {
        "good.dcm": "duplicate",
        "without.dcm": "no-annotation",
        "nobody.dcm": "no-patient",
        "size.dcm": "wrong-size",
        "empty.dcm": "empty-mask",
        "grey.dcm": "bad-annotation",
        "cut.dcm": "truncated-file",
        "colour.dcm": "colour-pixels",
        "notes.txt": "not-dicom",
    }
    assert all(item["message"] for item in made["items"])
    # Nothing could ask for these: their images are missing, or cannot be read.
    assert made["unused_annotations"] == ["colour", "cut", "lost"]
    printed = capsys.readouterr().out
    assert printed.startswith((out / "report.txt").read_text())
    assert "wrong-size: size.dcm: the mask is 95 x 112" in printed


def test_files_without_annotation_are_no_failure(tmp_path: Path) -> None:
    write_image(tmp_path / "in/one.dcm", [body()])
    write_image(tmp_path / "in/two.dcm", [body()])
    write_mask(tmp_path / "masks/one.png", body())
    make(tmp_path / "in", "--masks", tmp_path / "masks", "--out", tmp_path / "out", "--val", 0)
    assert report(tmp_path / "out")["skipped"] == {"no-annotation": 1}


def test_frames_and_segmentations_among_the_files(tmp_path: Path) -> None:
    masks = [body(), body(50, 60, 20), body(40, 50, 15)]
    many = write_image(tmp_path / "in/many.dcm", masks)
    write_mask(tmp_path / "masks/many-0001.png", masks[0])
    write_mask(tmp_path / "masks/many-0003.png", masks[2])
    single = write_image(tmp_path / "in/single.dcm", [masks[1]])
    write_seg(tmp_path / "in/seg.dcm", [single], {"body": masks[1][np.newaxis]})
    make(tmp_path / "in", "--masks", tmp_path / "masks", "--out", tmp_path / "out", "--val", 0)
    kept = {item.name: item.label for item in read_records(tmp_path / "out", "train")}
    uid = many.SOPInstanceUID
    wanted = {
        slice_name(uid, 1, 3): masks[0],
        slice_name(uid, 3, 3): masks[2],
        slice_name(single.SOPInstanceUID): masks[1],
    }
    assert kept.keys() == wanted.keys()
    assert all(np.array_equal(kept[name], mask) for name, mask in wanted.items())
    assert [(item["file"], item["frame"]) for item in report(tmp_path / "out")["items"]] == [
        ("many.dcm", 2)
    ]


def test_an_image_with_bright_air_is_inverted(tmp_path: Path) -> None:
    image = write_image(tmp_path / "in/one.dcm", [body()], PhotometricInterpretation="MONOCHROME1")
    write_mask(tmp_path / "masks/one.png", body())
    make(tmp_path / "in", "--masks", tmp_path / "masks", "--out", tmp_path / "out", "--val", 0)
    (item,) = read_records(tmp_path / "out", "train")
    assert np.array_equal(item.pixels, 65535 - image.pixel_array.astype(int))


def write_table(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "patient", "split"])
        table.writerows(rows)
    return path


def test_a_table_says_whose_a_file_is_and_where_it_goes(tmp_path: Path) -> None:
    for name in "abc":
        write_image(tmp_path / f"in/{name}.dcm", [body()], patient="")
        write_mask(tmp_path / f"masks/{name}.png", body())
    table = write_table(
        tmp_path / "table.csv", [["in/a.dcm", "A", "train"], ["in/b.dcm", "B", "val"]]
    )
    words = [
        tmp_path / "in",
        "--masks",
        tmp_path / "masks",
        "--table",
        table,
        "--split-column",
        "split",
    ]
    make(*words, "--out", tmp_path / "out", code=1)
    assert report(tmp_path / "out")["written"] == {"train": {"CT": 1}, "val": {"CT": 1}}
    assert report(tmp_path / "out")["skipped"] == {"no-patient": 1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", "A", "train"], ["b", "A", "val"]], "line 3: its patient is in another split"),
        ([["a", "A", "dev"]], "'dev' is not a split"),
        ([], "no column"),
    ],
)
def test_a_table_with_bad_splits_or_no_rows_is_refused(
    tmp_path: Path, rows: list[list[str]], message: str
) -> None:
    with pytest.raises(TrainingTableError, match=message):
        PatientTable(write_table(tmp_path / "table.csv", rows), "file", "patient", "split")


def test_a_table_without_the_column_or_not_in_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingTableError, match="no column 'person'"):
        PatientTable(write_table(tmp_path / "table.csv", [["a", "A", "train"]]), "file", "person")
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(TrainingTableError, match="cannot be read as CSV"):
        PatientTable(tmp_path / "table.csv", "file", "patient")


def test_records_of_another_run_are_never_mixed_in(tmp_path: Path) -> None:
    write_image(tmp_path / "in/one.dcm", [body()])
    write_mask(tmp_path / "masks/one.png", body())
    words = [tmp_path / "in", "--masks", tmp_path / "masks", "--out", tmp_path / "out", "--val", 0]
    make(*words, "--shards", 3)
    with pytest.raises(OutputExistsError):
        make(*words, "--shards", 2)
    make(*words, "--shards", 2, "--overwrite")
    assert len(list((tmp_path / "out").glob("*.tfrecord"))) == 2
    assert len(read_records(tmp_path / "out", "train")) == 1


def test_misuse_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "in/one.dcm", [body()])
    make(tmp_path / "nowhere", "--out", tmp_path / "out", code=2)
    make(tmp_path / "in", "--out", tmp_path / "out", "--val", 0.5, "--test", 0.5, code=2)
    printed = capsys.readouterr().err
    assert "nowhere does not exist" in printed
    assert "nothing to train on" in printed
    for words in (
        ["--masks", tmp_path / "no"],
        ["--via", tmp_path / "no.json"],
        ["--seg", tmp_path / "no"],
    ):
        with pytest.raises(CoverslipError, match=r"expected"):
            make(tmp_path / "in", "--out", tmp_path / "out", *words)
