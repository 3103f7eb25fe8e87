"""Exports trained weights as a SavedModel and a .tflite with the same three signatures.

Both are reloaded and compared with the reference before they replace anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from coverslip.engine import EmbedRequest, Engine, open_engine
from coverslip.models import latest_version
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.quantise import PHASES
from coverslip.scheme.reference import ReferenceEngine
from coverslip_graph.engine import SIGNATURES, TensorFlowEngine
from coverslip_graph.errors import ExportError
from coverslip_graph.module import Coverslip, Outliner

if TYPE_CHECKING:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

METADATA = "coverslip.json"
"""Name of the version record: a file in the SavedModel's assets.extra, an entry in the .tflite."""

WARM_UP = "tf_serving_warmup_requests"
"""File name that TensorFlow Serving looks for in assets.extra."""


class VersionRecord(TypedDict):
    """The version record that both files carry."""

    name: str
    version: int
    weights_sha256: str


class TensorShape(TypedDict):
    """Type and shape of an input or output; -1 is any size."""

    dtype: str
    shape: list[int]


class SignatureShapes(TypedDict):
    """Inputs and outputs of a signature, by name."""

    inputs: dict[str, TensorShape]
    outputs: dict[str, TensorShape]


class ModelRecord(VersionRecord):
    """Contents of ``model.json``."""

    savedmodel_sha256: str
    tflite_sha256: str
    signatures: dict[str, SignatureShapes]


def export(
    network: Outliner, out: Path, version: int, weights_sha256: str = "", force: bool = False
) -> ModelRecord:
    """Write the SavedModel and the .tflite, and check both.

    Parameters
    ----------
    network : Outliner
        The trained network.
    out : Path
        Output folder for ``coverslip/<version>/``, ``coverslip.tflite`` and ``model.json``. Other
        versions are kept.
    version : int
        Version number of both files, at least 1.
    weights_sha256 : str
        SHA-256 of the weights, for the version record.
    force : bool
        Replace a version that was made from other weights, or a .tflite of a higher version.

    Returns
    -------
    ModelRecord
        The contents of ``model.json``.

    Raises
    ------
    ExportError
        A signature is missing, a runtime disagrees with the reference, or another version is in the
        way.
    """
    if not force:
        _refuse_replacement(out, version, weights_sha256)
    version_record = VersionRecord(name="coverslip", version=version, weights_sha256=weights_sha256)
    with tempfile.TemporaryDirectory(dir=_make_folder(out)) as scratch:
        saved, lite = Path(scratch) / "saved", Path(scratch) / "coverslip.tflite"
        save(network, saved, version_record)
        lite.write_bytes(with_metadata(convert(saved), version_record))
        check(TensorFlowEngine(saved))
        check(open_engine("litert", lite))
        record = ModelRecord(
            **version_record,
            savedmodel_sha256=digest(saved),
            tflite_sha256=digest(lite),
            signatures=signature_table(saved),
        )
        _replace(saved, out / "coverslip" / str(version))
        _replace(lite, out / "coverslip.tflite")
    (out / "model.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def _refuse_replacement(out: Path, version: int, weights_sha256: str) -> None:
    """Raise ExportError if the version exists with other weights, or a higher version exists.

    Both files must carry the same number, and TensorFlow Serving serves the highest.
    """
    versions = out / "coverslip"
    highest = latest_version(versions) if versions.is_dir() else None
    if highest is not None and int(highest.name) > version:
        raise ExportError(
            f"{versions} holds version {highest.name}, and TensorFlow Serving serves the highest: "
            f"expected version {highest.name} or later; choose one, or use --force"
        )
    place = versions / str(version) / "assets.extra" / METADATA
    if (versions / str(version)).exists():
        held = json.loads(place.read_text()).get("weights_sha256") if place.is_file() else None
        if held != weights_sha256:
            raise ExportError(
                f"{versions / str(version)} was made from other weights and is not replaced: "
                "choose the next version, or use --force"
            )


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _replace(made: Path, place: Path) -> None:
    _make_folder(place.parent)
    if place.is_dir():
        shutil.rmtree(place)
    made.replace(place)


def save(network: Outliner, folder: Path, record: VersionRecord) -> None:
    """Write the SavedModel; assets.extra gets the version record and the warm-up requests."""
    module = Coverslip(network)
    tf.saved_model.save(
        module, str(folder), signatures={name: getattr(module, name) for name in SIGNATURES}
    )
    extra = _make_folder(folder / "assets.extra")
    (extra / METADATA).write_text(json.dumps(record) + "\n")
    with tf.io.TFRecordWriter(str(extra / WARM_UP)) as writer:
        for request in warm_up_requests():
            writer.write(request.SerializeToString())


def warm_up_requests() -> Iterator[PredictionLog]:
    """Make one request for each signature; TensorFlow Serving runs them before it reports ready."""
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    request = trial(128, 128, 4095, 0)
    arrays = {"segment": ["pixels"], "embed": list(vars(request)), "extract": ["pixels", "step"]}
    for name in SIGNATURES:
        predict = predict_pb2.PredictRequest(
            model_spec=model_pb2.ModelSpec(name="coverslip", signature_name=name),
            inputs={key: tf.make_tensor_proto(getattr(request, key)) for key in arrays[name]},
        )
        yield prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(request=predict)
        )


def convert(saved: Path) -> bytes:
    """Convert a SavedModel to .tflite: three signatures, built-in operations only.

    Weights stay float32. The converter's float16 would also round the block transform, whose phases
    need all 24 bits.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved), signature_keys=list(SIGNATURES)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    model: bytes = converter.convert()
    return model


def with_metadata(model: bytes, record: VersionRecord) -> bytes:
    """Add the version record to the metadata of a .tflite, under the name `METADATA`."""
    from tensorflow.lite.python import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(record).encode(), dtype=np.uint8)
    tree.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA, len(tree.buffers) - 1
    tree.metadata = [*(tree.metadata or []), entry]
    builder = schema.flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read_metadata(model: bytes) -> VersionRecord | None:
    """Read the version record of a .tflite; None if it has none."""
    from tensorflow.lite.python import schema_py_generated as schema

    root = schema.Model.GetRootAs(model, 0)
    for index in range(root.MetadataLength()):
        if root.Metadata(index).Name() == METADATA.encode():
            record: VersionRecord = json.loads(
                root.Buffers(root.Metadata(index).Buffer()).DataAsNumpy().tobytes()
            )
            return record
    return None


def digest(path: Path) -> str:
    """Hash a file, or all files of a folder, with SHA-256.

    For a folder: over each file's relative path and content, in the order of the paths.
    """
    total = hashlib.sha256()
    files: Iterable[Path] = (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    )
    for file in files:
        if path.is_dir():
            total.update(file.relative_to(path).as_posix().encode() + b"\0")
        total.update(file.read_bytes())
    return total.hexdigest()


def signature_table(saved: Path) -> dict[str, SignatureShapes]:
    """Read the inputs and outputs of every signature from a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    signatures = parsed.meta_graphs[0].signature_def

    def described(tensors: Any) -> dict[str, TensorShape]:
        return {
            name: {
                "dtype": tf.as_dtype(tensors[name].dtype).name,
                "shape": [dim.size for dim in tensors[name].tensor_shape.dim],
            }
            for name in sorted(tensors)
        }

    return {
        name: {
            "inputs": described(signatures[name].inputs),
            "outputs": described(signatures[name].outputs),
        }
        for name in SIGNATURES
    }


def trial(height: int, width: int, top: int, seed: int) -> EmbedRequest:
    """Make a request: dark noise around a bright disc, and arbitrary phases to embed.

    Parameters
    ----------
    height, width : int
        Pixels.
    top : int
        Highest legal grey level; the lowest is 0.
    seed : int
        The same seed gives the same request.
    """
    random = np.random.default_rng(seed)
    row, column = np.ogrid[:height, :width]
    disc = ((row - height / 2) / height) ** 2 + ((column - width / 2) / width) ** 2 < 0.1
    noise = np.abs(random.normal(0, 6, (height, width)))
    pixels = np.where(disc, random.integers(top // 3, top, (height, width)), noise).astype(
        np.int32
    )[np.newaxis]
    blocks = (height // SIDE, width // SIDE)
    return EmbedRequest(
        pixels=pixels,
        legal=np.array([[0, top]], np.int32),
        padding=np.array([-1], np.int32),
        phases=random.integers(0, PHASES, (1, *blocks, COEFFICIENTS), dtype=np.uint8),
        slots=random.integers(0, 40, (1, *blocks), dtype=np.int32),
        coefficients=np.ones((1, COEFFICIENTS), np.float32),
        step=np.array([6.7], np.float32),
        votes=np.array([3], np.int32),
        margin=np.array([6], np.int32),
    )


def check(engine: Engine) -> None:
    """Run an engine on trial planes and compare it with the reference.

    Raises
    ------
    ExportError
        A result differs by more than float32 rounding explains.
    """
    for seed, (height, width, top) in enumerate(
        [(256, 256, 4095), (130, 75, 65535), (64, 96, 255)]
    ):
        _check_one(engine, trial(height, width, top, seed))


def _check_one(engine: Engine, request: EmbedRequest) -> None:
    size = "{} x {} pixels".format(*request.pixels.shape[1:])
    embedded = engine.embed(request)
    reference = ReferenceEngine(lambda _: embedded.mask[0])
    wanted = reference.embed(request)
    if (
        np.mean(wanted.carriers != embedded.carriers) > 1e-3
        or np.mean(wanted.stego != embedded.stego) > 1e-3
    ):
        raise ExportError(f"{engine.name}: embedding {size} differs from the reference")
    measured = engine.extract(embedded.stego, request.step)
    expected = reference.extract(embedded.stego, request.step)
    if np.abs((measured.phases - expected.phases).astype(np.int8)).max() > 1:
        raise ExportError(f"{engine.name}: phases of {size} differ from the reference")
    if not np.array_equal(engine.segment(request.pixels).mask, embedded.mask):
        raise ExportError(f"{engine.name}: segment and embed outline different bodies")
