import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.engine import Embedded, EmbedRequest, Engine, Measured, Segmented
from coverslip_graph import export
from coverslip_graph.engine import SIGNATURES, TensorFlowEngine
from coverslip_graph.errors import ExportError
from tests.graph.conftest import Bright
from tests.graph.planes import request, stack
from tests.paths import ROOT

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
    "segment": {"mask": ("uint8", [-1, -1, -1]), "score": ("float32", [-1])},
    "extract": {"mask": ("uint8", [-1, -1, -1]), "phases": ("uint8", [-1, -1, -1, 16])},
    "embed": {
        "stego": ("int32", [-1, -1, -1]),
        "mask": ("uint8", [-1, -1, -1]),
        "carriers": ("uint8", [-1, -1, -1]),
    },
}
"""Types and shapes that clients rely on; the first dimension is the batch, -1 is any size."""


@pytest.fixture(scope="module")
def record(released: Path) -> export.ModelRecord:
    content: export.ModelRecord = json.loads((released / "model.json").read_text())
    return content


def test_the_savedmodel_has_these_signatures_and_no_others(released: Path) -> None:
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    assert sorted(saved.signatures) == sorted(SIGNATURES)


def test_inputs_and_outputs_are_named_typed_and_shaped_as_promised(
    record: export.ModelRecord,
) -> None:
    def described(tensors: dict[str, export.TensorShape]) -> dict[str, tuple[str, list[int]]]:
        return {name: (tensor["dtype"], tensor["shape"]) for name, tensor in tensors.items()}

    signatures = record["signatures"]
    assert {name: described(entry["inputs"]) for name, entry in signatures.items()} == INPUTS
    assert {name: described(entry["outputs"]) for name, entry in signatures.items()} == OUTPUTS


def test_every_output_has_an_entry_for_each_image_of_the_batch(released: Path) -> None:
    wanted = stack(*(request("scene", 24, 32, (0, 4095), seed) for seed in range(3)))
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    for name, inputs in INPUTS.items():
        outputs = saved.signatures[name](
            **{key: tf.constant(getattr(wanted, key)) for key in inputs}
        )
        assert {key: len(value) for key, value in outputs.items()} == dict.fromkeys(
            OUTPUTS[name], 3
        )


def test_the_tflite_has_the_same_signatures(released: Path) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(released / "coverslip.tflite")
    )
    signatures = interpreter.get_signature_list()
    assert {name: sorted(value["inputs"]) for name, value in signatures.items()} == {
        name: sorted(value) for name, value in INPUTS.items()
    }
    assert {name: sorted(value["outputs"]) for name, value in signatures.items()} == {
        name: sorted(value) for name, value in OUTPUTS.items()
    }


def test_both_forms_and_the_record_carry_one_version_and_the_right_hashes(
    released: Path, record: export.ModelRecord
) -> None:
    assert record["version"] == 7
    expected = {"name": "coverslip", "version": 7, "weights_sha256": "weights' digest"}
    assert export.read_metadata((released / "coverslip.tflite").read_bytes()) == expected
    extra = (released / "coverslip" / "7" / "assets.extra" / export.METADATA).read_text()
    assert json.loads(extra) == expected
    assert record["tflite_sha256"] == export.digest(released / "coverslip.tflite")
    assert record["savedmodel_sha256"] == export.digest(released / "coverslip" / "7")


def test_serving_finds_a_warm_up_request_for_each_signature(released: Path) -> None:
    prediction_log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = released / "coverslip" / "7" / "assets.extra" / "tf_serving_warmup_requests"
    saved = tf.saved_model.load(str(released / "coverslip" / "7"))
    seen = []
    for item in tf.data.TFRecordDataset(str(path)):
        logged = prediction_log.PredictionLog.FromString(item.numpy()).predict_log.request
        inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in logged.inputs.items()}
        name = logged.model_spec.signature_name
        assert set(inputs) == set(INPUTS[name])
        assert set(saved.signatures[name](**inputs)) == set(OUTPUTS[name])
        seen.append(name)
    assert seen == list(SIGNATURES)


def test_a_folders_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    first = export.digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = export.digest(tmp_path)
    (tmp_path / "b").write_text("y")
    assert len({first, second, export.digest(tmp_path)}) == 3


def test_the_variables_are_saved_beside_the_graph(released: Path) -> None:
    reader = tf.train.load_checkpoint(str(released / "coverslip" / "7" / "variables" / "variables"))
    assert any("share" in name for name in reader.get_variable_to_shape_map())


def savedmodel_operations(folder: Path) -> set[str]:
    """Names of the operations in a SavedModel's graph and functions."""
    from tensorflow.core.protobuf import saved_model_pb2

    graph = (
        saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        .meta_graphs[0]
        .graph_def
    )
    operations = {node.op for node in graph.node}
    for function in graph.library.function:
        operations |= {node.op for node in function.node_def}
    return operations - {function.signature.name for function in graph.library.function}


def test_the_savedmodel_uses_only_operations_that_tensorflow_registers_and_no_python(
    released: Path,
) -> None:
    from tensorflow.python.framework import op_def_registry

    operations = savedmodel_operations(released / "coverslip" / "7")
    assert len(operations) > 30
    assert {name for name in operations if op_def_registry.get(name) is None} == set()
    assert not {name for name in operations if "PyFunc" in name}


def test_the_tflite_uses_only_built_in_operations(released: Path) -> None:
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

    def __init__(self, inner: Engine, fault: str) -> None:
        self.inner, self.fault = inner, fault

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        return self.inner.segment(pixels[:, :, ::-1] if self.fault == "mask" else pixels)

    def embed(self, request: EmbedRequest) -> Embedded:
        out = self.inner.embed(request)
        return (
            Embedded(np.maximum(out.stego, 1), out.mask, out.carriers)
            if self.fault == "stego"
            else out
        )

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        out = self.inner.extract(pixels, step)
        return Measured(out.phases + np.uint8(2), out.mask) if self.fault == "phases" else out


@pytest.mark.parametrize("fault", ["mask", "stego", "phases"])
def test_an_engine_that_is_wrong_is_not_released(
    tensorflow_engine: TensorFlowEngine, fault: str
) -> None:
    with pytest.raises(ExportError, match="careless"):
        export.check(Careless(tensorflow_engine, fault))


def test_a_failed_export_leaves_the_old_model(
    bright: Bright, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export.digest(released)

    def refuse(engine: Engine) -> None:
        raise ExportError("no")

    monkeypatch.setattr(export, "check", refuse)
    with pytest.raises(ExportError):
        export.export(bright, released, 8)
    assert export.digest(released) == before


def test_versions_are_kept_beside_each_other_and_the_highest_is_taken(
    released: Path, tmp_path: Path
) -> None:
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
def test_another_version_or_a_higher_one_is_not_replaced_unasked(
    bright: Bright, released: Path, version: int, source: str
) -> None:
    before = export.digest(released)
    with pytest.raises(ExportError, match="--force"):
        export.export(bright, released, version, source)
    assert export.digest(released) == before


def test_a_version_folder_without_a_record_is_not_replaced(bright: Bright, tmp_path: Path) -> None:
    (tmp_path / "coverslip" / "3").mkdir(parents=True)
    with pytest.raises(ExportError, match="other weights"):
        export.export(bright, tmp_path, 3, "weights' digest")


def test_the_command_replaces_a_version_with_force(
    bright: Bright,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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


def test_the_command_of_the_training_page_writes_the_files_it_lists(
    bright: Bright, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coverslip.cli import main
    from coverslip_graph.network import Network

    section = (ROOT / "docs/training.md").read_text().split("\n## Export\n")[1]
    (command,) = re.findall(r"^\$ coverslip (export .*)$", section, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("runs/model").mkdir(parents=True)
    Path("runs/model/weights.npz").write_bytes(b"weights")
    monkeypatch.setattr(Network, "load", lambda path: bright)
    assert main(command.split()) == 0
    listed = re.findall(r"^\| `(runs/[\w./]+)` \|", section, re.MULTILINE)
    assert len(listed) == 3
    assert [path for path in listed if not Path(path).exists()] == []
    assert len(list(Path("runs/released").iterdir())) == 3


def test_the_command_reports_missing_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from coverslip.cli import main

    assert main(["export", "--weights", str(tmp_path / "none.npz"), "--version", "1"]) == 2
    assert "no weights" in capsys.readouterr().err
