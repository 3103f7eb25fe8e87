"""Masks from PNG, VIA and DICOM SEG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("pycocotools")
pytest.importorskip("highdicom")

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from coverslip_training.annotations import (
    AnnotationSource,
    Mask,
    MaskFolder,
    Target,
    read_annotation,
    slice_name,
)
from coverslip_training.errors import (
    AnnotationError,
    AnnotationSizeError,
    EmptyMaskError,
    RejectedSliceError,
    SeveralAnnotationsError,
)
from coverslip_training.segmentations import SegFiles, is_seg
from coverslip_training.via import ViaFile, draw_region, draw_regions
from tests.training.images import HEIGHT, WIDTH, body, make_enhanced, write_image, write_seg

SIZE = (20, 30)


def target(
    path: str = "a/one.dcm",
    uid: str = "1.2.3",
    frame: int = 1,
    frames: int = 1,
    shape: tuple[int, int] = SIZE,
) -> Target:
    return Target(path, uid, frame, frames, shape)


def read(sources: Sequence[AnnotationSource], image: Target) -> Mask:
    """The mask of an image that is annotated."""
    mask = read_annotation(sources, image)
    assert mask is not None
    return mask


def polygon(*corners: tuple[float, float]) -> dict[str, Any]:
    return {
        "name": "polygon",
        "all_points_x": [x for x, _ in corners],
        "all_points_y": [y for _, y in corners],
    }


def write_via(path: Path, entries: Sequence[dict[str, Any]], project: bool = True) -> Path:
    metadata = {
        f"{entry['filename']}{number}": {"size": number, **entry}
        for number, entry in enumerate(entries)
    }
    path.write_text(
        json.dumps(
            {"_via_settings": {}, "_via_img_metadata": metadata, "_via_attributes": {}}
            if project
            else metadata
        )
    )
    return path


SQUARE = {"shape_attributes": polygon((5, 5), (15, 5), (15, 15), (5, 15)), "region_attributes": {}}


def test_a_rectangle_and_a_polygon_of_the_same_corners_are_the_same_pixels() -> None:
    expected = np.zeros(SIZE, bool)
    expected[3:7, 2:5] = True
    assert np.array_equal(
        draw_region({"name": "rect", "x": 2, "y": 3, "width": 3, "height": 4}, SIZE), expected
    )
    assert np.array_equal(draw_region(polygon((2, 3), (5, 3), (5, 7), (2, 7)), SIZE), expected)


def test_circles_and_ellipses_hold_the_centres_inside_them() -> None:
    circle = draw_region({"name": "circle", "cx": 10, "cy": 10, "r": 4}, SIZE)
    assert circle.sum() == pytest.approx(np.pi * 16, rel=0.1)
    assert np.array_equal(circle[:, :20], circle[:, :20][::-1, ::-1])
    lying = draw_region({"name": "ellipse", "cx": 15, "cy": 10, "rx": 8, "ry": 3}, SIZE)
    standing = draw_region(
        {"name": "ellipse", "cx": 15, "cy": 10, "rx": 8, "ry": 3, "theta": np.pi / 2}, SIZE
    )
    assert lying.any(axis=0).sum() == standing.any(axis=1).sum() == 16
    # Clockwise on the screen: a quarter of pi goes down to the right.
    turned = draw_region(
        {"name": "ellipse", "cx": 15, "cy": 10, "rx": 8, "ry": 2, "theta": np.pi / 4}, SIZE
    )
    assert turned[14, 19] and not turned[14, 10]


def test_regions_join_and_holes_are_taken_out() -> None:
    hole = {
        "shape_attributes": polygon((8, 8), (12, 8), (12, 12), (8, 12)),
        "region_attributes": {"kind": "Hole"},
    }
    far = {
        "shape_attributes": {"name": "rect", "x": 20, "y": 2, "width": 5, "height": 5},
        "region_attributes": {},
    }
    mask = draw_regions([hole, SQUARE, far], SIZE)
    assert mask.sum() == 100 - 16 + 25 and not mask[9, 9] and mask[3, 21]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "point", "cx": 1, "cy": 1}, "no area"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "at least 3"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "as many x as y"),
        ({"name": "polygon", "all_points_x": [1, 2, "a"], "all_points_y": [1, 2, 3]}, "no number"),
        ({"name": "circle", "cx": 1, "cy": 1}, "no number for 'r'"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": 0}, "radius of 0"),
        ({"name": "rect", "x": 1, "y": None, "width": 1, "height": 1}, "no number for 'y'"),
        (polygon((1, 1), (200, 1), (200, 15)), "another size"),
        ({}, "no area"),
    ],
)
def test_a_bad_shape_is_refused_with_its_reason(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        draw_region(shape, SIZE)


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
@settings(max_examples=60, deadline=None)
def test_json_of_another_kind_is_not_a_via_file(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match="VIA"):
        ViaFile(path)


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize("regions", [[SQUARE], {"0": SQUARE}])
def test_a_project_and_an_export_of_both_versions_are_read(
    tmp_path: Path, project: bool, regions: Any
) -> None:
    via = ViaFile(
        write_via(tmp_path / "via.json", [{"filename": "a/one.png", "regions": regions}], project)
    )
    assert read([via], target()).sum() == 100
    assert via.unused() == []


def test_images_are_known_by_path_uid_and_digest_and_not_by_file_name_alone(
    tmp_path: Path,
) -> None:
    names = ["a/one.png", "1.2.3.png", f"{slice_name('1.2.3')}.jpg"]
    for name in names:
        via = ViaFile(write_via(tmp_path / "via.json", [{"filename": name, "regions": [SQUARE]}]))
        assert via.has(target()), name
    via = ViaFile(write_via(tmp_path / "via.json", [{"filename": "one.png", "regions": [SQUARE]}]))
    assert not via.has(target()) and via.unused() == ["one"]


def test_frames_have_numbers(tmp_path: Path) -> None:
    via = ViaFile(
        write_via(
            tmp_path / "via.json",
            [{"filename": f"{slice_name('1.2.3', 2, 3)}.png", "regions": [SQUARE]}],
        )
    )
    assert [via.has(target(frame=frame, frames=3)) for frame in (1, 2, 3)] == [False, True, False]
    (tmp_path / "a").mkdir()
    Image.fromarray(np.ones(SIZE, bool)).save(tmp_path / "a/one-0003.png")
    masks = MaskFolder(tmp_path)
    assert [masks.has(target(frame=frame, frames=3)) for frame in (1, 2, 3)] == [False, False, True]


def test_images_given_twice_rejected_or_without_regions(tmp_path: Path) -> None:
    one = {"filename": "a/one.png", "regions": [SQUARE]}
    with pytest.raises(SeveralAnnotationsError):
        ViaFile(write_via(tmp_path / "via.json", [one, one])).read(target())
    with pytest.raises(RejectedSliceError):
        ViaFile(write_via(tmp_path / "via.json", [{**one, "file_attributes": {"use": "no"}}])).read(
            target()
        )
    via = ViaFile(write_via(tmp_path / "via.json", [{"filename": "a/one.png", "regions": []}]))
    assert read_annotation([via], target()) is None


def test_two_sources_of_one_image_are_too_many(tmp_path: Path) -> None:
    via = ViaFile(
        write_via(tmp_path / "via.json", [{"filename": "a/one.png", "regions": [SQUARE]}])
    )
    with pytest.raises(SeveralAnnotationsError, match="2 sources"):
        read_annotation([via, via], target())


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
def test_a_mask_of_one_value_is_read(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    plane = np.zeros(SIZE, np.uint16)
    plane[2:5, 3:9] = 7
    image = (
        Image.fromarray(plane > 0)
        if mode == "1"
        else Image.fromarray(plane.astype(np.uint8 if mode == "L" else np.uint16))
    )
    image.save(tmp_path / "a/one.png")
    assert np.array_equal(read([MaskFolder(tmp_path)], target()), plane > 0)


def test_a_file_that_is_not_a_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a/one.png"

    def refused(error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            read_annotation([MaskFolder(tmp_path)], target())

    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(SIZE).astype(np.uint8)).save(path)
    refused(AnnotationError, "values besides 0")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    refused(AnnotationError, "in colour")
    path.write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    refused(AnnotationError, "cannot be read as a picture")
    Image.fromarray(np.ones((4, 4), bool)).save(path)
    refused(AnnotationSizeError, "4 x 4 where its image is 20 x 30")
    Image.fromarray(np.zeros(SIZE, bool)).save(path)
    refused(EmptyMaskError, "nothing is outlined")
    Image.fromarray(np.ones(SIZE, bool)).save(path)
    Image.fromarray(np.ones(SIZE, bool)).save(tmp_path / "1.2.3.png")
    refused(SeveralAnnotationsError, "keep one")


def of(dataset: Dataset, frame: int = 1) -> Target:
    frames = int(dataset.get("NumberOfFrames") or 1)
    return Target("x.dcm", dataset.SOPInstanceUID, frame, frames, (dataset.Rows, dataset.Columns))


@pytest.mark.slow
def test_a_segmentation_of_a_ct_comes_back(tmp_path: Path) -> None:
    image = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    left, right = np.zeros((2, 1, image.Rows, image.Columns), np.uint8)
    left[0, 10:60, 5:50] = 1
    right[0, 40:90, 60:110] = 1
    write_seg(tmp_path / "seg.dcm", [image], {"left": left, "right": right})
    assert is_seg(dcmread(tmp_path / "seg.dcm")) and not is_seg(image)
    both = read([SegFiles([tmp_path / "seg.dcm"])], of(image))
    assert np.array_equal(both, left[0] | right[0])
    assert np.array_equal(read([SegFiles([tmp_path / "seg.dcm"], "left")], of(image)), left[0])
    with pytest.raises(AnnotationError, match="no segment with the given label"):
        read_annotation([SegFiles([tmp_path / "seg.dcm"], "other")], of(image))


def test_a_segmentation_of_a_series_knows_its_slices(tmp_path: Path) -> None:
    masks = [body(), body(40, 50, 20)]
    images = [
        write_image(
            tmp_path / f"{k}.dcm",
            [mask],
            ImagePositionPatient=["0", "0", str(k)],
            InstanceNumber=k + 1,
        )
        for k, mask in enumerate(masks)
    ]
    write_seg(tmp_path / "seg.dcm", images, {"body": np.stack(masks)})
    seg = SegFiles([tmp_path / "seg.dcm"])
    assert np.array_equal(read([seg], of(images[1])), masks[1])
    assert seg.unused() == ["seg.dcm (1 of its images)"]
    assert np.array_equal(read([seg], of(images[0])), masks[0])
    assert seg.unused() == []
    with pytest.raises(AnnotationSizeError):
        seg.read(Target("x.dcm", images[0].SOPInstanceUID, 1, 1, (HEIGHT, WIDTH + 1)))
    assert read_annotation([seg], target()) is None


def test_a_segmentation_of_a_multi_frame_image_knows_its_frames(tmp_path: Path) -> None:
    masks = [body(), body(40, 50, 20), np.zeros_like(body()), body(50, 60, 25)]
    image = make_enhanced(write_image(tmp_path / "many.dcm", masks))
    write_seg(tmp_path / "seg.dcm", [image], {"body": np.stack(masks)})
    seg = SegFiles([tmp_path / "seg.dcm"])
    for number, mask in enumerate(masks, start=1):
        assert np.array_equal(seg.read(of(image, number)), mask), number
    with pytest.raises(EmptyMaskError):
        read_annotation([seg], of(image, 3))


def test_files_that_are_not_segmentations_are_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"nothing")
    image = write_image(tmp_path / "image.dcm", [body()])
    segs = SegFiles([tmp_path / "bad.dcm", tmp_path / "image.dcm"])
    assert [name for name, _ in segs.bad] == ["bad.dcm", "image.dcm"]
    assert not segs.has(of(image))
