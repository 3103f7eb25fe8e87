"""What an earlier version wrote, the next one reads; what one runtime writes, every other one
reads.
"""

import numpy as np
import pytest
import tensorflow as tf

from coverslip import pipeline
from coverslip import record as records
from coverslip.deidentification import header
from coverslip.dicom.instance import read_instance
from coverslip.scheme.profiles import DEFAULT, PROFILES
from coverslip_edge.engine import RUNTIMES, LiteRtEngine
from coverslip_graph import export
from coverslip_graph.engine import TensorFlowEngine
from tests import golden
from tests.covers import head_ct

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

GOLDEN = sorted(golden.FOLDER.glob("model*-*.dcm"))
WRITERS = ["tensorflow", *RUNTIMES]


def recorded(dataset, path):
    """The encoded record of a cover."""
    dataset.save_as(path)
    _, record, _ = header.deidentify(
        read_instance(path).dataset,
        pipeline.uid_key(golden.IDENTITY.recipient),
        allow_burned_in=False,
    )
    return records.encode(record)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "cover.dcm"
    return path, recorded(golden.phantom(), path)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_without_one(path, phantom):
    found = pipeline.extract(read_instance(path), golden.IDENTITY)
    assert records.encode(found.record) == phantom[1]
    assert found.profile == path.stem.split("-")[1]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_naming_a_profile_reads_what_every_version_wrote_under_that_name(path, phantom):
    instance = read_instance(path)
    profile = pipeline.resolve_step(PROFILES[path.stem.split("-")[1]], None, instance)
    assert (
        records.encode(pipeline.extract(instance, golden.IDENTITY, profile=profile).record)
        == phantom[1]
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_files_of_released_models_are_read_with_the_model_of_today(path, phantom, engine):
    found = pipeline.extract(read_instance(path), golden.IDENTITY, engine)
    assert records.encode(found.record) == phantom[1]


def test_there_is_a_file_of_every_profile():
    assert len(GOLDEN) >= 3


@pytest.fixture(scope="module")
def next_version(bright, tmp_path_factory):
    """Version 8: other weights, which outline less of the body than version 7's."""
    other = type(bright)()
    other.share.assign(0.93)
    folder = tmp_path_factory.mktemp("next")
    export.export(other, folder, 8, "other weights")
    return folder


@pytest.mark.parametrize("later", WRITERS)
def test_the_next_version_reads_what_the_previous_one_wrote(
    released, next_version, phantom, later, tmp_path
):
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


def of_runtime(name, folder):
    """The engine of a runtime with the model in a folder."""
    if name == "tensorflow":
        return TensorFlowEngine(folder / "coverslip")
    pytest.importorskip(name)
    return LiteRtEngine(folder / "coverslip.tflite", runtimes=(name,))


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A real head CT out of pydicom with an invented patient, and its record."""
    dataset = head_ct(5)
    path = tmp_path_factory.mktemp("head") / "cover.dcm"
    return path, recorded(dataset, path)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_reads_every_writer(writer, released, head, tmp_path):
    path, expected = head
    engine = of_runtime(writer, released)
    pipeline.embed(
        read_instance(path), golden.IDENTITY.recipient, engine, pipeline.EmbedOptions(DEFAULT)
    ).write(tmp_path / "stego.dcm")
    stego = read_instance(tmp_path / "stego.dcm")
    for reader in [None, *(of_runtime(name, released) for name in WRITERS)]:
        assert records.encode(pipeline.extract(stego, golden.IDENTITY, reader).record) == expected


def test_the_versions_differ_in_more_than_their_number(bright, next_version):
    reader = tf.train.load_checkpoint(
        str(next_version / "coverslip" / "8" / "variables" / "variables")
    )
    held = [
        reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if "share" in name and "OBJECT" not in name
    ]
    assert held and not np.allclose(held[0], bright.share.numpy())
