"""The way from the gateway to the model server under TLS, with certificates on both sides."""

from __future__ import annotations

import subprocess
import sys

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coverslip_serving import Client
from coverslip_serving.credentials import Credentials
from coverslip_serving.errors import EngineUnavailableError, RemoteError
from coverslip_serving.ssl_config import read_ssl_config
from coverslip_serving.tf_serving import TfServingEngine
from tests.paths import ROOT
from tests.serving.conftest import running
from tests.serving.test_access import Authority

pytestmark = pytest.mark.slow
"""These tests start servers."""

pytest.importorskip("tensorflow_serving")

SCRIPT = ROOT / "serving" / "deploy" / "write_ssl_config.sh"
PAIR = 'server_key: "x" server_cert: "x"'
PIXELS = np.zeros((1, 64, 64), np.int32)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("inside"), "roots")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("outside"), "others")


@pytest.fixture(scope="module")
def ssl_config(authority):
    certificate, key = authority.issue("model-server")
    done = subprocess.run(
        [SCRIPT, key, certificate, authority.roots], capture_output=True, text=True, check=True
    )
    path = authority.folder / "ssl.config"
    path.write_text(done.stdout)
    return path


@pytest.fixture(scope="module")
def server(ssl_config):
    with running(
        "model-server", "--listen", "localhost:0", "--ssl-config-file", ssl_config, ready=False
    ) as server:
        yield server


def test_the_gateway_works_through_it(server, authority, cover, identity):
    certificate, key = authority.issue("gateway")
    words = ["--tf-serving", server.address(), "--tf-serving-roots", authority.roots]
    words += ["--tf-serving-certificate", certificate, "--tf-serving-key", key]
    with (
        running("serve", "--listen", "127.0.0.1:0", *words) as gateway,
        Client(gateway.address()) as client,
    ):
        stego = client.embed(cover, identity.recipient).instance
        assert len(client.extract(stego, identity).record) > 20


def refused(server, tls):
    engine = TfServingEngine(server.address(), timeout=1.0, tls=tls)
    try:
        with pytest.raises(EngineUnavailableError):
            engine.segment(PIXELS)
    finally:
        engine.close()


def test_a_server_that_others_signed_is_not_spoken_to(server, authority, stranger):
    certificate, key = authority.issue("gateway")
    refused(server, Credentials(stranger.roots, certificate, key))


def test_a_gateway_without_a_certificate_of_theirs_is_not_answered(server, authority, stranger):
    refused(server, Credentials(authority.roots))
    refused(server, Credentials(authority.roots, *stranger.issue("gateway")))
    refused(server, None)
    # With the right certificate the same server answers, in the same time.
    engine = TfServingEngine(
        server.address(), timeout=20, tls=Credentials(authority.roots, *authority.issue("gateway"))
    )
    assert engine.segment(PIXELS).mask.shape == PIXELS.shape
    engine.close()


def test_a_gateway_that_does_not_trust_its_model_server_is_not_ready_and_says_so(
    server, stranger, cover
):
    words = [
        "--tf-serving",
        server.address(),
        "--tf-serving-roots",
        stranger.roots,
        "--tf-serving-seconds",
        "1",
    ]
    with running("serve", "--listen", "127.0.0.1:0", *words, ready=False) as gateway:
        with grpc.insecure_channel(gateway.address()) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=10
            )
        with Client(gateway.address()) as client, pytest.raises(RemoteError) as refusal:
            client.segment(cover)
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (refusal.value.status, refusal.value.code) == ("UNAVAILABLE", "not-ready")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("server_key: 1", "SslConfig"),
        ('server_key: "SECRET"', "server_cert"),
        ("SECRET", "SslConfig"),
        (f"{PAIR} client_verify: true", "custom_ca"),
    ],
    ids=["wrong type", "no certificate", "not the format", "nobody signs"],
)
def test_an_ssl_config_that_is_none_is_refused_without_quoting_it(tmp_path, text, sentence):
    path = tmp_path / "ssl.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence) as refused:
        read_ssl_config(path)
    assert "SECRET" not in str(refused.value)
    words = [
        sys.executable,
        "-m",
        "coverslip",
        "model-server",
        "--listen",
        "0.0.0.0:0",
        "--ssl-config-file",
        str(path),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_plain_text_stays_on_loopback():
    words = [sys.executable, "-m", "coverslip", "model-server", "--listen", "0.0.0.0:0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "loopback" in done.stderr
