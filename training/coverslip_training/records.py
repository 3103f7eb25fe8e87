"""Writes slices and labels as TFRecord in Model Garden's instance-mask format, and reads them.

A record holds the image twice. Model Garden's own decoder and input pipelines read
``image/encoded``, 8 bits. ``image/stored``, 16 bits, restores the stored values exactly; the
released network is trained on those.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pydicom
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from coverslip_training.classical import grey_without_padding

SHARDS = 4
BODY = 1
"""Class of the only kind of object; 0 is background."""


@dataclass(frozen=True)
class Slice:
    """One labelled slice.

    Attributes
    ----------
    name : str
        File name of the slice in its data set.
    patient, modality : str
    pixels : int32 [H, W]
        Stored values.
    label : uint8 [H, W]
        1 = body.
    anatomy, scanner : str
        From the header, for figures by group; empty if the header does not say.
    """

    name: str
    patient: str
    modality: str
    pixels: NDArray[np.int32]
    label: NDArray[np.uint8]
    anatomy: str = ""
    scanner: str = ""


def read_slices(data: Path, split: str) -> Iterator[Slice]:
    """Read one split of a folder with ``slices.csv``, ``slices/`` and ``labels/``.

    Raises
    ------
    ValueError
        A label has another size than its slice, or a patient is in more than one split.
    """
    with (data / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    other_patients = {row["patient_key"] for row in rows if row["split"] != split}
    for row in (row for row in rows if row["split"] == split):
        if row["patient_key"] in other_patients:
            raise ValueError(
                f"{row['file']}: its patient is in more than one split; split by patient"
            )
        pixels = pydicom.dcmread(data / row["file"]).pixel_array.astype(np.int32)
        with Image.open(data / row["label"]) as image:
            label = (np.asarray(image) > 0).astype(np.uint8)
        if label.shape != pixels.shape:
            raise ValueError(f"{row['label']} is {label.shape}, its slice is {pixels.shape}")
        scanner = f"{row.get('manufacturer', '')} {row.get('model', '')}".strip()
        yield Slice(
            row["file"],
            row["patient_key"],
            row["modality"],
            pixels,
            label,
            row.get("anatomy", ""),
            scanner,
        )


def png(plane: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Encode a plane [H, W] as grey PNG, 8 or 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, "PNG")
    return buffer.getvalue()


def bounds(label: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """First row, first column, and one past the last of each, of a label [H, W] with body."""
    rows, columns = np.flatnonzero(label.any(axis=1)), np.flatnonzero(label.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def to_example(item: Slice) -> tf.train.Example:
    """Convert a slice to an example with one instance.

    The instance is the body with all its parts, so that an arm beside the trunk cannot be lost on
    its own. The mask's PNG holds 0 and 1 (with 0 and 255 Model Garden's mask loss falls to minus
    thousands). Stored values are a 16-bit PNG in ``image/stored``; ``image/offset`` is the value
    that its 0 stands for.
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
        "image/encoded": text(png(grey_without_padding(item.pixels))),
        "image/format": text(b"png"),
        "image/stored": text(png(stored)),
        "image/offset": whole(offset),
        "image/height": whole(height),
        "image/width": whole(width),
        "image/source_id": text(item.name.encode()),
        "image/patient": text(item.patient.encode()),
        "image/modality": text(item.modality.encode()),
        "image/anatomy": text(item.anatomy.encode()),
        "image/scanner": text(item.scanner.encode()),
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
    """Restore the slice from a serialized example of `to_example`."""
    feature = tf.train.Example.FromString(serialized).features.feature

    def text(key: str) -> bytes:
        values = feature[key].bytes_list.value
        return bytes(values[0]) if values else b""

    # Records of 0.1.0 hold only the stored values, in image/encoded.
    with Image.open(io.BytesIO(text("image/stored") or text("image/encoded"))) as image:
        pixels = np.asarray(image).astype(np.int32) + np.int32(
            feature["image/offset"].int64_list.value[0]
        )
    with Image.open(io.BytesIO(text("image/object/mask"))) as image:
        label = np.asarray(image).astype(np.uint8)
    names = [
        text(f"image/{key}").decode()
        for key in ("source_id", "patient", "modality", "anatomy", "scanner")
    ]
    return Slice(names[0], names[1], names[2], pixels, label, names[3], names[4])


class ShardWriter:
    """Writes slices to ``<split>-NNNNN-of-NNNNN.tfrecord``, to the shards of a split in turn.

    The files get their final names when the ``with`` block ends without an error; otherwise all of
    them are deleted.

    Parameters
    ----------
    out : Path
        Output folder, created if it does not exist.
    splits : sequence of str
    shards : int
        Number of files for each split.
    """

    def __init__(self, out: Path, splits: Sequence[str], shards: int = SHARDS) -> None:
        out.mkdir(parents=True, exist_ok=True)
        mark = secrets.token_hex(4)
        names = {
            split: [f"{split}-{shard:05d}-of-{shards:05d}.tfrecord" for shard in range(shards)]
            for split in splits
        }
        self._paths = {
            split: [(out / f".{name}.{mark}.part", out / name) for name in split_names]
            for split, split_names in names.items()
        }
        self._writers = {
            split: [tf.io.TFRecordWriter(str(part)) for part, _ in paths]
            for split, paths in self._paths.items()
        }
        self.written = dict.fromkeys(splits, 0)
        """Number of slices written to each split."""

    def write(self, split: str, item: Slice) -> None:
        """Write a slice whose label is not empty."""
        writers = self._writers[split]
        writers[self.written[split] % len(writers)].write(to_example(item).SerializeToString())
        self.written[split] += 1

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writers in self._writers.values():
            for writer in writers:
                writer.close()
        for part, path in (pair for pairs in self._paths.values() for pair in pairs):
            if kind is None:
                part.replace(path)
            else:
                part.unlink(missing_ok=True)


def make_records(
    data: Path, out: Path, splits: tuple[str, ...] = ("train", "val")
) -> dict[str, int]:
    """Write the slices with body of a folder with ``slices.csv``; see `read_slices`.

    Returns
    -------
    dict
        Number of slices written to each split.
    """
    with ShardWriter(out, splits) as writer:
        for split in splits:
            for item in read_slices(data, split):
                if item.label.any():
                    writer.write(split, item)
    return writer.written


def read_records(folder: Path, split: str) -> list[Slice]:
    """Read all slices of a split, in the records' order.

    Raises
    ------
    FileNotFoundError
        There are no records of the split.
    """
    paths = sorted(str(path) for path in folder.glob(f"{split}-*.tfrecord"))
    if not paths:
        raise FileNotFoundError(f"no {split}-*.tfrecord in {folder}; make them with make_records")
    return [from_example(raw) for raw in tf.data.TFRecordDataset(paths).as_numpy_iterator()]
