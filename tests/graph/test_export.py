import json

import numpy as np
import pytest
import tensorflow as tf

from coverslip.engine import Embedded, Measured
from coverslip_graph import export
from coverslip_graph.engine import SIGNATURES, TensorFlowEngine

pytestmark = pytest.mark.slow
"""These tests run networks, or files by the dozen."""

INPUTS = {
    "segment": {"pixels": ("int32", [-1, -1, -1])},
    "extract": {"pixels": ("int32", [-1, -1, -1]), "step": ("float32", [-1])},
    "embed": {
        "pixels": ("int32", [-1, -1, -1]),
        "legal": ("int32", [-1, 2]),
        "padding": ("int32", [-1]),
        "phases": ("uint8", [-1, -1, -1, 16]),
        "slots": ("int32", [-1, -1, -1]),
        "coefficients": ("float32", [-1, 16]),
        "step": ("float32", [-1]),
        "votes": ("int32", [-1]),
        "margin": ("int32", [-1]),
    },
}
OUTPUTS = {
    "segment": {"mask": "uint8", "score": "float32"},
    "extract": {"mask": "uint8", "phases": "uint8"},
    "embed": {"stego": "int32", "mask": "uint8", "carriers": "uint8"},
}


@pytest.fixture(scope="module")
def record(released):
    return json.loads((released / "model.json").read_text())


def test_the_savedmodel_has_these_signatures_and_no_others(released):
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    assert sorted(saved.signatures) == sorted(SIGNATURES)


def test_inputs_and_outputs_are_named_typed_and_shaped_as_promised(record):
    for name in SIGNATURES:
        inputs = {
            key: (value["dtype"], value["shape"])
            for key, value in record["signatures"][name]["inputs"].items()
        }
        assert inputs == INPUTS[name]
        assert {
            key: value["dtype"] for key, value in record["signatures"][name]["outputs"].items()
        } == OUTPUTS[name]


def test_every_output_has_the_batch_dimension(record):
    for signature in record["signatures"].values():
        assert all(
            tensor["shape"] == [] or len(tensor["shape"]) >= 1
            for tensor in signature["outputs"].values()
        )


def test_the_tflite_has_the_same_signatures(released):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(released / "coverslip.tflite")
    )
    found = interpreter.get_signature_list()
    assert {name: sorted(value["inputs"]) for name, value in found.items()} == {
        name: sorted(value) for name, value in INPUTS.items()
    }
    assert {name: sorted(value["outputs"]) for name, value in found.items()} == {
        name: sorted(value) for name, value in OUTPUTS.items()
    }


def test_both_forms_and_the_record_carry_one_version_and_the_right_hashes(released, record):
    assert record["version"] == 7
    assert export.read_metadata((released / "coverslip.tflite").read_bytes())["version"] == 7
    extra = json.loads(
        (released / "coverslip" / "7" / "assets.extra" / export.METADATA).read_text()
    )
    assert extra == export.read_metadata((released / "coverslip.tflite").read_bytes())
    assert record["tflite_sha256"] == export.digest(released / "coverslip.tflite")
    assert record["savedmodel_sha256"] == export.digest(released / "coverslip" / "7")


def test_serving_finds_a_warm_up_request_for_each_signature(released):
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = released / "coverslip" / "7" / "assets.extra" / "tf_serving_warmup_requests"
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    seen = []
    for item in tf.data.TFRecordDataset(str(path)):
        request = prediction_log.PredictionLog.FromString(item.numpy()).predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()
        }
        assert "mask" in saved.signatures[request.model_spec.signature_name](**inputs)
        seen.append(request.model_spec.signature_name)
    assert seen == list(SIGNATURES)


def test_a_folders_digest_sees_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("x")
    first = export.digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = export.digest(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, second, export.digest(tmp_path)}) == 3


def test_the_variables_are_saved_beside_the_graph(released):
    reader = tf.train.load_checkpoint(str(released / "coverslip" / "7" / "variables" / "variables"))
    assert any("share" in name for name in reader.get_variable_to_shape_map())


def savedmodel_operations(folder):
    """Every operation of a SavedModel's graph and functions."""
    from tensorflow.core.protobuf import saved_model_pb2

    graph = (
        saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        .meta_graphs[0]
        .graph_def
    )
    found = {node.op for node in graph.node}
    for function in graph.library.function:
        found |= {node.op for node in function.node_def}
    return found - {function.signature.name for function in graph.library.function}


def test_the_savedmodel_uses_only_operations_that_tensorflow_registers_and_no_python(released):
    from tensorflow.python.framework import op_def_registry

    operations = savedmodel_operations(released / "coverslip" / "7")
    assert len(operations) > 30
    assert {name for name in operations if op_def_registry.get(name) is None} == set()
    assert not {name for name in operations if "PyFunc" in name}


def test_the_tflite_uses_only_built_in_operations(released):
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs((released / "coverslip.tflite").read_bytes(), 0)
    )
    assert len(model.subgraphs) == len(SIGNATURES)
    assert len(model.operatorCodes) > 30
    for code in model.operatorCodes:
        assert code.customCode is None
        assert max(code.builtinCode, code.deprecatedBuiltinCode) != schema.BuiltinOperator.CUSTOM


class Careless:
    """An engine that gets one thing wrong."""

    name = "careless"

    def __init__(self, inner, fault):
        self.inner, self.fault = inner, fault

    def segment(self, pixels):
        return self.inner.segment(pixels[:, :, ::-1] if self.fault == "mask" else pixels)

    def embed(self, request):
        out = self.inner.embed(request)
        return (
            Embedded(np.maximum(out.stego, 1), out.mask, out.carriers)
            if self.fault == "stego"
            else out
        )

    def extract(self, pixels, step):
        out = self.inner.extract(pixels, step)
        return Measured(out.phases + np.uint8(2), out.mask) if self.fault == "phases" else out


@pytest.mark.parametrize("fault", ["mask", "stego", "phases"])
def test_an_engine_that_is_wrong_is_not_released(tensorflow_engine, fault):
    with pytest.raises(export.ExportError, match="careless"):
        export.check(Careless(tensorflow_engine, fault))


def test_a_failed_export_leaves_the_old_model(bright, released, tmp_path, monkeypatch):
    before = export.digest(released)

    def refuse(engine):
        raise export.ExportError("no")

    monkeypatch.setattr(export, "check", refuse)
    with pytest.raises(export.ExportError):
        export.export(bright, released, 8)
    assert export.digest(released) == before


def test_versions_are_kept_beside_each_other_and_the_highest_is_taken(released, tmp_path):
    import shutil

    shutil.copytree(released / "coverslip", tmp_path / "coverslip")
    shutil.copytree(tmp_path / "coverslip" / "7", tmp_path / "coverslip" / "10")
    (tmp_path / "coverslip" / "7" / "saved_model.pb").unlink()
    assert TensorFlowEngine(tmp_path / "coverslip").segment(
        np.zeros((1, 8, 8), np.int32)
    ).mask.shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("version", "source"), [(7, "other weights' digest"), (6, "weights' digest")]
)
def test_another_version_or_a_higher_one_is_not_replaced_unasked(bright, released, version, source):
    before = export.digest(released)
    with pytest.raises(export.ExportError, match="--force"):
        export.export(bright, released, version, source)
    assert export.digest(released) == before


def test_a_folder_of_that_name_that_says_nothing_of_itself_is_not_replaced(bright, tmp_path):
    (tmp_path / "coverslip" / "3").mkdir(parents=True)
    with pytest.raises(export.ExportError, match="other weights"):
        export.export(bright, tmp_path, 3, "weights' digest")


def test_the_command_exports_over_what_was_there_when_told_to(
    bright, tmp_path, monkeypatch, capsys
):
    from coverslip.cli import main
    from coverslip_graph.network import Network

    (tmp_path / "weights.npz").write_bytes(b"weights")
    (tmp_path / "coverslip" / "3").mkdir(parents=True)
    monkeypatch.setattr(Network, "load", lambda path: bright)
    words = [
        "export",
        "--weights",
        str(tmp_path / "weights.npz"),
        "--version",
        "3",
        "--out",
        str(tmp_path),
    ]
    assert main(words) == 1
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["version"] == 3 and record["weights_sha256"] == export.digest(
        tmp_path / "weights.npz"
    )
    assert record == json.loads((tmp_path / "model.json").read_text())
    assert record["tflite_sha256"] == export.digest(tmp_path / "coverslip.tflite")


def test_the_command_says_that_there_are_no_weights(tmp_path, capsys):
    from coverslip.cli import main

    assert main(["export", "--weights", str(tmp_path / "none.npz"), "--version", "1"]) == 2
    assert "no weights" in capsys.readouterr().err
