"""The example in generated stubs of another language, against a real gateway; and the contract
under buf's rules.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from tests.paths import ROOT
from tests.serving.conftest import running
from tests.serving.test_access import Authority

EXAMPLE = ROOT / "serving" / "examples" / "node"
BUF = EXAMPLE / "node_modules" / ".bin" / "buf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not BUF.exists(), reason="the Node.js example is not installed: run 'make node'"
    ),
]


def node(*words, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(word) for word in words], cwd=EXAMPLE, env={**os.environ, "PATH": path, **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_node_embeds_and_gets_a_sealed_record_that_the_key_opens(
    gateway, cover, identity, tmp_path
):
    (line,) = re.findall(r"^\$ (node .*)$", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE)
    stego, sealed = tmp_path / "stego.dcm", tmp_path / "sealed"
    given = {"cs1...": identity.recipient, "cover.dcm": cover, "stego.dcm": stego, "sealed": sealed}
    words = [
        given.get(word, word.replace("127.0.0.1:50051", gateway.address())) for word in line.split()
    ]
    done = node(*words)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    record = pipeline.open_frame(sealed.read_bytes(), identity).record
    assert printed["rows"] == 512 and "default" in printed["fitting"]
    assert printed["recorded"] == len(record) > 20
    assert printed["sealedBytes"] == sealed.stat().st_size


def test_node_prints_the_reason_and_the_request_id(gateway, cover, tmp_path):
    files = (tmp_path / "stego.dcm", tmp_path / "sealed")
    done = node("node", "client.js", f"http://{gateway.address()}", "cs1nobody", cover, *files)
    assert done.returncode == 1 and not any(file.exists() for file in files)
    assert re.match(r"InvalidArgument: .{20,} \(request [0-9a-f]{32}\)\n", done.stderr)


def test_node_comes_in_with_a_certificate(cover, tmp_path):
    authority, identity = Authority(tmp_path, "roots"), Identity.generate()
    allow = tmp_path / "allow.json"
    allow.write_text('{"clients": {"ris": ["embed", "extract"]}}')
    certificate, key = authority.issue("gateway")
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
    own = dict(zip(("CERTIFICATE", "KEY"), map(str, authority.issue("ris")), strict=True))
    with running("serve", "--listen", "localhost:0", *words) as server:
        call = [
            "node",
            "client.js",
            f"https://{server.address()}",
            identity.recipient,
            cover,
            tmp_path / "stego.dcm",
            tmp_path / "sealed",
        ]
        done = node(*call, CA=str(authority.roots), **own)
    assert done.returncode == 0, done.stderr
    assert len(pipeline.open_frame((tmp_path / "sealed").read_bytes(), identity).record) > 20


def test_the_example_names_every_package_exactly_and_no_place_to_get_it_from():
    package = json.loads((EXAMPLE / "package.json").read_text())
    named = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in named.values())
    ignored = subprocess.run(
        ["git", "check-ignore", "package-lock.json", "node_modules"],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
    )
    assert ignored.returncode == 128 or ignored.stdout.split() == [
        "package-lock.json",
        "node_modules",
    ]


def lint(folder):
    return node(BUF, "lint", folder)


def test_the_contract_keeps_buf_s_rules_and_a_change_that_does_not_is_noticed(tmp_path):
    assert (done := lint(ROOT / "protos")).returncode == 0, done.stdout
    copy = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", copy)
    contract = copy / "coverslip" / "v1" / "coverslip.proto"
    contract.write_text(contract.read_text() + "message undescribed { int32 BadName = 1; }\n")
    findings = lint(copy).stdout
    for rule in ("should be PascalCase", "should be lower_snake_case", "non-empty comment"):
        assert rule in findings
