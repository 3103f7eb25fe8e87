"""Every version reads the files of earlier ones, and every runtime those of the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pydicom import Dataset

from coverslip import pipeline
from coverslip import record as records
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance
from coverslip.engine import Engine
from coverslip.scheme.profiles import DEFAULT, PROFILES
from coverslip_edge.engine import RUNTIMES, LiteRtEngine
from coverslip_graph import export
from coverslip_graph.engine import TensorFlowEngine
from tests import golden
from tests.covers import head_ct
from tests.graph.conftest import Bright
from tests.paths import ROOT

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

GOLDEN = sorted(golden.FOLDER.glob("model*-*.dcm"))
WRITERS = ["tensorflow", *RUNTIMES]


def write_cover(dataset: Dataset, path: Path) -> bytes:
    """Write a cover and return its encoded record."""
    dataset.save_as(path)
    _, record, _ = header.deidentify(
        read_instance(path).dataset,
        pipeline.uid_key(golden.IDENTITY.recipient),
        allow_burned_in=False,
    )
    return records.encode(record)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("phantom") / "cover.dcm"
    return path, write_cover(golden.phantom(), path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_without_one(
    path: Path, phantom: tuple[Path, bytes]
) -> None:
    found = pipeline.extract(read_instance(path), golden.IDENTITY)
    assert records.encode(found.record) == phantom[1]
    assert found.profile == path.stem.split("-")[1]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_naming_a_profile_reads_what_every_version_wrote_under_that_name(
    path: Path, phantom: tuple[Path, bytes]
) -> None:
    instance = read_instance(path)
    profile = pipeline.resolve_step(PROFILES[path.stem.split("-")[1]], None, instance)
    assert (
        records.encode(pipeline.extract(instance, golden.IDENTITY, profile=profile).record)
        == phantom[1]
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_with_the_model_of_today(
    path: Path, phantom: tuple[Path, bytes], engine: Engine
) -> None:
    found = pipeline.extract(read_instance(path), golden.IDENTITY, engine)
    assert records.encode(found.record) == phantom[1]


def test_there_is_a_file_of_every_released_model_and_profile() -> None:
    released = json.loads((ROOT / "models" / "model.json").read_text())["version"]
    expected = {
        f"model{version}-{profile}"
        for version in range(1, released + 1)
        for profile in ("faint", "default", "robust")
    }
    assert {path.stem for path in GOLDEN} == expected


@pytest.fixture(scope="module")
def next_version(bright: Bright, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 8: weights that outline less of the body than version 7's."""
    other = Bright()
    other.share.assign(0.93)
    folder = tmp_path_factory.mktemp("next")
    export.export(other, folder, 8, "other weights")
    return folder


@pytest.mark.parametrize("later", WRITERS)
def test_the_next_version_reads_what_the_previous_one_wrote(
    released: Path, next_version: Path, phantom: tuple[Path, bytes], later: str, tmp_path: Path
) -> None:
    path, expected = phantom
    previous = LiteRtEngine(released / "coverslip.tflite")
    pipeline.embed(
        read_instance(path), golden.IDENTITY.recipient, previous, pipeline.EmbedOptions(DEFAULT)
    ).write(tmp_path / "stego.dcm")
    engine = of_runtime(later, next_version)
    stego = read_instance(tmp_path / "stego.dcm")
    assert np.mean(engine.segment(stego.planes).mask) < 0.7 * np.mean(
        previous.segment(stego.planes).mask
    )
    assert records.encode(pipeline.extract(stego, golden.IDENTITY, engine).record) == expected


def of_runtime(name: str, folder: Path) -> Engine:
    """Open the model in a folder with a runtime."""
    if name == "tensorflow":
        return TensorFlowEngine(folder / "coverslip")
    pytest.importorskip(name)
    return LiteRtEngine(folder / "coverslip.tflite", runtimes=(name,))


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A real head CT that comes with pydicom, with a fake patient, and its record."""
    dataset = head_ct(5)
    path = tmp_path_factory.mktemp("head") / "cover.dcm"
    return path, write_cover(dataset, path)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_reads_every_writer(
    writer: str, released: Path, head: tuple[Path, bytes], tmp_path: Path
) -> None:
    path, expected = head
    engine = of_runtime(writer, released)
    pipeline.embed(
        read_instance(path), golden.IDENTITY.recipient, engine, pipeline.EmbedOptions(DEFAULT)
    ).write(tmp_path / "stego.dcm")
    stego = read_instance(tmp_path / "stego.dcm")
    for reader in [None, *(of_runtime(name, released) for name in WRITERS)]:
        assert records.encode(pipeline.extract(stego, golden.IDENTITY, reader).record) == expected


def test_the_versions_differ_in_more_than_their_number(bright: Bright, next_version: Path) -> None:
    reader = tf.train.load_checkpoint(
        str(next_version / "coverslip" / "8" / "variables" / "variables")
    )
    held = [
        reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "share" in name and "OBJECT" not in name
    ]
    assert float(bright.share.numpy()) == 0.5
    assert held == [pytest.approx(0.93)]
