"""The command line as a gateway's client: the work is done there, the key stays here."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from pydicom import dcmread

from coverslip.cli import main
from tests.paths import ROOT
from tests.serving.conftest import running
from tests.serving.test_access import Authority

pytestmark = pytest.mark.slow
"""These tests start servers."""


@pytest.fixture(scope="module")
def key(identity, tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "archive.key"
    identity.write(path)
    return path


def run(*words):
    return main([str(word) for word in words])


def results(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_embed_and_extract_through_a_server_are_those_of_this_machine(
    gateway, cover, identity, key, tmp_path, capsys
):
    there, here = tmp_path / "there.dcm", tmp_path / "here.dcm"
    assert (
        run(
            "embed",
            cover,
            "--to",
            identity.recipient,
            "-o",
            there,
            "--json",
            "--server",
            gateway.address(),
        )
        == 0
    )
    assert run("embed", cover, "--to", identity.recipient, "-o", here, "--json") == 0
    remote, local = results(capsys)
    assert set(local) - set(remote) == {"changed_outside"} and not set(remote) - set(local)
    assert (remote["recorded"], remote["frames_carrying"], remote["profile"]) == (
        local["recorded"],
        1,
        "default",
    )
    words = ["--identity", key, "--json"]
    assert (
        run(
            "extract",
            there,
            *words,
            "--server",
            gateway.address(),
            "--restore",
            tmp_path / "restored",
        )
        == 0
    )
    assert run("extract", there, *words) == 0
    remote, local = results(capsys)
    assert remote.pop("restored") == str(tmp_path / "restored" / "there.dcm")
    assert remote.pop("restored_as") in ("original", "original-file")
    assert remote.pop("not_original_because") == remote.pop("refused") == []
    assert remote == local and (local["carried"], local["binding"]) == ("pixels", "verified")
    assert dcmread(tmp_path / "restored" / "there.dcm").PatientName == dcmread(cover).PatientName


def test_a_bad_file_is_reported_and_the_rest_goes_on(
    gateway, cover, identity, key, tmp_path, capsys
):
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    content = cover.read_bytes()
    (folder / "a.dcm").write_bytes(content[: len(content) // 2])
    (folder / "below" / "b.dcm").write_bytes(content)
    (folder / "notes.txt").write_bytes(b"no DICOM at all")
    words = ["--server", gateway.address()]
    assert (
        run("embed", folder, "--to", identity.recipient, "-o", tmp_path / "out", "--json", *words)
        == 1
    )
    *files, _ = results(capsys)
    assert [(file["status"], file.get("code")) for file in files] == [
        ("failed", "truncated-file"),
        ("done", None),
        ("not-dicom", "not-dicom"),
    ]
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["b.dcm"]
    assert run("extract", tmp_path / "out", "--identity", key, "--no-model", *words) == 0
    assert "PatientName" in (said := capsys.readouterr().out) or "Patient's Name" in said
    assert (
        run(
            "embed",
            folder / "below" / "b.dcm",
            "--to",
            identity.recipient,
            "-o",
            tmp_path / "out" / "below",
            *words,
        )
        == 1
    )
    assert "never overwritten" in capsys.readouterr().err


def test_sealed_here_the_server_sees_no_identity(gateway, cover, identity, key, tmp_path, capsys):
    stego = tmp_path / "stego.dcm"
    words = [
        "--to",
        identity.recipient,
        "-o",
        stego,
        "--json",
        "--server",
        gateway.address(),
        "--seal-here",
    ]
    assert run("embed", cover, *words) == 0
    assert (
        run("embed", cover, "--to", identity.recipient, "-o", tmp_path / "here.dcm", "--json") == 0
    )
    report, here = results(capsys)
    differing = {"output", "file", "header_bytes", "psnr", "weakest_module", "changed_pixels"}
    differing |= {"changed_outside", "carriers", "votes_per_module", "payload"}
    for name in {*here} - differing:
        assert report[name] == here[name], name
    assert report["header_bytes"] > 1000 and report["recorded"] > 20
    assert run("extract", stego, "--identity", key, "--json", "--restore", tmp_path / "back") == 0
    (extracted,) = results(capsys)
    assert (extracted["binding"], extracted["attributes"]) == ("verified", report["recorded"])
    assert extracted["restored_as"] in ("original", "original-file")
    assert dcmread(tmp_path / "back" / "stego.dcm").PatientName == dcmread(cover).PatientName


def test_certificates_are_shown_and_a_missing_right_is_reported(
    cover, identity, key, tmp_path, capsys
):
    authority = Authority(tmp_path, "roots")
    allow = tmp_path / "allow.json"
    allow.write_text('{"clients": {"ris": ["embed"]}}')
    certificate, own = authority.issue("gateway")
    files = [
        "--tls-certificate",
        certificate,
        "--tls-key",
        own,
        "--tls-client-roots",
        authority.roots,
        "--allow",
        allow,
    ]
    certificate, own = authority.issue("ris")
    with running("serve", "--listen", "localhost:0", *files) as server:
        words = ["--server", server.address(), "--server-roots", authority.roots]
        words += ["--server-certificate", certificate, "--server-key", own]
        assert (
            run("embed", cover, "--to", identity.recipient, "-o", tmp_path / "stego.dcm", *words)
            == 0
        )
        assert run("extract", tmp_path / "stego.dcm", "--identity", key, "--json", *words) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == "not-allowed"


def test_an_unreachable_server_is_reported_for_each_file(cover, identity, tmp_path, capsys):
    assert (
        run(
            "embed",
            cover,
            "--to",
            identity.recipient,
            "-o",
            tmp_path / "stego.dcm",
            "--server",
            "127.0.0.1:9",
        )
        == 1
    )
    assert "cannot be reached" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--server", "archive.example.org:50051"], "loopback"),
        (["--server-roots", "x"], "name it too"),
        (["--server", "127.0.0.1:9", "--server-roots", "x"], "all three"),
        (["--server", "127.0.0.1:9", "--picture", "x.png"], "--picture"),
        (["--server", "127.0.0.1:9", "--alpha", "0.3"], "--alpha"),
        (["--server", "127.0.0.1:9", "--engine", "tensorflow"], "--engine"),
        (["--server", "127.0.0.1:9", "--profile", "paper"], "paper"),
        (
            [
                "--server",
                "x:9",
                "--server-roots",
                "x",
                "--server-certificate",
                "x",
                "--server-key",
                "x",
            ],
            "PEM",
        ),
        (["--seal-here"], "--server"),
    ],
)
def test_what_makes_no_sense_or_is_not_safe_is_refused_before_anything_is_sent(
    cover, identity, tmp_path, capsys, words, sentence
):
    assert (
        run("embed", cover, "--to", identity.recipient, "-o", tmp_path / "stego.dcm", *words) == 2
    )
    assert sentence in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_commands_of_the_client_page_work(gateway, cover, identity, key, tmp_path, monkeypatch):
    lines = re.findall(
        r"^\$ (coverslip .*)$", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE
    )
    assert len(lines) == 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cover.dcm").write_bytes(cover.read_bytes())
    (tmp_path / "archive.key").symlink_to(key)
    for line in lines:
        words = line.replace("cs1...", str(identity.recipient)).replace(
            "127.0.0.1:50051", gateway.address()
        )
        assert main(shlex.split(words)[1:]) == 0, line
    assert dcmread(tmp_path / "restored" / "stego.dcm").PatientID == dcmread(cover).PatientID
