from __future__ import annotations

import datetime
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coverslip import errors as core
from coverslip_serving import (
    Client,
    Credentials,
    CredentialsError,
    CredentialsProblem,
    RemoteError,
)
from coverslip_serving import errors as serving
from coverslip_serving.access import Access, Right, is_loopback
from coverslip_serving.errors import BadRequestError, NotAllowedError
from coverslip_serving.log import Log
from coverslip_serving.status import STATUS_OF
from tests.paths import ROOT
from tests.serving.conftest import running

pytestmark = pytest.mark.slow
"""These tests start servers."""

SERVERS = ("gateway", "model-server")


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.roots = folder / f"{name}.pem"
        self._write(
            self.roots,
            self._sign(
                self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None)
            ),
        )

    def _sign(self, subject, public, *extensions):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
        )
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(
            now - datetime.timedelta(days=1)
        )
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(
                extension, critical=isinstance(extension, x509.BasicConstraints)
            )
        return builder.sign(self._key, hashes.SHA256())

    @staticmethod
    def _write(path, certificate):
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [x509.DNSName(name), x509.DNSName("localhost")]
            if name in SERVERS
            else [x509.DNSName(name)]
        )
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody")])
        certificate, private = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        self._write(certificate, self._sign(subject, key.public_key(), names))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private


def test_certificates_and_rights_decide_who_may_do_what(tmp_path, cover, identity):
    authority, stranger = Authority(tmp_path, "roots"), Authority(tmp_path, "others")
    certificate, key = authority.issue("gateway")
    allow = tmp_path / "allow.json"
    allow.write_text(
        json.dumps({"clients": {"ris.example.org": ["embed"], "desk.example.org": ["extract"]}})
    )
    words = [
        "--tls-certificate",
        certificate,
        "--tls-key",
        key,
        "--tls-client-roots",
        authority.roots,
        "--allow",
        allow,
    ]
    with running("serve", "--listen", "localhost:0", *words) as server:
        target = server.address()

        def client(name, by=authority):
            return Client(target, Credentials(authority.roots, *by.issue(name)), timeout=20)

        with (
            client("ris.example.org") as ris,
            client("desk.example.org") as desk,
            client("new.example.org") as new,
        ):
            stego = ris.embed(cover, identity.recipient).instance
            assert len(desk.extract(stego, identity).record) > 20
            assert ris.segment(cover).masks.any() and desk.segment(cover).masks.any()
            for call in (
                lambda: ris.extract(stego, identity),
                lambda: desk.embed(cover, identity.recipient),
                lambda: new.segment(cover),
            ):
                with pytest.raises(RemoteError) as refused:
                    call()
                assert (refused.value.status, refused.value.code) == (
                    "PERMISSION_DENIED",
                    "not-allowed",
                )
            with pytest.raises(RemoteError) as refused:
                list(ris.extract_series([("x", cover)], identity))
            assert refused.value.status == "PERMISSION_DENIED"
        for wrong, problem in (
            (client("ris.example.org", stranger), CredentialsProblem.CLIENT_NOT_ACCEPTED),
            (Client(target, timeout=5), CredentialsProblem.TLS_EXPECTED),
        ):
            with wrong, pytest.raises(CredentialsError) as failed:
                wrong.segment(cover)
            assert failed.value.problem is problem
        assert server.wait_for("call", method="Embed", status="OK")["client"] == "ris.example.org"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--listen", "0.0.0.0:0"], "loopback"),
        (["--listen", "example.org:1"], "loopback"),
        (["--tls-key", "x"], "belong together"),
        (["--listen", "127.0.0.1"], "HOST:PORT"),
        (["--tf-serving-roots", "x"], "name it too"),
        (["--tf-serving", "x:1", "--tf-serving-certificate", "x"], "name all three"),
    ],
)
def test_what_is_not_safe_or_makes_no_sense_is_refused_at_the_start(words, sentence):
    done = subprocess.run(
        [sys.executable, "-m", "coverslip", "serve", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_is_not_there_ends_the_gateway_with_a_sentence(tmp_path):
    words = [
        sys.executable,
        "-m",
        "coverslip",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--model",
        str(tmp_path / "no.tflite"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (
        done.returncode == 1
        and "there is no model" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1:1", True),
        ("127.8.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/tmp/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
    ],
)
def test_loopback(address, near):
    assert is_loopback(address) is near


def test_the_allow_list(tmp_path):
    path = tmp_path / "allow.json"
    for text in ("", "[]", '{"clients": []}', '{"clients": {"a": ["everything"]}}'):
        path.write_text(text)
        with pytest.raises(BadRequestError):
            Access.read(path)
    path.write_text('{"clients": {"a": ["embed"]}}')
    access = Access.read(path)
    assert access.check(["b", "a"], frozenset({Right.EMBED})) == "a"
    for names in ([], ["b"], ["A"]):
        with pytest.raises(NotAllowedError):
            access.check(names, frozenset(Right))


def test_every_error_that_a_server_can_meet_has_a_status():
    kinds = {
        k
        for module in (core, serving)
        for k in vars(module).values()
        if isinstance(k, type) and issubclass(k, core.CoverslipError)
    }
    assert len(kinds) > 25
    # Training and export meet errors of their own, and no server imports them.
    files = [
        ROOT / "graph" / "coverslip_graph" / "engine.py",
        *(
            path
            for part in ("coverslip", "edge", "serving")
            for path in (ROOT / part).rglob("*.py")
        ),
    ]
    apart = {"errors.py", "cli", "node_modules"}
    text = "\n".join(path.read_text() for path in files if not apart & set(path.parts))
    met = {
        kind
        for kind in kinds
        if kind.__module__ != core.__name__ or re.search(rf"\b{kind.__name__}\b", text)
    }
    assert len(met) > 25 and not {kind.code for kind in met} - set(STATUS_OF)


def test_the_log_takes_listed_fields_and_no_messages():
    stream = io.StringIO()
    log = Log(stream)
    with pytest.raises(ValueError, match="patient"):
        log.write("call", patient="DOE^JANE")
    try:
        raise RuntimeError("DOE^JANE")
    except RuntimeError as error:
        log.unexpected(error, "1")
    line = json.loads(stream.getvalue())
    assert (
        line["error"] == "RuntimeError"
        and "test_the_log" in line["where"]
        and "DOE" not in stream.getvalue()
    )
