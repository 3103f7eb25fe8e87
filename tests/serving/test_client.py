"""A client's refusals before anything is sent, its certificates, and what it sends again."""

from __future__ import annotations

import socket
import time
from concurrent import futures
from dataclasses import dataclass, field
from itertools import islice
from threading import Event, Thread

import grpc
import pytest

from coverslip_serving import (
    Client,
    Credentials,
    CredentialsError,
    CredentialsProblem,
    RemoteError,
    UnknownProfileError,
)
from coverslip_serving._stubs.coverslip_pb2_grpc import (
    CoverslipServiceServicer,
    CoverslipServiceStub,
    add_CoverslipServiceServicer_to_server,
)
from coverslip_serving.connection import ATTEMPTS
from coverslip_serving.resending import pauses
from coverslip_serving.series import Replayable
from coverslip_serving.sizes import MIB
from tests.serving.conftest import repeat_frames, running
from tests.serving.test_access import Authority

pytestmark = pytest.mark.slow
"""These tests start servers."""


@dataclass
class Proxy(CoverslipServiceServicer):
    """Stands before a real gateway, and is unavailable for a number of calls.

    Attributes
    ----------
    gateway : CoverslipServiceStub
    address : str
        The real gateway's.
    refusals : int
        Calls that are still to be refused.
    after : int
        Answers of a refused stream that go out before it is refused.
    calls : list of list of bytes
        Chunks, or the instance, of every call that came.
    """

    gateway: CoverslipServiceStub
    address: str = ""
    refusals: int = 0
    after: int = 0
    calls: list = field(default_factory=list)

    def _refuse(self, context):
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    def Embed(self, request, context):
        self.calls.append([request.instance])
        self._refuse(context)
        return self.gateway.Embed(request)

    def EmbedSeries(self, requests, context):
        sent = list(requests)
        self.calls.append([request.chunk for request in sent if request.chunk])
        if not self.after:
            self._refuse(context)
        for number, answer in enumerate(self.gateway.EmbedSeries(iter(sent)), 1):
            yield answer
            if number == self.after:
                self._refuse(context)


@pytest.fixture
def proxied(gateway):
    """A client of a proxy that refuses as it is told; and that proxy."""
    whole = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(gateway.address(), whole) as channel:
        server = grpc.server(futures.ThreadPoolExecutor(4), options=whole)
        proxy = Proxy(CoverslipServiceStub(channel), gateway.address())
        add_CoverslipServiceServicer_to_server(proxy, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Client(f"127.0.0.1:{port}") as client:
            yield client, proxy
        server.stop(0).wait()


def test_a_profile_that_servers_do_not_have_is_refused_before_anything_is_sent(
    proxied, cover, identity, tmp_path
):
    client, proxy = proxied
    for call in (
        lambda: client.embed(cover, identity.recipient, "fant"),
        lambda: client.embed_file(cover, identity.recipient, "paper"),
        lambda: client.embed_to_file(cover, tmp_path / "stego.dcm", identity.recipient, "Faint"),
        lambda: client.embed_series([("x", cover)], identity.recipient, "fant"),
        lambda: client.extract(cover, identity, "fant"),
        lambda: client.extract_opened(cover, identity.recipient, "fant"),
        lambda: client.extract_file(cover, identity, "fant"),
        lambda: client.extract_series([("x", cover)], identity, "fant"),
    ):
        with pytest.raises(UnknownProfileError, match="faint, default, robust") as refused:
            call()
        assert refused.value.code == "unknown-profile"
    assert not proxy.calls and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "roots")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "others")


@pytest.fixture(scope="module")
def guarded(authority, tmp_path_factory):
    """A gateway that wants certificates."""
    allow = tmp_path_factory.mktemp("allow") / "allow.json"
    allow.write_text('{"clients": {"desk": ["embed"]}}')
    certificate, key = authority.issue("gateway")
    words = ["--tls-certificate", certificate, "--tls-key", key]
    words += ["--tls-client-roots", authority.roots, "--allow", allow]
    with running("serve", "--listen", "localhost:0", *words) as server:
        yield server


def test_files_that_are_no_certificates_are_refused_when_the_client_is_made(
    authority, stranger, tmp_path
):
    certificate, key = authority.issue("desk")
    _, other_key = stranger.issue("desk")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_bytes(b"\xff no certificate")
    missing = tmp_path / "missing.pem"
    for credentials, problem in (
        (Credentials(missing, certificate, key), CredentialsProblem.UNREADABLE),
        (Credentials(authority.roots, certificate, missing), CredentialsProblem.UNREADABLE),
        (Credentials(nonsense, certificate, key), CredentialsProblem.NOT_PEM),
        (Credentials(authority.roots, nonsense, key), CredentialsProblem.NOT_PEM),
        (Credentials(authority.roots, certificate, nonsense), CredentialsProblem.NOT_PEM),
        (Credentials(authority.roots, certificate, other_key), CredentialsProblem.NOT_PEM),
    ):
        with pytest.raises(CredentialsError, match="PEM") as refused:
            Client("localhost:1", credentials)
        assert (refused.value.problem, refused.value.code) == (problem, "credentials")


def test_a_handshake_that_fails_is_an_error_of_its_own_that_says_why(
    guarded, gateway, authority, stranger, cover
):
    own, others = authority.issue("desk"), stranger.issue("desk")
    for server, credentials, problem in (
        (guarded, Credentials(stranger.roots, *own), CredentialsProblem.SERVER_NOT_TRUSTED),
        (guarded, Credentials(authority.roots, *others), CredentialsProblem.CLIENT_NOT_ACCEPTED),
        (guarded, Credentials(authority.roots), CredentialsProblem.CLIENT_NOT_ACCEPTED),
        (guarded, None, CredentialsProblem.TLS_EXPECTED),
        (gateway, Credentials(authority.roots, *own), CredentialsProblem.NO_TLS),
    ):
        target = server.address().replace("127.0.0.1", "localhost")
        with Client(target, credentials) as client, pytest.raises(CredentialsError) as failed:
            client.segment(cover)
        assert failed.value.problem is problem and len(str(failed.value).split()) > 8
    with Client(guarded.address(), Credentials(authority.roots, *own)) as client:
        assert client.segment(cover).masks.any()


def test_a_name_that_the_certificate_does_not_hold_is_not_trusted(guarded, authority, cover):
    target = f"127.0.0.1:{guarded.address().rpartition(':')[2]}"
    credentials = Credentials(authority.roots, *authority.issue("desk"))
    with Client(target, credentials) as client, pytest.raises(CredentialsError) as failed:
        client.segment(cover)
    assert failed.value.problem is CredentialsProblem.SERVER_NOT_TRUSTED


def test_a_server_that_is_not_running_is_no_matter_of_certificates(authority, cover):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = f"localhost:{reserved.getsockname()[1]}"
        for credentials in (None, Credentials(authority.roots, *authority.issue("desk"))):
            with Client(target, credentials) as client, pytest.raises(RemoteError) as gone:
                client.segment(cover)
            assert gone.value.status == "UNAVAILABLE" and "cannot be reached" in str(gone.value)


def test_a_call_that_a_gateway_could_not_take_is_sent_again(proxied, cover, identity):
    client, proxy = proxied
    proxy.refusals = ATTEMPTS - 1
    stego = client.embed(cover, identity.recipient)
    assert stego.report.frames_carrying == 1
    assert proxy.calls == [[cover.read_bytes()]] * ATTEMPTS


def test_a_stream_is_sent_again_from_its_start_even_if_its_instances_come_once(
    proxied, cover, identity, tmp_path
):
    client, proxy = proxied
    long = repeat_frames(cover, 4, tmp_path / "long.dcm")
    assert long.stat().st_size > 2 * MIB
    proxy.refusals = 2
    once = ((label, path) for label, path in [("cover", cover), ("long", long)])
    results = list(client.embed_series(once, identity.recipient, timeout=60))
    assert [result.label for result in results] == ["cover", "long"]
    assert b"".join(proxy.calls[0]) == cover.read_bytes() + long.read_bytes()
    assert len(proxy.calls) == 3 and proxy.calls[0] == proxy.calls[1] == proxy.calls[2]
    proxy.refusals = 1
    client.embed_to_file(cover, tmp_path / "stego.dcm", identity.recipient)
    assert len(proxy.calls) == 5 and (tmp_path / "stego.dcm").exists()


@pytest.mark.parametrize("after", [1, 2])
def test_a_stream_of_which_an_answer_came_is_not_sent_again(
    proxied, cover, identity, tmp_path, after
):
    client, proxy = proxied
    proxy.refusals, proxy.after = 1, after
    with pytest.raises(RemoteError) as broken:
        client.embed_to_file(cover, tmp_path / "stego.dcm", identity.recipient)
    assert broken.value.status == "UNAVAILABLE" and len(proxy.calls) == 1
    assert not list(tmp_path.iterdir())


def test_attempts_end_with_their_number_or_with_the_caller_s_time(proxied, cover, identity):
    client, proxy = proxied
    proxy.refusals = 1000
    with pytest.raises(RemoteError, match="away") as gone:
        client.embed(cover, identity.recipient)
    assert gone.value.status == "UNAVAILABLE" and len(proxy.calls) == ATTEMPTS
    proxy.calls.clear()
    started = time.monotonic()
    with pytest.raises(RemoteError):
        list(client.embed_series([("x", cover)], identity.recipient, timeout=0.6))
    assert 1 < len(proxy.calls) < ATTEMPTS and time.monotonic() - started < 10


def test_other_errors_are_not_sent_again(gateway, cover, identity):
    with Client(gateway.address()) as client, pytest.raises(RemoteError):
        client.embed(b"no DICOM", identity.recipient, request_id="sent-once")
    gateway.wait_for("call", request_id="sent-once")
    assert sum(line.get("request_id") == "sent-once" for line in gateway.lines) == 1


def test_pauses_grow_to_a_limit_and_differ():
    sequences = [list(islice(pauses(), 8)) for _ in range(20)]
    for number, longest in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2)):
        drawn = {sequence[number] for sequence in sequences}
        assert longest / 2 <= min(drawn) < max(drawn) <= longest


def test_a_second_reader_of_instances_gets_all_while_the_first_still_waits_for_one():
    arrived = Event()

    def instances():
        yield "one"
        assert arrived.wait(60)
        yield "two"

    again, first = Replayable(instances()), []
    reader = Thread(target=lambda: first.extend(again))
    reader.start()
    second = iter(again)
    assert next(second) == "one"
    arrived.set()
    assert next(second) == "two" and list(second) == []
    reader.join(60)
    assert first == ["one", "two"]


def test_what_a_gateway_did_not_take_for_a_while_is_embedded_once_it_is_there(cover, identity):
    """A real gateway, which the client calls before it listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    refused = []
    with running("serve", "--listen", address, ready=False) as server, Client(address) as client:
        stego = None
        while stego is None and server.process.poll() is None:
            try:
                stego = client.embed(cover, identity.recipient)
            except RemoteError as error:
                refused.append((error.status, error.code))
    assert stego.instance
    assert set(refused) <= {("UNAVAILABLE", "remote"), ("UNAVAILABLE", "not-ready")}
