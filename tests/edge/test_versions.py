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
from coverslip.dicom.instance import Instance, read_instance
from coverslip.engine import Engine
from coverslip.scheme.profiles import DEFAULT, PROFILES, Profile
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


def read_pixels(
    source: Instance, reader: Engine | None = None, profile: Profile | None = None
) -> bytes:
    """The encoded record that the pixels carry; the sealed header part would hide that none is."""
    found = pipeline.extract(source, golden.IDENTITY, reader, profile)
    assert found.carried is pipeline.Carried.PIXELS
    return records.encode(found.record)


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
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Path, bytes]]:
    """Covers and their records, by whether they have an Image Type."""
    folder = tmp_path_factory.mktemp("phantom")
    paths = {image_type: folder / f"{image_type}.dcm" for image_type in (False, True)}
    return {
        image_type: (path, write_cover(golden.phantom(image_type=image_type), path))
        for image_type, path in paths.items()
    }


@pytest.fixture(scope="module")
def phantom(phantoms: dict[bool, tuple[Path, bytes]]) -> tuple[Path, bytes]:
    return phantoms[True]


@pytest.fixture
def expected(path: Path, phantoms: dict[bool, tuple[Path, bytes]]) -> bytes:
    """The record of a golden file."""
    return phantoms[golden.has_image_type(path)][1]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_without_one(path: Path, expected: bytes) -> None:
    found = pipeline.extract(read_instance(path), golden.IDENTITY)
    assert records.encode(found.record) == expected
    assert found.profile == path.stem.split("-")[1]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_naming_a_profile_reads_what_every_version_wrote_under_that_name(
    path: Path, expected: bytes
) -> None:
    instance = read_instance(path)
    profile = pipeline.resolve_step(PROFILES[path.stem.split("-")[1]], None, instance)
    assert read_pixels(instance, profile=profile) == expected


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_with_the_model_of_today(
    path: Path, expected: bytes, engine: Engine
) -> None:
    assert read_pixels(read_instance(path), engine) == expected


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
    assert read_pixels(stego, engine) == expected


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
        assert read_pixels(stego, reader) == expected


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
