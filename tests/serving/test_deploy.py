"""Every configuration is read as its program would read it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from coverslip.cli import _parser
from coverslip.models import ModelKind, find_model

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "serving" / "deploy"
MANIFESTS = [(path.name, item) for path in sorted(DEPLOY.glob("kubernetes/*.yaml")) for item in yaml.safe_load_all(path.read_text())]
TYPES = descriptor_pb2.FieldDescriptorProto


def message(name, **fields):
    """A message of TensorFlow Serving's that its Python package leaves out: fields as (number, type), from its .proto."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    described = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        repeated = kind.startswith("repeated ")
        label = TYPES.LABEL_REPEATED if repeated else TYPES.LABEL_OPTIONAL
        single = kind.removeprefix("repeated ")
        added = described.field.add(name=field, number=number, label=label)
        if single[0].isupper():
            added.type, added.type_name = TYPES.TYPE_MESSAGE, f".google.protobuf.{single}"
        else:
            added.type = TYPES.Type.Value(f"TYPE_{single.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))


def test_the_models_config_is_tensorflow_serving_s_and_its_labels_name_loaded_versions():
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    config = text_format.Parse((DEPLOY / "models.config").read_text(), config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("coverslip", "tensorflow")
    assert set(model.version_labels) == {"stable", "canary"}
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) <= versions
    there = find_model(ModelKind.TENSORFLOW).parent
    assert all((there / str(number) / "saved_model.pb").is_file() for number in versions)


def test_the_stand_in_serves_the_models_config(tmp_path):
    pytest.importorskip("tensorflow_serving")
    from coverslip.serving.model_server import Models, read_config

    path = tmp_path / "models.config"
    text = (DEPLOY / "models.config").read_text()
    path.write_text(text.replace("/models/coverslip", str(find_model(ModelKind.TENSORFLOW).parent)))
    models = Models()
    models.configure(read_config(path))
    model = read_config(path).model_config_list.config[0]
    assert models.find(type("Spec", (), {"name": "coverslip", "version_label": "stable", "WhichOneof": lambda *_: "version_label"}))[1] == (
        model.version_labels["stable"]
    )


def test_the_batching_parameters_are_tensorflow_serving_s():
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    fields = {name: (number, "Int64Value") for number, name in enumerate(names, 1)}
    kind = message("BatchingParameters", **fields, thread_pool_name=(5, "StringValue"), allowed_batch_sizes=(6, "repeated int64"))
    parameters = text_format.Parse((DEPLOY / "batching_parameters.txt").read_text(), kind())
    assert parameters.max_batch_size.value > 1 and parameters.num_batch_threads.value >= 1


def test_the_monitoring_config_is_tensorflow_serving_s():
    text = (DEPLOY / "monitoring.config").read_text()
    inside = re.fullmatch(r"prometheus_config \{(.*)\}\s*", text, re.DOTALL)
    assert inside
    config = text_format.Parse(inside[1], message("PrometheusConfig", enable=(1, "bool"), path=(2, "string"))())
    assert config.enable and config.path.startswith("/")


def test_the_ssl_config_that_is_written_is_tensorflow_serving_s(tmp_path):
    files = []
    for name in ("key", "certificate", "roots"):
        files.append(tmp_path / name)
        files[-1].write_text(f"-----BEGIN {name}-----\nab+/=\n-----END {name}-----\n")
    done = subprocess.run([DEPLOY / "write_ssl_config.sh", *files], capture_output=True, text=True, check=True)
    fields = {"server_key": (1, "string"), "server_cert": (2, "string"), "custom_ca": (3, "string"), "client_verify": (4, "bool")}
    config = text_format.Parse(done.stdout, message("SSLConfig", **fields)())
    assert [config.server_key, config.server_cert, config.custom_ca] == [file.read_text() for file in files]
    assert config.client_verify


@pytest.mark.parametrize(("file", "manifest"), MANIFESTS, ids=[f"{file}-{item['kind']}" for file, item in MANIFESTS])
def test_every_manifest_keeps_its_schema(file, manifest):
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_a_manifest_that_breaks_its_schema_is_noticed():
    manifest = next(item for _, item in MANIFESTS if item["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**manifest, "spec": {**manifest["spec"], "replica": 2}}, "1.31", strict=True)


def test_each_part_has_every_kind_of_manifest_and_they_name_each_other():
    for part in ("gateway", "model-server"):
        items = {item["kind"]: item for file, item in MANIFESTS if file == f"{part}.yaml"}
        assert set(items) == {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy"}
        label = items["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert items["Service"]["spec"]["selector"] == label
        assert items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == label
        assert items["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
        assert items["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == items["Deployment"]["metadata"]["name"]


def arguments_of_the_gateway():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway"]["command"]
    deployment = next(item for file, item in MANIFESTS if file == "gateway.yaml" and item["kind"] == "Deployment")
    return [compose, deployment["spec"]["template"]["spec"]["containers"][0]["args"]]


@pytest.mark.parametrize("words", arguments_of_the_gateway(), ids=["compose", "kubernetes"])
def test_the_gateway_understands_its_arguments(words):
    parsed = _parser("serve").parse_args(["serve", *words])
    assert parsed.tf_serving and parsed.allow and parsed.spool and not parsed.plaintext


def test_what_the_images_copy_is_there():
    for name in ("gateway", "model-server"):
        text = (DEPLOY / f"{name}.Dockerfile").read_text().replace("\\\n", " ")
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
            assert all((ROOT / source).exists() for source in shlex.split(line)[:-1])
