import subprocess
import sys

import numpy as np
import pytest

from coverslip.errors import EngineError, ModelMissingError
from coverslip.models import ENVIRONMENT, ModelKind, find_model
from coverslip_graph.engine import TensorFlowEngine
from tests.graph.planes import request


def test_it_keeps_the_protocol(tensorflow_engine):
    engine = tensorflow_engine
    wanted = request("scene", 33, 47, (0, 4095), 1)
    segmented, embedded = engine.segment(wanted.pixels), engine.embed(wanted)
    measured = engine.extract(embedded.stego, wanted.step)
    assert segmented.mask.dtype == embedded.mask.dtype == measured.mask.dtype == np.uint8
    assert segmented.mask.shape == embedded.stego.shape == measured.mask.shape == (1, 33, 47)
    assert segmented.score.dtype == np.float32 and segmented.score.shape == (1,)
    assert embedded.stego.dtype == np.int32
    assert embedded.carriers.dtype == np.uint8 and embedded.carriers.shape == (1, 8, 11)
    assert measured.phases.dtype == np.uint8 and measured.phases.shape == (1, 8, 11, 16)
    assert embedded.carriers.any()


def test_the_same_request_gives_the_same_bytes(tensorflow_engine):
    wanted = request("noise", 64, 64, (0, 65535), 3)
    first, second = tensorflow_engine.embed(wanted), tensorflow_engine.embed(wanted)
    np.testing.assert_array_equal(first.stego, second.stego)


def test_a_missing_model_says_where_to_put_one(tmp_path):
    with pytest.raises(ModelMissingError, match=r"saved_model\.pb"):
        TensorFlowEngine(tmp_path).segment(np.zeros((1, 8, 8), np.int32))


def test_the_wrong_shape_is_refused_by_name(tensorflow_engine):
    with pytest.raises(EngineError, match="at least 4 x 4"):
        tensorflow_engine.segment(np.zeros((1, 2, 2), np.int32))


def test_making_an_engine_imports_no_tensorflow():
    code = (
        "import sys, coverslip_graph.engine as e; e.TensorFlowEngine(); sys.exit('tensorflow' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_environment_names_the_models_folder(released, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, str(released))
    assert find_model(ModelKind.TENSORFLOW) == released / "coverslip" / "7"
    assert find_model(ModelKind.LITERT) == released / "coverslip.tflite"
    assert TensorFlowEngine().segment(np.zeros((1, 8, 8), np.int32)).score.shape == (1,)


@pytest.mark.parametrize("kind", ModelKind)
def test_an_environment_without_a_model_is_not_passed_over(tmp_path, monkeypatch, kind):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(ModelMissingError, match=ENVIRONMENT):
        find_model(kind)
