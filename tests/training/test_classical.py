"""The outline that needs no network: invented scanners with exact truths, and the real slices."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.paths import ROOT

pytest.importorskip("scipy")

from PIL import Image
from pydicom import dcmread

from coverslip_training.classical import (
    close_mask,
    grey_without_padding,
    open_mask,
    otsu,
    outline,
    without_padding,
)


def disc(row: float, column: float, radius: float, size: int = 256) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:size, :size]
    return np.asarray(np.hypot(rows - row, columns - column) <= radius)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def noisy(plane: NDArray[Any], spread: float, seed: int = 0) -> NDArray[np.int32]:
    noise = np.random.default_rng(seed).normal(0, spread, plane.shape)
    return np.asarray(np.rint(plane + noise), np.int32)


@pytest.mark.parametrize("offset", [-1024, 0, 20000])
def test_a_ct_body_is_found_without_its_table_its_lungs_filled(offset: int) -> None:
    body, arm = disc(110, 130, 70), disc(120, 30, 18)
    plane = np.zeros((256, 256)) + 1000 * (body | arm)
    plane[disc(100, 115, 25)] = 150
    plane[195:198, 40:220] = 1100
    found = outline(noisy(plane, 15) + offset)
    assert found.dtype == np.uint8
    assert iou(found > 0, body | arm) > 0.985


def test_padding_is_neither_air_nor_body() -> None:
    body, seen = disc(128, 128, 60), disc(128, 128, 126)
    plane = noisy(1000.0 * body, 15)
    padded = np.where(seen, plane, -2000).astype(np.int32)
    assert without_padding(padded.astype(np.float32)).min() > -100
    assert iou(outline(padded) > 0, body) > 0.985
    grey = grey_without_padding(padded).astype(int)
    assert abs(grey[0, 0] - grey[20, 128]) < 40


def test_a_dim_body_with_a_bright_middle_is_found_whole() -> None:
    body = disc(128, 128, 90)
    plane = 200.0 * body + 500 * disc(128, 128, 50)
    assert iou(outline(noisy(plane, 5)) > 0, body) > 0.98


@pytest.mark.parametrize("value", [-5, 0, 65535])
def test_nothing_is_found_in_a_constant_image(value: int) -> None:
    assert not outline(np.full((40, 30), value, np.int32)).any()


def test_otsu_parts_two_levels_where_their_variance_between_is_largest() -> None:
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(10, 4, 3000), rng.normal(60, 15, 1000)]).astype(np.float32)

    def between(level: float) -> float:
        below, above = values[values <= level], values[values > level]
        return float(below.size * above.size * (below.mean() - above.mean()) ** 2)

    assert between(otsu(values)) > 0.999 * max(between(level) for level in range(5, 90))


def test_opening_cuts_what_is_thin_but_not_at_the_frame() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:50, 0:30] = True
    mask[35:37, 30:55] = True
    opened = open_mask(mask, 3)
    assert not opened[:, 32:].any()
    assert opened[30:40, 0].all() and opened[25:45, 5:25].all()


def test_closing_bridges_what_is_narrow() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 10:28] = mask[20:40, 31:50] = True
    closed = close_mask(mask, 3)
    assert closed[24:36, 28:31].all() and not closed[:15].any()


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_real_slices_give_the_figures_of_the_training_page(
    shared_data: Path, modality: str
) -> None:
    with (shared_data / "slices.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["split"] == "val" and row["modality"] == modality
        ]
    values = []
    for row in rows:
        with Image.open(shared_data / row["label"]) as image:
            label = np.asarray(image) > 0
        values.append(
            iou(outline(dcmread(shared_data / row["file"]).pixel_array.astype(np.int32)) > 0, label)
        )
    page = (ROOT / "docs/training.md").read_text()
    assert (
        f"| {modality} | {len(values)} | {np.mean(values):.3f} | {np.percentile(values, 5):.3f} |"
        in page
    )
