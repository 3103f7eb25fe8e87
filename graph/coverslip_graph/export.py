"""From weights to the released model: a SavedModel and a .tflite with the same three signatures,
checked before they count.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from coverslip.engine import EmbedRequest, Engine, open_engine
from coverslip.errors import ExportError
from coverslip.models import latest_version
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.quantise import PHASES
from coverslip.scheme.reference import ReferenceEngine
from coverslip_graph.engine import SIGNATURES, TensorFlowEngine
from coverslip_graph.module import Coverslip, Outliner

METADATA = "coverslip.json"
"""Name of the version record in the SavedModel's assets.extra, and of the metadata entry in the
.tflite.
"""


WARM_UP = "tf_serving_warmup_requests"
"""Name that TensorFlow Serving looks for in assets.extra."""


def export(
    network: Outliner, out: Path, version: int, source: str = "", force: bool = False
) -> dict[str, Any]:
    """Write and check both forms of the model.

    Parameters
    ----------
    network : Outliner
        The trained network.
    out : Path
        Gets ``coverslip/<version>/``, ``coverslip.tflite`` and ``model.json``. Other versions stay
        where they are.
    version : int
        One number for both forms, at least 1.
    source : str
        SHA-256 of the weights, for the record.
    force : bool
        Take the place of a version that was made of other weights, or of a higher one in the
        .tflite.

    Returns
    -------
    dict
        What ``model.json`` holds.

    Raises
    ------
    ExportError
        A signature is missing, a runtime does not agree with the reference, or something else is in
        the model's place.
    """
    if not force:
        _refuse_another(out, version, source)
    record = {"name": "coverslip", "version": version, "weights_sha256": source}
    with tempfile.TemporaryDirectory(dir=_folder(out)) as made:
        saved, lite = Path(made) / "saved", Path(made) / "coverslip.tflite"
        save(network, saved, record)
        lite.write_bytes(with_metadata(convert(saved), record))
        check(TensorFlowEngine(saved))
        check(open_engine("litert", lite))
        record |= {
            "savedmodel_sha256": digest(saved),
            "tflite_sha256": digest(lite),
            "signatures": signature_table(saved),
        }
        _replace(saved, out / "coverslip" / str(version))
        _replace(lite, out / "coverslip.tflite")
    (out / "model.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def _refuse_another(out: Path, version: int, source: str) -> None:
    """Refuse where the version's number stands for other weights already, or is not the highest:
    both forms shall carry one number.
    """
    versions = out / "coverslip"
    highest = latest_version(versions) if versions.is_dir() else None
    if highest is not None and int(highest.name) > version:
        raise ExportError(
            f"{versions} holds version {highest.name}, and TensorFlow Serving serves the highest: "
            f"expected a version from {highest.name} on; choose one, or use --force"
        )
    place = versions / str(version) / "assets.extra" / METADATA
    if (versions / str(version)).exists():
        held = json.loads(place.read_text()).get("weights_sha256") if place.is_file() else None
        if held != source:
            raise ExportError(
                f"{versions / str(version)} was made of other weights and is not replaced: "
                "choose the next version, or use --force"
            )


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _replace(made: Path, place: Path) -> None:
    _folder(place.parent)
    if place.is_dir():
        shutil.rmtree(place)
    made.replace(place)


def save(network: Outliner, folder: Path, record: dict[str, Any]) -> None:
    """Write the SavedModel with its three signatures; the version record and warm-up requests go
    into assets.extra.
    """
    module = Coverslip(network)
    tf.saved_model.save(
        module, str(folder), signatures={name: getattr(module, name) for name in SIGNATURES}
    )
    extra = _folder(folder / "assets.extra")
    (extra / METADATA).write_text(json.dumps(record) + "\n")
    with tf.io.TFRecordWriter(str(extra / WARM_UP)) as writer:
        for request in warm_up():
            writer.write(request.SerializeToString())


def warm_up() -> Iterator[Any]:
    """One ``PredictionLog`` for each signature, which TensorFlow Serving runs before it says that
    the model is there.
    """
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
    """The .tflite of a SavedModel: its three signatures, built-in operations only.

    Weights stay float32. The converter's float16 would also round the block transform, whose phases
    need all 24 bits.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved), signature_keys=list(SIGNATURES)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    model: bytes = converter.convert()
    return model


def with_metadata(model: bytes, record: dict[str, Any]) -> bytes:
    """A .tflite with the version record in its metadata, under the name `METADATA`."""
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


def read_metadata(model: bytes) -> dict[str, Any]:
    """The version record in a .tflite; empty when there is none."""
    from tensorflow.lite.python import schema_py_generated as schema

    root = schema.Model.GetRootAs(model, 0)
    for index in range(root.MetadataLength()):
        if root.Metadata(index).Name() == METADATA.encode():
            record: dict[str, Any] = json.loads(
                root.Buffers(root.Metadata(index).Buffer()).DataAsNumpy().tobytes()
            )
            return record
    return {}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder: over each file's relative path and content, in order of
    the paths.
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


def signature_table(saved: Path) -> dict[str, Any]:
    """Names, types and shapes (-1 is any) of every signature's inputs and outputs."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((saved / "saved_model.pb").read_bytes())
    signatures = parsed.meta_graphs[0].signature_def

    def described(tensors: Any) -> dict[str, Any]:
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
    """A plane with dark noise around a bright disc, and something to embed in it.

    Parameters
    ----------
    height, width : int
        Pixels.
    top : int
        Highest legal grey level; the lowest is 0.
    seed : int
        Same seed, same plane.
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
    """Run an engine on trial planes and compare with the reference.

    Raises
    ------
    ExportError
        Something differs by more than float32 explains.
    """
    for seed, (height, width, top) in enumerate(
        [(256, 256, 4095), (130, 75, 65535), (64, 96, 255)]
    ):
        _check_one(engine, trial(height, width, top, seed))


def _check_one(engine: Engine, request: EmbedRequest) -> None:
    size = "{} x {} pixels".format(*request.pixels.shape[1:])
    embedded = engine.embed(request)
    mask = embedded.mask[0]

    def same_outline(_: NDArray[np.int32]) -> NDArray[np.uint8]:
        return mask

    reference = ReferenceEngine(same_outline)
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
