"""Proposals, contact sheets, and the way over VIA into the records."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

pytest.importorskip("contourpy")
pytest.importorskip("cv2")
pytest.importorskip("pycocotools")

from coverslip.errors import OutputExistsError
from coverslip_training import annotate, data, sheets
from coverslip_training.annotations import Mask, Target, slice_name
from coverslip_training.contours import TOLERANCE, trace_rings
from coverslip_training.via import ViaFile, draw_regions, via_project, via_regions
from tests.training.images import HEIGHT, WIDTH, body, write_image


def make(*words: object, module: ModuleType = annotate, code: int = 0) -> None:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert module.run(parser.parse_args([str(word) for word in words])) == code


def iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float((a & b).sum() / (a | b).sum())


def smooth_masks() -> st.SearchStrategy[Mask]:
    coarse = arrays(np.float64, (6, 7), elements=st.floats(-1, 1))
    return coarse.map(
        lambda field: (ndimage.zoom(field, 14, order=3) > 0.1).astype(np.uint8)
    ).filter(lambda mask: mask.sum() > 400)


@given(smooth_masks())
@settings(max_examples=60, deadline=None)
def test_polygons_give_the_mask_back(mask: Mask) -> None:
    back = draw_regions(via_regions(trace_rings(mask)), (mask.shape[0], mask.shape[1]))
    assert iou(back, mask) > 0.99
    # What changed sides lies on the edge.
    inner, outer = ndimage.binary_erosion(mask, border_value=1), ndimage.binary_dilation(mask)
    assert (back >= inner).all() and (back <= outer).all()


def test_each_part_and_hole_is_a_ring_of_few_points_near_the_edge() -> None:
    mask = body()
    mask[2:8, 2:9] = 1
    rings = trace_rings(mask)
    assert sorted(ring.part for ring in rings) == ["body", "body", "hole"]
    exact = trace_rings(mask, 0.0)
    assert sum(len(ring.points) for ring in rings) < sum(len(ring.points) for ring in exact)
    for ring, full in zip(rings, exact, strict=True):
        assert 4 <= len(ring.points) <= len(full.points)
        starts, ends = ring.points, np.roll(ring.points, -1, axis=0)
        along = (ends - starts)[np.newaxis]
        share = np.clip(
            ((full.points[:, np.newaxis] - starts) * along).sum(-1) / (along**2).sum(-1), 0, 1
        )
        distance = np.linalg.norm(
            starts + share[..., np.newaxis] * along - full.points[:, np.newaxis], axis=-1
        ).min(axis=1)
        assert distance.max() <= TOLERANCE + 1e-4 < 0.5


def test_a_body_that_reaches_the_frame_comes_back_whole() -> None:
    mask = np.ones((30, 40), np.uint8)
    assert np.array_equal(draw_regions(via_regions(trace_rings(mask)), (30, 40)), mask)
    assert trace_rings(np.zeros_like(mask)) == []


def test_the_project_is_what_via_2_writes_itself() -> None:
    project = via_project([("a.png", 12, trace_rings(body())), ("b.png", 7, [])])
    assert set(project) == {
        "_via_settings",
        "_via_img_metadata",
        "_via_attributes",
        "_via_data_format_version",
        "_via_image_id_list",
    }
    assert (
        project["_via_image_id_list"] == ["a.png12", "b.png7"] == list(project["_via_img_metadata"])
    )
    assert set(project["_via_settings"]) == {"ui", "core", "project"}
    for name, entry in project["_via_img_metadata"].items():
        assert name == f"{entry['filename']}{entry['size']}"
        assert set(entry) == {"filename", "size", "regions", "file_attributes"}
        for region in entry["regions"]:
            assert (
                region["region_attributes"]["part"]
                in project["_via_attributes"]["region"]["part"]["options"]
            )
            shape = region["shape_attributes"]
            assert shape["name"] == "polygon" and len(shape["all_points_x"]) == len(
                shape["all_points_y"]
            )
        assert (
            entry["file_attributes"]["use"] in project["_via_attributes"]["file"]["use"]["options"]
        )


@pytest.fixture
def images(tmp_path: Path) -> list[Dataset]:
    """Three files, one of two frames, of three invented patients."""
    masks = [[body()], [body(45, 60, 25)], [body(50, 50, 30), body(50, 50, 20)]]
    return [
        write_image(tmp_path / f"in/SECRET-{k}.dcm", mask, patient=f"SECRET-{k}")
        for k, mask in enumerate(masks)
    ]


def test_what_was_proposed_comes_back_from_via_into_the_records(
    images: list[Dataset], tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    from coverslip_training.records import read_records

    out = tmp_path / "annotated"
    make(tmp_path / "in", "--out", out, "--masks")
    make(
        tmp_path / "in",
        "--via",
        out / "annotations.json",
        "--out",
        tmp_path / "records",
        "--val",
        0,
        module=data,
    )
    kept = read_records(tmp_path / "records", "train")
    assert len(kept) == 4
    for item in kept:
        with Image.open(out / f"masks/{item.name}.png") as image:
            assert image.mode == "1"
            proposed = np.asarray(image).astype(np.uint8)
        assert iou(item.label, proposed) > 0.99
        # The hole in the body is filled.
        assert iou(item.label, ndimage.binary_fill_holes(item.pixels > 500)) > 0.97


def test_previews_and_sheets_are_of_the_right_size_and_hold_no_identity(
    images: list[Dataset], tmp_path: Path
) -> None:
    out = tmp_path / "annotated"
    make(tmp_path / "in", "--out", out, "--per-page", 3)
    names = [slice_name(images[0].SOPInstanceUID), slice_name(images[2].SOPInstanceUID, 2, 2)]
    for name in names:
        with Image.open(out / f"previews/{name}.png") as image:
            assert image.size == (WIDTH, HEIGHT) and not image.info
    assert (
        len(list((out / "sheets").iterdir())) == 2 and len(list((out / "previews").iterdir())) == 4
    )
    shown = [path for path in out.rglob("*") if path.is_file() and path.name != "index.csv"]
    for path in shown:
        assert (
            "SECRET" not in path.name
            and b"SECRET" not in path.read_bytes()
            and b"Invented" not in path.read_bytes()
        )
    with (out / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["number"], row["file"][-12:], row["frame"]) for row in rows] == [
        ("1", "SECRET-0.dcm", "1"),
        ("2", "SECRET-1.dcm", "1"),
        ("3", "SECRET-2.dcm", "1"),
        ("4", "SECRET-2.dcm", "2"),
    ]
    via = ViaFile(out / "annotations.json")
    assert via.has(Target("x", images[2].SOPInstanceUID, 2, 2, (HEIGHT, WIDTH)))


def test_the_outline_is_drawn_where_the_body_ends(images: list[Dataset], tmp_path: Path) -> None:
    make(tmp_path / "in/SECRET-0.dcm", "--out", tmp_path / "out", "--per-page", 1)
    with Image.open(tmp_path / "out/sheets/sheet-001.png") as image:
        page = np.asarray(image).astype(int)
    yellow = (page[..., 0] > 200) & (page[..., 1] > 150) & (page[..., 2] < 60)
    scale = sheets.CELL / WIDTH
    top = sheets.CAPTION + (sheets.CELL - round(HEIGHT * scale)) / 2
    rows, columns = np.nonzero(yellow)
    radius = np.hypot((rows + 0.5 - top) / scale - 48, (columns + 0.5) / scale - 56)
    assert rows.size > 300 and np.abs(radius - 34).max() < 2


def test_corrections_are_not_overwritten_unasked(images: list[Dataset], tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(tmp_path / "in", "--out", out)
    with pytest.raises(OutputExistsError):
        make(tmp_path / "in", "--out", out)
    make(tmp_path / "in", "--out", out, "--overwrite")


def test_a_bad_file_is_reported_and_skipped(
    images: list[Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = sorted((tmp_path / "in").iterdir())[0].read_bytes()
    (tmp_path / "in/bad.dcm").write_bytes(whole[: len(whole) // 2])
    make(tmp_path / "in", "--out", tmp_path / "out", "--json", code=1)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    summary = lines.pop()["summary"]
    assert [line["status"] for line in lines].count("failed") == 1 and len(lines) == 4
    assert summary["failures"] == {"truncated-file": 1} and summary["done"] == 3
    make(tmp_path / "nowhere", "--out", tmp_path / "out2", code=2)
    make(tmp_path / "in", "--out", tmp_path / "out2", "--model", tmp_path / "m.tflite", code=2)


def test_the_released_network_proposes_too(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from pydicom.data import get_testdata_file

    path = Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)))
    make(path, "--out", tmp_path / "a", "--propose", "network", "--masks")
    make(path, "--out", tmp_path / "b", "--masks")
    (one,), (other,) = (list((tmp_path / name / "masks").iterdir()) for name in "ab")
    assert iou(np.asarray(Image.open(one)), np.asarray(Image.open(other))) > 0.9
