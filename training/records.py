"""Slices and their 1-bit label masks to TFRecord in Model Garden's instance-mask format, and back."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

SHARDS = 4
BODY = 1
"""Class of the one kind of object; 0 is background."""


@dataclass(frozen=True)
class Slice:
    """One labelled slice.

    Attributes
    ----------
    name : str
        The slice's file name in its data set.
    patient, modality : str
    pixels : int32 [H, W]
        Stored values.
    label : uint8 [H, W]
        1 = body.
    """

    name: str
    patient: str
    modality: str
    pixels: NDArray[np.int32]
    label: NDArray[np.uint8]


def read_slices(data: Path, split: str) -> Iterator[Slice]:
    """Slices of one split of a folder with ``slices.csv``, ``slices/`` and ``labels/``.

    Raises
    ------
    ValueError
        A label has another size than its slice, or a patient is in more than one split.
    """
    with (data / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    elsewhere = {row["patient_key"] for row in rows if row["split"] != split}
    for row in (row for row in rows if row["split"] == split):
        if row["patient_key"] in elsewhere:
            raise ValueError(f"{row['file']}: its patient is in more than one split; split by patient")
        pixels = pydicom.dcmread(data / row["file"]).pixel_array.astype(np.int32)
        with Image.open(data / row["label"]) as image:
            label = (np.asarray(image) > 0).astype(np.uint8)
        if label.shape != pixels.shape:
            raise ValueError(f"{row['label']} is {label.shape}, its slice is {pixels.shape}")
        yield Slice(row["file"], row["patient_key"], row["modality"], pixels, label)


def png(plane: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A plane [H, W] as grey PNG, 8 or 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


def bounds(label: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """First row, first column, one past the last row and column of the body in a label [H, W] that is not empty."""
    rows, columns = np.flatnonzero(label.any(axis=1)), np.flatnonzero(label.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def to_example(item: Slice) -> tf.train.Example:
    """One instance per slice: the body with all its parts, so that an arm beside the trunk cannot be lost on its own.

    The mask's PNG holds 0 and 1 (with 0 and 255 Model Garden's mask loss runs off to minus thousands). Pixels are a 16-bit PNG; the
    value of its 0 is in ``image/offset``.
    """
    height, width = item.label.shape
    top, left, bottom, right = bounds(item.label)
    offset = int(item.pixels.min())
    stored = np.clip(item.pixels.astype(np.int64) - offset, 0, 65535).astype(np.uint16)

    def text(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def whole(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def real(*values: float) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    feature = {
        "image/encoded": text(png(stored)),
        "image/offset": whole(offset),
        "image/height": whole(height),
        "image/width": whole(width),
        "image/source_id": text(item.name.encode()),
        "image/patient": text(item.patient.encode()),
        "image/modality": text(item.modality.encode()),
        "image/object/bbox/ymin": real(top / height),
        "image/object/bbox/xmin": real(left / width),
        "image/object/bbox/ymax": real(bottom / height),
        "image/object/bbox/xmax": real(right / width),
        "image/object/class/label": whole(BODY),
        "image/object/area": real(float(item.label.sum())),
        "image/object/is_crowd": whole(0),
        "image/object/mask": text(png(item.label)),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def from_example(serialized: bytes) -> Slice:
    """The slice in a serialized example that `to_example` made."""
    feature = tf.train.Example.FromString(serialized).features.feature

    def text(key: str) -> bytes:
        value: bytes = feature[key].bytes_list.value[0]
        return value

    with Image.open(io.BytesIO(text("image/encoded"))) as image:
        pixels = np.asarray(image).astype(np.int32) + np.int32(feature["image/offset"].int64_list.value[0])
    with Image.open(io.BytesIO(text("image/object/mask"))) as image:
        label = np.asarray(image).astype(np.uint8)
    names = [text(f"image/{key}").decode() for key in ("source_id", "patient", "modality")]
    return Slice(names[0], names[1], names[2], pixels, label)


def make_records(data: Path, out: Path, splits: tuple[str, ...] = ("train", "val")) -> dict[str, int]:
    """Write ``out/<split>-NNNNN-of-NNNNN.tfrecord``; slices without body are left out.

    Returns
    -------
    dict
        Slices written for each split.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = {}
    for split in splits:
        writers = [tf.io.TFRecordWriter(str(out / f"{split}-{shard:05d}-of-{SHARDS:05d}.tfrecord")) for shard in range(SHARDS)]
        kept = (item for item in read_slices(data, split) if item.label.any())
        written[split] = 0
        for item in kept:
            writers[written[split] % SHARDS].write(to_example(item).SerializeToString())
            written[split] += 1
        for writer in writers:
            writer.close()
    return written


def read_records(folder: Path, split: str) -> list[Slice]:
    """All slices of a split, in the records' order.

    Raises
    ------
    FileNotFoundError
        There are no records of that split.
    """
    paths = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"no {split}-*.tfrecord in {folder}; make them with make_records")
    return [from_example(raw) for raw in tf.data.TFRecordDataset(paths).as_numpy_iterator()]
