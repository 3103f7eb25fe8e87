"""Every configuration is read as its program would read it."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from coverslip.cli import _parser
from coverslip.models import ModelKind, find_model
from coverslip_serving._stubs.ssl_config_pb2 import SslConfig
from tests.paths import ROOT

pytestmark = pytest.mark.slow
"""These tests start servers."""

DEPLOY = ROOT / "serving" / "deploy"
MANIFESTS = [
    (path.name, item)
    for path in sorted(DEPLOY.glob("kubernetes/*.yaml"))
    for item in yaml.safe_load_all(path.read_text())
]


def message(name, module):
    """A message of TensorFlow Serving's: its own where its Python package has it, else as
    tensorflow_serving.proto here restates it.
    """
    try:
        return getattr(importlib.import_module(f"tensorflow_serving.{module}"), name)
    except ModuleNotFoundError:
        return restated()[f"restated.{name}"]


@cache
def restated():
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "set"
        words = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{here}",
            f"--descriptor_set_out={target}",
            "--include_imports",
        ]
        subprocess.run([*words, "tensorflow_serving.proto"], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    return message_factory.GetMessageClassesForFiles(
        [f.name for f in files if pool.Add(f) or f.package == "restated"], pool
    )


def test_the_models_config_is_tensorflow_serving_s_and_its_labels_name_loaded_versions():
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    config = text_format.Parse(
        (DEPLOY / "models.config").read_text(), config_pb2.ModelServerConfig()
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("coverslip", "tensorflow")
    assert set(model.version_labels) == {"stable", "canary"}
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) <= versions
    there = find_model(ModelKind.TENSORFLOW).parent
    assert all((there / str(number) / "saved_model.pb").is_file() for number in versions)


def test_the_stand_in_serves_the_models_config(tmp_path):
    pytest.importorskip("tensorflow_serving")
    from coverslip_serving.model_server import read_config
    from coverslip_serving.saved_models import Models

    path = tmp_path / "models.config"
    text = (DEPLOY / "models.config").read_text()
    path.write_text(text.replace("/models/coverslip", str(find_model(ModelKind.TENSORFLOW).parent)))
    models = Models()
    models.configure(read_config(path))
    model = read_config(path).model_config_list.config[0]
    assert (
        models.find(
            type(
                "Spec",
                (),
                {
                    "name": "coverslip",
                    "version_label": "stable",
                    "WhichOneof": lambda *_: "version_label",
                },
            )
        )[1]
        == (model.version_labels["stable"])
    )


def test_the_batching_parameters_are_tensorflow_serving_s():
    kind = message("BatchingParameters", "servables.tensorflow.session_bundle_config_pb2")
    parameters = text_format.Parse((DEPLOY / "batching_parameters.txt").read_text(), kind())
    assert parameters.max_batch_size.value > 1 and parameters.num_batch_threads.value >= 1


def test_the_monitoring_config_is_tensorflow_serving_s():
    config = text_format.Parse(
        (DEPLOY / "monitoring.config").read_text(),
        message("MonitoringConfig", "config.monitoring_config_pb2")(),
    )
    assert config.prometheus_config.enable and config.prometheus_config.path.startswith("/")


def test_a_field_that_tensorflow_serving_does_not_know_is_noticed():
    kind = message("BatchingParameters", "servables.tensorflow.session_bundle_config_pb2")
    with pytest.raises(text_format.ParseError, match="max_batch"):
        text_format.Parse("max_batch { value: 8 }", kind())


def test_the_ssl_config_that_is_written_is_tensorflow_serving_s(tmp_path):
    """That a server takes it and clients come in by it: test_model_server_tls.py."""
    files = []
    for name in ("key", "certificate", "roots"):
        files.append(tmp_path / name)
        files[-1].write_text(f"-----BEGIN {name}-----\nab+/=\n-----END {name}-----\n")
    done = subprocess.run(
        [DEPLOY / "write_ssl_config.sh", *files], capture_output=True, text=True, check=True
    )
    config = text_format.Parse(done.stdout, SslConfig())
    assert [config.server_key, config.server_cert, config.custom_ca] == [
        file.read_text() for file in files
    ]
    assert config.client_verify


@pytest.mark.parametrize(
    ("file", "manifest"), MANIFESTS, ids=[f"{file}-{item['kind']}" for file, item in MANIFESTS]
)
def test_every_manifest_keeps_its_schema(file, manifest):
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_a_manifest_that_breaks_its_schema_is_noticed():
    manifest = next(item for _, item in MANIFESTS if item["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**manifest, "spec": {**manifest["spec"], "replica": 2}}, "1.31", strict=True
        )


def test_each_part_has_every_kind_of_manifest_and_they_name_each_other():
    for part in ("gateway", "model-server"):
        items = {item["kind"]: item for file, item in MANIFESTS if file == f"{part}.yaml"}
        assert set(items) == {
            "Deployment",
            "Service",
            "HorizontalPodAutoscaler",
            "PodDisruptionBudget",
            "NetworkPolicy",
        }
        label = items["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert items["Service"]["spec"]["selector"] == label
        assert items["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == label
        assert items["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
        assert (
            items["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
            == items["Deployment"]["metadata"]["name"]
        )


def arguments_of_the_gateway():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["gateway"][
        "command"
    ]
    deployment = next(
        item for file, item in MANIFESTS if file == "gateway.yaml" and item["kind"] == "Deployment"
    )
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
