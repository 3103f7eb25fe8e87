"""What an evaluation measures, and the files it writes."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.paths import ROOT

pytest.importorskip("tensorflow")

from coverslip import metrics
from coverslip.dicom.instance import read_instance
from coverslip.scheme.profiles import DEFAULT, ROBUST
from coverslip.scheme.reference import ReferenceEngine
from coverslip_training import drawing, evaluate, figures, report, tables
from coverslip_training.classical import outline
from coverslip_training.errors import TrainingTableError
from coverslip_training.measures import (
    MARGINS,
    PRODUCT_MARGIN,
    Case,
    brightness,
    case_of,
    distance_to,
    measure,
    possible_carriers,
    rim,
    rim_distances,
)
from coverslip_training.records import Slice
from coverslip_training.stability import (
    Alteration,
    Stability,
    embed_arbitrary_bits,
    measure_alteration,
    measure_stability,
    unlabelled_cases,
)
from tests.training.images import body, write_image

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

Mask = NDArray[np.uint8]
COLUMNS = (
    "file",
    "label",
    "split",
    "licence",
    "modality",
    "anatomy",
    "manufacturer",
    "model",
    "patient_key",
)


def head(row: float = 100, side: int = 256) -> Mask:
    """A disc of body with much air around it."""
    rows, columns = np.ogrid[:side, :side]
    return np.asarray(np.hypot(rows - row, columns - side / 2) < 0.25 * side, np.uint8)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A slice with room for a record."""
    write_image(tmp_path / "a.dcm", [head()])
    instance = read_instance(tmp_path / "a.dcm")
    return case_of(
        Slice("a.dcm", "P", "CT", instance.planes[0], head(), "chest", "Invented"), instance
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set: two labelled patients, the second to measure, and two slices without a label."""
    folder = tmp_path / "data"
    rows = []
    for number, (split, row) in enumerate([("train", 100), ("val", 110), ("val", 130)]):
        name, label = f"slices/{number}.dcm", f"labels/{number}.png"
        write_image(folder / name, [head(row)])
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(head(row).astype(bool)).save(folder / label)
        rows.append(
            (
                name,
                label,
                split,
                "CC0",
                ["CT", "CT", "MR"][number],
                "chest",
                "Invented",
                "One",
                f"{split}-{number}",
            )
        )
    write_image(folder / "hard/0.dcm", [head()])
    write_image(folder / "hard/1.dcm", [np.ones((64, 64), np.uint8)])
    hard: list[tuple[str, ...]] = [
        ("file", "why", "modality"),
        ("hard/0.dcm", "easy", "CT"),
        ("hard/1.dcm", "full", "CT"),
    ]
    written: dict[str, list[tuple[str, ...]]] = {
        "slices.csv": [COLUMNS, *rows],
        "hard.csv": hard,
    }
    for name, lines in written.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return folder


def moved(mask: Mask, rows: int) -> Mask:
    """A mask that many pixels lower."""
    return np.roll(mask, rows, axis=0)


def test_a_perfect_outline_needs_no_margin(case: Case) -> None:
    found = measure(case, case.label)
    assert (
        found.iou == 1.0
        and found.needed == 0
        and found.distances.mean == found.distances.p95 == 0.0
    )
    assert not any(found.missed) and not any(found.in_carriers) and found.body_in_carriers == 0
    assert found.background[0] > 0.9 and found.background[-1] < found.background[0]


def test_a_shifted_outline_needs_its_shift(case: Case) -> None:
    mask = moved(case.label, -3)
    found = measure(case, mask)
    assert found.needed == 3 and 0.9 < found.iou < 1.0
    assert found.missed[MARGINS.index(0)] == np.count_nonzero(case.label & (1 - mask))
    assert found.missed[MARGINS.index(2)] > 0 and found.missed[MARGINS.index(3)] == 0
    assert found.distances.hausdorff == pytest.approx(3) and abs(found.distances.signed) < 0.1


def test_the_gate_keeps_bright_body_that_the_outline_missed(case: Case) -> None:
    found = measure(case, moved(case.label, -40))
    assert found.missed[MARGINS.index(PRODUCT_MARGIN)] > 100 and not any(found.in_carriers)


def test_dark_body_that_the_outline_missed_is_counted(case: Case) -> None:
    dark = case.with_pixels(
        np.where(
            case.label > 0, np.median(case.pixels[case.label == 0]).astype(np.int32), case.pixels
        )
    )
    found = measure(dark, moved(case.label, -20))
    assert found.body_in_carriers > 100
    assert found.in_carriers[-1] < found.in_carriers[0]


@pytest.mark.parametrize(("change", "sign"), [(1, 1), (-1, -1)])
def test_a_mask_that_is_too_large_is_outside(change: int, sign: int) -> None:
    rows, columns = np.ogrid[:80, :80]
    label, mask = (
        (np.maximum(abs(rows - 40), abs(columns - 40)) <= reach).astype(np.uint8)
        for reach in (20, 20 + 2 * change)
    )
    found = rim_distances(mask, label)
    assert (
        found.signed * sign == pytest.approx(2.0, abs=0.05) and 2.0 <= found.p95 <= found.hausdorff
    )


def test_nothing_outlined_is_counted_as_such(case: Case) -> None:
    empty = np.zeros_like(case.label)
    found = measure(case, empty)
    assert (
        found.empty
        and found.iou == 0.0
        and found.needed == 256
        and found.missed[-1] == case.label.sum()
    )
    assert found.distances.mean == 256 and found.distances.signed == -256
    assert rim_distances(empty, empty).mean == 0.0


def test_the_edge_of_an_image_is_not_a_rim() -> None:
    assert not rim(np.ones((5, 5), np.uint8)).any()
    assert rim(body())[48].sum() == 4  # in and out of the disc, and of the hole in it


def test_distances_are_those_of_a_square_dilation() -> None:
    mask = np.zeros((5, 5), np.uint8)
    mask[1, 1] = 1
    assert distance_to(mask)[3, 3] == 2 and distance_to(mask)[1, 4] == 3


def test_brightness_is_counted_from_dark_to_the_98th_percentile(case: Case) -> None:
    pixels = np.arange(101, dtype=np.int32).reshape(1, 101)
    plain = replace(case, pixels=pixels, padding=-1)
    assert brightness(plain, pixels == 49) == pytest.approx(0.5)
    assert brightness(plain, pixels < 0) == 0.0
    padded = replace(plain, pixels=np.where(pixels == 0, -2000, pixels), padding=-2000)
    assert brightness(padded, pixels == 1) == 0.0


def test_an_outline_of_bright_body_is_stable_under_the_embedding(
    case: Case, tmp_path: Path
) -> None:
    found = measure_stability(
        case, outline(case.pixels), tmp_path / "a.dcm", 1, ReferenceEngine(outline), tmp_path
    )
    assert (
        not found.refused
        and found.ncc > 0.999
        and found.moved_by_outline < 0.01
        and found.body_altered == 0
    )


def test_an_unstable_outline_is_measured_as_such(case: Case, tmp_path: Path) -> None:
    def nervous(plane: NDArray[np.int32]) -> Mask:
        return case.label if np.array_equal(plane, case.pixels) else moved(case.label, 20)

    found = measure_stability(
        case, case.label, tmp_path / "a.dcm", 1, ReferenceEngine(nervous), tmp_path
    )
    assert 0.5 < found.ncc < 0.9 and found.moved_by_outline > 0.02


def test_a_slice_without_room_is_measured_with_arbitrary_bits(tmp_path: Path) -> None:
    write_image(tmp_path / "small.dcm", [body()])
    instance = read_instance(tmp_path / "small.dcm")
    small = case_of(Slice("small.dcm", "P", "CT", instance.planes[0], body()), instance)
    found = measure_stability(
        small, body(), tmp_path / "small.dcm", 1, ReferenceEngine(outline), tmp_path
    )
    assert found.refused == "no-carriers" and found.ncc > 0.9


def test_the_robust_profile_tries_an_outline_with_its_own_step(case: Case) -> None:
    engine = ReferenceEngine(outline)
    largest = {
        p.name: int(np.abs(embed_arbitrary_bits(case, engine, 1, p) - case.pixels).max())
        for p in (DEFAULT, ROBUST)
    }
    assert 0 < 2 * largest["default"] < largest["robust"]


def test_profiles_are_reported_apart(case: Case) -> None:
    plain = row(case, "a.dcm", case.label, case.label)
    both = replace(plain, robust=Stability("no-carriers", 0.5, 0.25, 0.125, 0))
    assert "embedded_robust" not in figures.all_groups([plain])[0]
    measured = {"groups": figures.all_groups([both])}
    assert measured["groups"][0]["embedded_robust"]["refused"] == {"no-carriers": 1}
    assert "1.00000" in tables.stability_table(measured, ("modality",))
    assert "| 0.50000 | 0.50000 | 1 | 25.00% / 25.00% | 12.50%" in tables.stability_table(
        measured, ("modality",), "embedded_robust"
    )


def test_altered_pixels_are_those_of_the_file(case: Case, tmp_path: Path) -> None:
    dark = measure_alteration(case, tmp_path / "a.dcm", 1, ReferenceEngine(outline), tmp_path)
    assert dark.refused == "" and 0.0 < dark.brightest < 0.1
    none = measure_alteration(
        case,
        tmp_path / "a.dcm",
        1,
        ReferenceEngine(lambda plane: np.zeros(plane.shape, np.uint8)),
        tmp_path,
    )
    assert none == Alteration("no-body")


def test_slices_without_a_label_are_optional(tmp_path: Path) -> None:
    assert not list(unlabelled_cases(tmp_path))


def test_an_evaluation_measures_the_split_beside_the_classical_outline(data: Path) -> None:
    found = evaluate.evaluate(data, "val", ReferenceEngine(lambda plane: moved(outline(plane), 2)))
    by_name = {one["name"]: one for one in found.figures["groups"]}
    assert list(by_name) == [
        "CT",
        "MR",
        "CT chest",
        "MR chest",
        "CT Invented One",
        "MR Invented One",
    ]
    ct = by_name["CT"]
    assert ct["slices"] == ct["patients"] == 1
    assert ct["network"]["iou"]["mean"] < ct["classical"]["iou"]["mean"] <= 1.0
    assert (
        ct["network"]["margin_needed_px"]["worst"]
        >= 2
        > ct["classical"]["margin_needed_px"]["worst"]
    )
    assert found.figures["hard"]["slices"] == 2 and found.figures["hard"]["network"]["dark"] == 1
    assert sum(found.figures["hard"]["network"]["refused"].values()) == 1
    assert (
        found.figures["data"]["train"]["slices"] == 1
        and found.figures["data"]["measured"]["slices"] == 2
    )
    assert len(found.worst) == 2 and json.loads(json.dumps(found.figures)) == found.figures


def test_a_report_holds_the_figures_and_explains_them(data: Path, tmp_path: Path) -> None:
    found = evaluate.evaluate(data, "val", ReferenceEngine(outline))
    report.write_evaluation(found, tmp_path / "out")
    text = (tmp_path / "out/report.md").read_text()
    mean = found.figures["groups"][0]["network"]["iou"]["mean"]
    assert (
        f"| CT | 1 / 1 | network | {mean:.4f} |" in text
        and "0.9146" in text
        and "favour the classical" in text
    )
    with (tmp_path / "out/slices.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == ["slices/1.dcm", "slices/2.dcm"]
    assert float(lines[0]["network_iou"]) == pytest.approx(mean, abs=1e-4)
    assert json.loads((tmp_path / "out/metrics.json").read_text()) == found.figures
    with Image.open(tmp_path / "out/worst.png") as page:
        assert page.width == 2 * drawing.CELL + drawing.GAP


@pytest.mark.parametrize(
    ("split", "sentence"), [("test", "no slice of split 'test'"), ("val", "no slices.csv")]
)
def test_nothing_to_measure_is_an_error(data: Path, split: str, sentence: str) -> None:
    folder = data if split == "test" else data / "slices"
    with pytest.raises(TrainingTableError, match=sentence):
        evaluate.evaluate(folder, split, ReferenceEngine(outline))


def row(case: Case, name: str, network: Mask, classical: Mask) -> figures.LabelledResult:
    """A result whose embedding changed nothing."""
    return figures.LabelledResult(
        name,
        "P",
        "MR",
        "head",
        "One",
        measure(case, network),
        measure(case, classical),
        Stability("", 1.0, 0.0, 0.0, 0),
    )


def test_where_one_outline_fails_alone_is_listed(case: Case) -> None:
    far = moved(case.label, PRODUCT_MARGIN + 4)
    rows = [
        row(case, "a", far, case.label),
        row(case, "b", case.label, far),
        row(case, "c", far, far),
        row(case, "d", case.label, far),
    ]
    missed = figures.comparison(rows)["missed_after_margin"]
    assert (missed["network_only"], missed["classical_only"], missed["both"]) == (
        ["a"],
        ["b", "d"],
        ["c"],
    )
    assert missed["classical_only_where"] == {"MR head": 2}


def test_hard_slices_are_counted_by_what_happened() -> None:
    alterations = [
        Alteration("no-body"),
        Alteration("", 0.1),
        Alteration("", 0.3),
        Alteration("", 0.9),
    ]
    rows = [
        figures.UnlabelledResult(f"{n}", "MR", "dim", one, Alteration("", 0.0))
        for n, one in enumerate(alterations)
    ]
    measured = {"hard": figures.unlabelled_figures(rows)}
    assert measured["hard"]["network"] == {
        "refused": {"no-body": 1},
        "dark": 1,
        "grey": 1,
        "bright": 1,
    }
    assert [line.split(" | ")[0] for line in tables.unlabelled_rows(measured).splitlines()[2:]] == [
        "| 2",
        "| 3",
    ]
    assert len(tables.unlabelled_rows(measured, everything=True).splitlines()) == 6


def test_a_cell_draws_all_lines(case: Case) -> None:
    picture = np.asarray(drawing.draw_slice(case, moved(case.label, -9), moved(case.label, 9), "a"))
    for colour in (drawing.LABEL, drawing.NETWORK, drawing.CLASSICAL):
        assert (picture == colour).all(axis=-1).sum() > 100
    blocks = possible_carriers(case, distance_to(moved(case.label, -9)), PRODUCT_MARGIN)
    yellow = (picture[..., 0].astype(int) - picture[..., 2] > 40) & (
        picture[..., 1].astype(int) - picture[..., 2] > 30
    )
    assert yellow.mean() == pytest.approx(
        blocks.mean() * drawing.CELL / (drawing.CELL + drawing.CAPTION), rel=0.1
    )


def run(words: list[str]) -> int:
    """``coverslip train evaluate``, in this process."""
    from coverslip.cli import main

    return main(["train", "evaluate", *words])


def test_the_page_s_command_measures_the_released_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    page = (ROOT / "docs/training.md").read_text().split("\n## Evaluate\n")[1].split("\n## ")[0]
    (command,) = re.findall(r"^\$ coverslip train evaluate (.*)$", page, re.MULTILINE)
    assert run(command.replace("../shared/data", str(data)).split()) == 0
    assert "## What may carry" in capsys.readouterr().out
    listed = re.findall(r"^\| `([a-z.]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in Path("evaluation").iterdir())
    measured = json.loads(Path("evaluation/metrics.json").read_text())
    assert measured["model"]["name"] == "coverslip.tflite"
    released = (ROOT / "models/coverslip.tflite").read_bytes()
    assert measured["model"]["sha256"] == hashlib.sha256(released).hexdigest()
    assert measured["groups"][0]["network"]["iou"]["mean"] > 0.9


def test_a_folder_without_a_table_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--data", str(tmp_path)]) == 2
    assert "no slices.csv" in capsys.readouterr().err


def test_trained_weights_outline_like_the_model_that_was_exported_from_them(case: Case) -> None:
    pytest.importorskip("official.vision")
    trained = (
        evaluate.open_weights(ROOT / "models/weights.npz").segment(case.pixels[np.newaxis]).mask[0]
    )
    exported = (
        evaluate.open_model(ROOT / "models/coverslip.tflite", 1)
        .segment(case.pixels[np.newaxis])
        .mask[0]
    )
    assert trained.any() and metrics.iou(trained, exported) > 0.95


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--split", "train"], "say nothing about slices that come later"),
        (["--weights", "nowhere.npz"], "no weights at nowhere.npz"),
    ],
)
def test_measuring_the_training_split_or_missing_weights_is_refused(
    data: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--data", str(data), *words]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert not printed.out
