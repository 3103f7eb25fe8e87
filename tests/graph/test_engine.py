import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ENVIRONMENT, ModelKind, find_model
from coverslip.scheme.reference import measure_plane
from coverslip_graph.engine import TensorFlowEngine
from tests.graph.conftest import outline_bright
from tests.graph.planes import reference, request


def test_results_have_the_promised_types_and_shapes(tensorflow_engine: TensorFlowEngine) -> None:
    wanted = request("scene", 33, 47, (0, 4095), 1)
    segmented = tensorflow_engine.segment(wanted.pixels)
    embedded = tensorflow_engine.embed(wanted)
    measured = tensorflow_engine.extract(embedded.stego, wanted.step)
    assert segmented.mask.dtype == embedded.mask.dtype == measured.mask.dtype == np.uint8
    assert segmented.mask.shape == embedded.stego.shape == measured.mask.shape == (1, 33, 47)
    assert segmented.score.dtype == np.float32 and segmented.score.shape == (1,)
    assert embedded.stego.dtype == np.int32
    assert embedded.carriers.dtype == np.uint8 and embedded.carriers.shape == (1, 8, 11)
    assert measured.phases.dtype == np.uint8 and measured.phases.shape == (1, 8, 11, 16)


def test_outline_embedding_and_phases_are_those_of_numpy(
    tensorflow_engine: TensorFlowEngine,
) -> None:
    wanted = request("scene", 33, 47, (0, 4095), 1)
    embedded = tensorflow_engine.embed(wanted)
    mask = outline_bright(wanted.pixels[0])
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(tensorflow_engine.segment(wanted.pixels).mask[0], mask)
    np.testing.assert_array_equal(embedded.mask[0], mask)
    stego, carriers = reference(wanted, mask[np.newaxis])
    assert carriers.any()
    np.testing.assert_array_equal(embedded.carriers, carriers)
    np.testing.assert_array_equal(embedded.stego, stego)
    phases = tensorflow_engine.extract(stego, wanted.step).phases[0]
    expected = measure_plane(stego[0], float(wanted.step[0]))
    assert np.abs((phases - expected).astype(np.int8)).max() <= 1


def test_the_same_request_gives_the_same_bytes(tensorflow_engine: TensorFlowEngine) -> None:
    wanted = request("noise", 64, 64, (0, 65535), 3)
    first, second = tensorflow_engine.embed(wanted), tensorflow_engine.embed(wanted)
    np.testing.assert_array_equal(first.stego, second.stego)


def test_a_missing_model_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"saved_model\.pb"):
        TensorFlowEngine(tmp_path).segment(np.zeros((1, 8, 8), np.int32))


def test_the_wrong_shape_is_refused_by_name(tensorflow_engine: TensorFlowEngine) -> None:
    with pytest.raises(EngineError, match="at least 4 x 4"):
        tensorflow_engine.segment(np.zeros((1, 2, 2), np.int32))


def test_making_an_engine_imports_no_tensorflow() -> None:
    code = (
        "import sys, coverslip_graph.engine as e; e.TensorFlowEngine(); sys.exit('tensorflow' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_environment_names_the_models_folder(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(released))
    assert find_model(ModelKind.TENSORFLOW) == released / "coverslip" / "7"
    assert find_model(ModelKind.LITERT) == released / "coverslip.tflite"
    assert TensorFlowEngine().segment(np.zeros((1, 8, 8), np.int32)).score.shape == (1,)


@pytest.mark.parametrize("kind", ModelKind)
def test_a_folder_in_the_environment_without_a_model_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: ModelKind
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(ModelMissingError, match=ENVIRONMENT):
        find_model(kind)
