"""The front door: the names that a user imports, what importing costs, and their types."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

import coverslip_serving
from tests.paths import ROOT

SOURCES = [ROOT, *(ROOT / name for name in ("edge", "graph", "serving", "training"))]

PROGRAM = """
from collections.abc import Iterator
from pathlib import Path

from coverslip.crypto.keys import Identity, Recipient
from coverslip_serving import (
    Client,
    Credentials,
    CredentialsError,
    CredentialsProblem,
    EmbedResult,
    ExtractResult,
    OpenedRecord,
    Outlines,
    RemoteError,
    UnknownProfileError,
    seal_instance,
)

folder = Path("certificates")
credentials = Credentials(folder / "roots.pem", folder / "desk.crt", folder / "desk.key")


def round_trip(recipient: Recipient, identity: Identity, cover: Path) -> float:
    with Client("archive.example.org:50051", credentials, timeout=20) as client:
        stego: EmbedResult = client.embed(cover, recipient, "robust", beta=100.0)
        found: ExtractResult = client.extract(stego.instance, identity)
        opened: OpenedRecord = client.extract_opened(stego.instance, recipient, restore=True)
        outlines: Outlines = client.segment(cover)
        fitting: list[str] = [fit.profile for fit in client.inspect(cover).profiles if fit.fits]
        whole: EmbedResult = client.embed_to_file(cover, cover.with_name("stego"), recipient)
        series: Iterator[EmbedResult | RemoteError] = client.embed_series([("a", cover)], recipient)
        for result in series:
            if isinstance(result, RemoteError):
                print(result.label, result.status, result.code, result.request_id)
            else:
                print(result.label, result.report.psnr.stored, list(result.report.notes))
        print(fitting, whole.figures(), outlines.masks.shape, opened.attributes, len(found.record))
        return stego.report.votes_per_module


def refused(recipient: Recipient, cover: Path) -> CredentialsProblem | None:
    clean, sealed = seal_instance(cover, recipient)
    try:
        Client("localhost:1", credentials).embed(clean, recipient, sealed=sealed)
    except CredentialsError as error:
        return error.problem
    except UnknownProfileError as error:
        print(error, error.code)
    return None
"""

MISTAKES = """
from pathlib import Path

from coverslip_serving import Client, Cleint

client = Client("localhost:1", timeout="soon")
text: str = client.inspect(Path("cover.dcm")).frames
client.embed_file(Path("cover.dcm"), "cs1nobody", colour=True)
client.segment(Path("cover.dcm")).outline
"""


def test_the_public_names_are_these_and_all_of_them_exist():
    assert coverslip_serving.__all__ == sorted(coverslip_serving.__all__)
    for name in coverslip_serving.__all__:
        assert getattr(coverslip_serving, name).__name__ == name
        assert name in dir(coverslip_serving)
    assert {"Client", "Credentials", "RemoteError"} <= set(coverslip_serving.__all__)
    with pytest.raises(AttributeError, match="Cleint"):
        coverslip_serving.Cleint  # noqa: B018


def test_importing_the_package_loads_nothing_and_a_name_what_it_needs():
    program = textwrap.dedent("""
        import sys
        import coverslip_serving
        heavy = {"grpc", "numpy", "pydicom", "google.protobuf", "coverslip_serving.client"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        from coverslip_serving import Client
        assert heavy <= set(sys.modules)
        assert Client is sys.modules["coverslip_serving.client"].Client
    """)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def check_types(program, tmp_path):
    """A user's program under mypy's strictest rules, with the package as installed: no settings of
    ours, and findings of the program alone.
    """
    (tmp_path / "program.py").write_text(program)
    words = ["--strict", "--follow-imports=silent", "--config-file="]
    words += ["--namespace-packages", "--explicit-package-bases"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, SOURCES))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr
    # Whether protobuf's own types are installed is the environment's affair.
    return [line for line in done.stdout.splitlines() if line.startswith("program.py")]


@pytest.mark.slow
def test_a_program_that_uses_the_client_is_typed_throughout(tmp_path):
    assert check_types(PROGRAM, tmp_path) == []


@pytest.mark.slow
def test_mistakes_of_a_program_that_uses_the_client_are_noticed(tmp_path):
    findings = check_types(MISTAKES, tmp_path)
    lines = {int(line.split(":")[1]) for line in findings if ": error:" in line}
    assert lines == {4, 6, 7, 8, 9}, findings
