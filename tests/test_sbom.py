"""The bill of materials names every file of the released model, and what it was trained on."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

pytest.importorskip("cyclonedx.validation.json")
from tools import sbom

MODELS = ROOT / "models"
RELEASED = json.loads((MODELS / "model.json").read_text())
FIGURES = json.loads((MODELS / "metrics.json").read_text())


def hashes(model):
    """SHA-256 of each file of a model's component."""
    found = {}
    for file in model["components"]:
        (one,) = file["hashes"]
        assert one["alg"] == "SHA-256" and file["name"] not in found
        found[file["name"]] = one["content"]
    return found


def test_every_file_of_the_models_folder_is_named_with_its_hash():
    model, *_ = sbom.model_components(MODELS)
    assert hashes(model) == {
        str(path.relative_to(MODELS)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in MODELS.rglob("*")
        if path.is_file()
    }
    assert model["version"] == str(RELEASED["version"])


def test_the_hashes_are_those_that_the_model_was_released_with():
    model, *_ = sbom.model_components(MODELS)
    assert hashes(model)["coverslip.tflite"] == RELEASED["tflite_sha256"]
    assert hashes(model)["weights.npz"] == RELEASED["weights_sha256"]


def test_a_changed_file_has_another_hash(tmp_path):
    for name in ("model.json", "metrics.json", "coverslip.tflite"):
        shutil.copy(MODELS / name, tmp_path)
    before = hashes(sbom.model_components(tmp_path)[0])
    with (tmp_path / "coverslip.tflite").open("ab") as file:
        file.write(b"0")
    after = hashes(sbom.model_components(tmp_path)[0])
    assert {name for name in before if before[name] != after[name]} == {"coverslip.tflite"}


def test_the_data_are_named_by_licence_and_none_is_missing():
    model, *data = sbom.model_components(MODELS)
    assert [one["ref"] for one in model["modelCard"]["modelParameters"]["datasets"]] == [
        one["bom-ref"] for one in data
    ]
    counts = [{each["name"]: int(each["value"]) for each in one["properties"]} for one in data]
    for split, of in (("train", "train"), (FIGURES["split"], "measured")):
        total = sum(one[f"coverslip:slices:{split}"] for one in counts)
        assert total == FIGURES["data"][of]["slices"]
    card = (MODELS / "README.md").read_text()
    for one in data:
        assert f"| {one['licenses'][0]['license']['name']} |" in card


def test_packages_that_nothing_depends_on_are_left_out():
    bom = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"bom-ref": name} for name in ("numpy", "pip", "qrcode")],
        "dependencies": [
            {"ref": "root", "dependsOn": ["qrcode"]},
            {"ref": "qrcode", "dependsOn": ["numpy"]},
            {"ref": "numpy"},
            {"ref": "pip"},
        ],
    }
    sbom.keep_dependencies(bom)
    assert [one["bom-ref"] for one in bom["components"]] == ["numpy", "qrcode"]
    assert [one["ref"] for one in bom["dependencies"]] == ["root", "qrcode", "numpy"]


@pytest.mark.slow
def test_the_bill_of_an_environment_is_valid_reproducible_and_names_no_folder(tmp_path):
    assert sbom.main([sys.prefix, "--output", str(tmp_path / "bom.json")]) == 0
    text = (tmp_path / "bom.json").read_text()
    assert str(ROOT) not in text and sys.prefix not in text
    bom = json.loads(text)
    assert bom == sbom.bill(Path(sys.prefix), MODELS)
    names = {one["name"].lower() for one in bom["components"]}
    assert {"numpy", "pydicom", "cryptography", "coverslip"} <= names
    root = next(one for one in bom["dependencies"] if one["ref"] == "root-component")
    assert f"model-coverslip@{RELEASED['version']}" in root["dependsOn"]
