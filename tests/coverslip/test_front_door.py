"""What a user of the library meets: the names in `coverslip` and what they do."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread

import coverslip
from tests.covers import head_ct
from tests.paths import ROOT


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("front") / "cover.dcm"
    head_ct(seed=7).save_as(path)
    return path


@pytest.fixture(scope="module")
def identity() -> coverslip.Identity:
    return coverslip.Identity.generate()


@pytest.fixture(scope="module")
def stego(cover: Path, identity: coverslip.Identity) -> Path:
    path = cover.with_name("stego.dcm")
    coverslip.embed(cover, to=identity.recipient).write(path)
    return path


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert coverslip.__all__ == sorted(coverslip.__all__)
    for name in coverslip.__all__:
        assert getattr(coverslip, name) is not None, name
    listed = [name for name in dir(coverslip) if name[0] != "_" and name in coverslip.__all__]
    assert listed == coverslip.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        coverslip.nonsense  # noqa: B018 - the access is what is tested


def test_importing_loads_neither_pydicom_nor_numpy_nor_a_runtime() -> None:
    program = (
        "import sys, coverslip; heavy = {'numpy', 'pydicom', 'tensorflow', 'grpc', 'cryptography',"
        " 'ai_edge_litert'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_record_is_a_mapping_by_keyword_and_by_tag(
    stego: Path, cover: Path, identity: coverslip.Identity
) -> None:
    found = coverslip.extract(stego, identity=identity)
    name = dcmread(cover).PatientName
    assert found.record["PatientName"] == found.record[0x00100010] == name
    assert found.record[(0x0010, 0x0010)] == name
    assert "PatientName" in found.record and "Rows" not in found.record
    assert len(list(found.record)) == len(found.record) > 30
    assert found.record.to_json()["00100010"]["Value"][0]["Alphabetic"] == str(name)
    assert found.record.to_dataset().PatientName == name
    assert str(name) not in repr(found)
    with pytest.raises(KeyError):
        found.record["Rows"]


def test_the_report_says_where_and_whether_it_belongs(
    stego: Path, identity: coverslip.Identity
) -> None:
    report = coverslip.extract(stego, identity=identity).report
    assert report.carried is coverslip.Carried.PIXELS
    assert report.binding is coverslip.Binding.VERIFIED
    assert report.changes == () and report.profile == "default" and report.has_original


def test_every_kind_of_source_gives_the_same(
    cover: Path, stego: Path, identity: coverslip.Identity, tmp_path: Path
) -> None:
    content = stego.read_bytes()
    sources = [str(stego), content, io.BytesIO(content), dcmread(stego)]
    expected = dict(coverslip.extract(stego, identity=identity).record)
    for source in sources:
        assert dict(coverslip.extract(source, identity=identity).record) == expected
    done = coverslip.embed(cover.read_bytes(), to=str(identity.recipient))
    done.write(tmp_path / "s.dcm")
    again = coverslip.restore(tmp_path / "s.dcm", identity=identity)
    again.write(tmp_path / "o.dcm")
    assert dcmread(tmp_path / "o.dcm").PatientName == dcmread(cover).PatientName


def test_restoring_gives_the_original_for_its_owner_alone(
    cover: Path, stego: Path, identity: coverslip.Identity, tmp_path: Path
) -> None:
    key = tmp_path / "archive.key"
    identity.write(key)
    restored = coverslip.restore(stego, identity=key)
    target = tmp_path / "original.dcm"
    restored.write(target)
    assert restored.report.restored_as is not coverslip.RestoredAs.IDENTITY
    assert restored.report.missing == () and restored.report.refused == ()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    original, again = dcmread(cover), dcmread(target)
    assert [e.tag for e in original if e.tag != 0x7FE00010 and again.get(e.tag) != e] == []
    assert (again.pixel_array == original.pixel_array).all()
    with pytest.raises(coverslip.OutputExistsError):
        restored.write(target)


def test_inspecting_says_by_profile_where_the_record_would_go(cover: Path) -> None:
    seen = coverslip.inspect(cover)
    fit = seen.fits["default"]
    assert fit.report is not None
    assert fit.report.carried is coverslip.Carried.PIXELS
    assert seen.summary()["recorded"] == seen.recorded > 30


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: coverslip.embed("missing.dcm", to="cs1nonsense"), coverslip.UnreadableFileError),
        (lambda: coverslip.embed(b"no DICOM", to="cs1"), coverslip.NotDicomError),
        (lambda: coverslip.extract(b"", identity="missing.key"), coverslip.CoverslipError),
    ],
)
def test_what_is_wrong_has_a_type(call: object, error: type[Exception]) -> None:
    assert callable(call)
    with pytest.raises(error):
        call()


def test_a_profile_that_there_is_not_is_named(cover: Path, identity: coverslip.Identity) -> None:
    with pytest.raises(coverslip.ProfileError, match=r"'strong'.*default"):
        coverslip.embed(cover, to=identity.recipient, profile="strong")


PROGRAM = """
from pathlib import Path

import coverslip


def work(cover: Path, key: Path) -> str:
    identity = coverslip.Identity.read(key)
    done = coverslip.embed(cover, to=identity.recipient, profile="default")
    done.write(cover.with_name("stego.dcm"))
    carried: coverslip.Carried = done.report.carried
    try:
        found = coverslip.extract(cover.with_name("stego.dcm"), identity=identity)
    except coverslip.WrongKeyError as error:
        return error.code
    restored = coverslip.restore(cover.with_name("stego.dcm"), identity=identity)
    restored.write(cover.with_name("original.dcm"))
    return f"{carried.value} {found.report.binding.value} {found.record['PatientName']}"
"""


@pytest.mark.slow
def test_a_users_program_passes_mypy_strict(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"]
    # Type checkers do not follow the hooks of an editable install.
    roots = os.pathsep.join([str(ROOT), *(str(ROOT / part) for part in ("edge", "graph"))])
    done = subprocess.run(
        [*words, "--cache-dir", tmp_path / "cache", tmp_path / "program.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": roots},
    )
    assert done.returncode == 0, done.stdout + done.stderr
