"""The model card says what was measured, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

pytest.importorskip("tensorflow")

from coverslip_training import card

MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def released() -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((MODELS / card.METRICS).read_text())
    return figures


@pytest.fixture
def folder(tmp_path: Path, released: dict[str, Any]) -> Path:
    """A model's folder with a short template and the released figures."""
    (tmp_path / card.METRICS).write_text(json.dumps(released))
    (tmp_path / card.TEMPLATE).write_text(
        "# Card\n\n$margin pixels, $$5\n\n${outline_by_modality}\n"
    )
    return tmp_path


def test_the_released_card_holds_the_figures_of_metrics_json(released: dict[str, Any]) -> None:
    assert (MODELS / card.CARD).read_text() == card.fill(
        (MODELS / card.TEMPLATE).read_text(), released
    )


def test_the_released_figures_are_those_of_the_released_model(released: dict[str, Any]) -> None:
    model = released["model"]
    assert model["form"] == "tflite"
    assert model["sha256"] == hashlib.sha256((MODELS / "coverslip.tflite").read_bytes()).hexdigest()
    assert model["sha256"] == json.loads((MODELS / "model.json").read_text())["tflite_sha256"]


def test_the_figures_are_of_the_slices_of_val_and_of_no_others(released: dict[str, Any]) -> None:
    assert released["split"] == "val"
    by_modality = [group for group in released["groups"] if group["kind"] == "modality"]
    measured = {
        group["name"]: {"slices": group["slices"], "patients": group["patients"]}
        for group in by_modality
        if "without" not in group["name"]
    }
    assert measured == released["data"]["measured"]["by_modality"]


def test_the_template_types_no_result_by_hand() -> None:
    # IoUs and correlations have decimals; the versions of other papers and margins are places.
    words = (MODELS / card.TEMPLATE).read_text().replace("NCC of 0.83 to 1.00", "")
    assert (
        not re.findall(r"\b0\.9\d+", words) and "$outline_by_modality" in words and "$hard" in words
    )


def test_every_part_can_be_named(released: dict[str, Any]) -> None:
    filled = card.fill("\n".join(f"${{{name}}}" for name in card.PARTS), released)
    assert not re.search(r"\$\{?[a-z]", filled)
    assert "None" not in filled
    assert len(filled.splitlines()) > len(card.PARTS)


def test_a_card_is_filled_from_its_folder(
    folder: Path, released: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert card.main([str(folder)]) == 0
    written = (folder / card.CARD).read_text()
    assert capsys.readouterr().out.strip() == str(folder / card.CARD)
    assert written.startswith(f"# Card\n\n{released['margin_px']} pixels, $5\n")
    first = released["groups"][0]
    assert f"{first['network']['iou']['mean']:.4f}" in written


def test_other_figures_make_another_card(folder: Path, released: dict[str, Any]) -> None:
    before = card.write_card(folder).read_text()
    changed = json.loads(json.dumps(released))
    changed["groups"][0]["network"]["iou"]["mean"] = 0.1234
    (folder / card.METRICS).write_text(json.dumps(changed))
    after = card.write_card(folder).read_text()
    assert "0.1234" in after and "0.1234" not in before


def test_a_name_that_is_no_part_is_refused(released: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="nonsense"):
        card.fill("$nonsense", released)


def test_a_folder_without_figures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card.main([str(tmp_path)]) == 2
    assert "no metrics.json" in capsys.readouterr().err and not (tmp_path / card.CARD).exists()


def test_the_least_margin_is_clean_from_there_on() -> None:
    def kind(*pixels: int) -> dict[str, Any]:
        margins = {
            str(margin): {"body_pixels_in_carriers": count}
            for margin, count in zip((0, 4, 8, 16), pixels, strict=True)
        }
        return {"kind": "modality", "name": "CT", "network": {"by_margin": margins}}

    def least(*kinds: dict[str, Any]) -> int | None:
        return card.least_margin({"groups": list(kinds)})

    assert least(kind(9, 0, 0, 0)) == 4
    assert least(kind(9, 0, 0, 0), kind(7, 3, 0, 0)) == 8
    # A wider margin may let more through: the gate's level is taken from what lies outside it.
    assert least(kind(9, 0, 2, 0)) == 16
    assert least(kind(9, 0, 0, 1)) is None


def test_the_margin_sentence_says_when_no_margin_is_enough() -> None:
    margins = {"0": {"body_pixels_in_carriers": 4}, "8": {"body_pixels_in_carriers": 1}}
    figures = {
        "groups": [{"kind": "modality", "name": "MR", "network": {"by_margin": margins}}],
        "margin_px": 8,
    }
    assert "No measured margin" in card.margin_sentence(
        figures
    ) and "uses 8 pixels" in card.margin_sentence(figures)


def test_a_dollar_in_figures_is_no_place(released: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(released))
    changed["data"]["licences"][0]["licence"] = "$margin"
    assert "$margin" in card.fill("$licences", changed)
