"""Opening on the server: over TLS with client certificates, for those with the right, where the
operator gave a key.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from coverslip.crypto.keys import Identity
from coverslip.pipeline import Binding, Carried
from coverslip_serving import Client, Credentials
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.errors import RemoteError
from coverslip_serving.gateway import Settings
from coverslip_serving.opening import Opener
from tests.serving.conftest import running
from tests.serving.test_access import Authority

pytestmark = pytest.mark.slow
"""These tests start servers."""

RIGHTS = {"ris": ["embed"], "desk": ["extract"], "archive": ["extract", "open"], "half": ["open"]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("opening"), "roots")


@pytest.fixture(scope="module")
def connect(authority):
    """Credentials by client name."""
    issued = {name: Credentials(authority.roots, *authority.issue(name)) for name in RIGHTS}

    @contextmanager
    def to(server, name):
        with Client(server.address(), issued[name], timeout=30) as client:
            yield client

    return to


@pytest.fixture(scope="module")
def words(authority):
    allow = authority.folder / "allow.json"
    allow.write_text(json.dumps({"clients": RIGHTS}))
    certificate, key = authority.issue("gateway")
    files = [
        "--tls-certificate",
        certificate,
        "--tls-key",
        key,
        "--tls-client-roots",
        authority.roots,
        "--allow",
        allow,
    ]
    return ["serve", "--listen", "localhost:0", *files]


@pytest.fixture(scope="module")
def opening(words, authority, identity):
    for name, key in (("archive.key", identity), ("other.key", Identity.generate())):
        key.write(authority.folder / name)
    with running(
        *words,
        "--metrics",
        "127.0.0.1:0",
        "--open-with",
        authority.folder / "archive.key",
        "--open-with",
        authority.folder / "other.key",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def stego(opening, connect, cover, identity):
    with connect(opening, "ris") as ris:
        return ris.embed(cover, identity.recipient).instance


def refusal(call):
    with pytest.raises(RemoteError) as refused:
        call()
    return refused.value.status, refused.value.code


def test_a_certificate_with_the_right_gets_the_record_opened_and_the_instance_restored(
    opening, connect, cover, identity, stego
):
    with connect(opening, "archive") as archive:
        opened = archive.extract_opened(stego, identity.recipient, restore=True)
        assert archive.extract_opened(stego, identity.recipient).restored == b""
    original, restored = dcmread(cover), dcmread(io.BytesIO(opened.restored))
    assert (
        Dataset.from_json(opened.attributes).PatientName
        == restored.PatientName
        == original.PatientName
    )
    assert original.PatientID not in repr(opened)


def test_a_series_is_opened_too_and_restored_by_the_caller(
    opening, connect, authority, identity, stego
):
    parts = [
        pb.ExtractSeriesRequest(
            options=pb.ExtractOptions(recipient=str(identity.recipient), open=True)
        ),
        pb.ExtractSeriesRequest(start=pb.InstanceStart(label="x")),
        pb.ExtractSeriesRequest(chunk=stego),
        pb.ExtractSeriesRequest(end=pb.InstanceEnd()),
    ]
    own = [path.read_bytes() for path in (authority.roots, *reversed(authority.issue("archive")))]
    with grpc.secure_channel(opening.address(), grpc.ssl_channel_credentials(*own)) as channel:
        (answer,) = CoverslipServiceStub(channel).ExtractSeries(iter(parts), timeout=30)
        parts[0].options.restore = True
        with pytest.raises(grpc.RpcError) as refused:
            list(CoverslipServiceStub(channel).ExtractSeries(iter(parts), timeout=30))
    assert "00100020" in json.loads(answer.record.record)
    assert (
        refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        and "restore" in refused.value.details()
    )


def bindings(server):
    with urllib.request.urlopen(f"http://{server.address('metrics')}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    name = "coverslip_binding_total{binding="
    rows = (line[len(name) :].split("} ") for line in lines if line.startswith(name))
    return {binding.strip('"'): float(value) for binding, value in rows}


def test_the_original_is_restored_and_the_answer_says_so(opening, connect, cover, identity, stego):
    before = bindings(opening).get("verified", 0)
    with connect(opening, "archive") as archive:
        opened = archive.extract_opened(stego, identity.recipient, restore=True)
    assert (opened.carried, opened.binding, opened.changes) == (
        Carried.PIXELS,
        Binding.VERIFIED,
        (),
    )
    assert opened.restored_as in ("original", "original-file")
    assert opened.not_original_because == opened.refused == ()
    original, restored = dcmread(cover), dcmread(io.BytesIO(opened.restored))
    assert np.array_equal(original.pixel_array, restored.pixel_array)
    assert original.SOPInstanceUID == restored.SOPInstanceUID
    assert bindings(opening)["verified"] == before + 1


def test_a_changed_instance_is_opened_and_restored_only_if_that_is_asked_for(
    opening, connect, identity, stego
):
    dataset = dcmread(io.BytesIO(stego))
    dataset.decompress(generate_instance_uid=False)
    planes = dataset.pixel_array.copy()
    planes[256, 256] += 1
    dataset.PixelData = planes.tobytes()
    file = io.BytesIO()
    dataset.save_as(file)
    changed = file.getvalue()
    with connect(opening, "archive") as archive:
        opened = archive.extract_opened(changed, identity.recipient)
        assert opened.binding is Binding.CHANGED and opened.changes == ("body-pixels", "pixels")
        call = lambda: archive.extract_opened(changed, identity.recipient, restore=True)  # noqa: E731
        assert refusal(call) == ("FAILED_PRECONDITION", "changed")
        forced = archive.extract_opened(
            changed, identity.recipient, restore=True, even_if_changed=True
        )
        with pytest.raises(RemoteError, match="restore") as refused:
            archive.extract_opened(changed, identity.recipient, even_if_changed=True)
        assert refused.value.code == "bad-request"
    assert (forced.binding, forced.restored_as) == (Binding.CHANGED, "identity")
    assert forced.not_original_because == ("pixels-changed",)
    restored = dcmread(io.BytesIO(forced.restored))
    assert restored.ImageType[0] == "DERIVED" and restored.PatientID
    assert bindings(opening)["changed"] >= 2


def test_a_report_is_opened_and_restored_to_the_byte(opening, connect, identity):
    content = Path(get_testdata_file("reportsi.dcm", download=False)).read_bytes()
    with connect(opening, "ris") as ris:
        done = ris.embed(content, identity.recipient)
    with connect(opening, "archive") as archive:
        opened = archive.extract_opened(done.instance, identity.recipient, restore=True)
    assert (opened.carried, opened.binding) == (Carried.HEADER, Binding.VERIFIED)
    assert opened.restored_as == "original-file" and opened.restored == content


@pytest.mark.parametrize("name", ["desk", "ris", "half"])
def test_without_both_rights_nothing_is_opened(opening, connect, name, identity, stego):
    with connect(opening, name) as client:
        assert refusal(lambda: client.extract_opened(stego, identity.recipient)) == (
            "PERMISSION_DENIED",
            "not-allowed",
        )


def test_the_right_to_open_does_not_embed_and_the_sealed_record_is_still_to_be_had(
    opening, connect, cover, identity, stego
):
    with connect(opening, "archive") as archive:
        assert refusal(lambda: archive.embed(cover, identity.recipient)) == (
            "PERMISSION_DENIED",
            "not-allowed",
        )
        assert len(archive.extract(stego, identity).record) > 20


def test_a_server_opens_for_the_identities_that_it_was_given_alone(opening, connect, stego):
    with connect(opening, "archive") as archive:
        call = lambda: archive.extract_opened(stego, Identity.generate().recipient)  # noqa: E731
        assert refusal(call) == ("FAILED_PRECONDITION", "cannot-open")


def test_a_server_without_keys_says_so(words, connect, identity, stego):
    with running(*words) as server, connect(server, "archive") as archive:
        with pytest.raises(RemoteError, match="sealed record yourself") as refused:
            archive.extract_opened(stego, identity.recipient)
        assert (refused.value.status, refused.value.code) == ("FAILED_PRECONDITION", "cannot-open")
        assert len(archive.extract(stego, identity).record) > 20


def test_nothing_of_a_record_is_in_the_log(opening, connect, cover, identity, stego):
    with connect(opening, "archive") as archive:
        archive.extract_opened(stego, identity.recipient, restore=True, request_id="opened-once")
    assert opening.wait_for("call", request_id="opened-once")["client"] == "archive"
    original = dcmread(cover)
    text = json.dumps(opening.lines) + "".join(opening.other)
    for value in (
        original.PatientID,
        str(original.PatientName),
        str(identity.recipient),
        identity.secret.hex(),
    ):
        assert value not in text


def test_plain_text_with_keys_is_refused_at_the_start(authority, identity, opening):
    words = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--open-with",
        str(authority.folder / "archive.key"),
    ]
    for more in ([], ["--plaintext"]):
        done = subprocess.run(
            [sys.executable, "-m", "coverslip", *words, *more],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (
            done.returncode == 2
            and "certificates" in done.stderr
            and "Traceback" not in done.stderr
        )
    with pytest.raises(ValueError, match="allow-list"):
        Settings(opener=Opener({identity.recipient.public: identity}))


def test_a_key_that_others_may_read_ends_the_start(words, authority, identity):
    path = authority.folder / "open-to-all.key"
    identity.write(path)
    path.chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "coverslip", *map(str, words), "--open-with", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and "0644" in done.stderr and "Traceback" not in done.stderr
