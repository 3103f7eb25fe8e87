"""Every command in the README and the task pages is run, in order, as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from coverslip.crypto.keys import Identity
from coverslip.scheme.profiles import PROFILES
from tests.covers import crop, head_ct
from tests.paths import ROOT

PAGES = ["README.md", "docs/desk.md", "docs/console.md"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def commands(page):
    return [
        line[2:]
        for block in blocks(page, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


def run(words, folder):
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with a cover, a key and a stego file, as the pages take for granted."""
    head_ct(3).save_as(tmp_path / "cover.dcm")
    return tmp_path


def prepare(folder, page):
    """The recipient, after making what the page does not make itself."""
    if "coverslip keygen" not in (ROOT / page).read_text():
        Identity.generate().write(folder / "archive.key")
    else:
        assert run(shlex.split(commands(page)[0]), folder).returncode == 0
    recipient = str(Identity.read(folder / "archive.key").recipient)
    if "--output stego.dcm" not in (ROOT / page).read_text():
        done = run(
            ["coverslip", "embed", "cover.dcm", "--to", recipient, "-o", "stego.dcm"], folder
        )
        assert done.returncode == 0, done.stderr
        crop(folder / "stego.dcm", (slice(3, None), slice(6, -9)), folder / "cropped.dcm")
    return recipient


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works(page, folder):
    recipient = prepare(folder, page)
    listed = [c for c in commands(page) if not c.startswith("coverslip keygen")]
    assert listed
    for command in listed:
        done = run(shlex.split(command.replace("cs1...", recipient)), folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
def test_the_program_in_the_console_page_works(folder):
    recipient = str(Identity.generate().recipient)
    (program,) = blocks("docs/console.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("cs1...", recipient)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "stego.dcm").exists()


@pytest.mark.slow
def test_every_block_of_the_library_page_and_the_readme_runs(folder):
    for page in ("docs/library.md", "README.md"):
        program = "\n".join(blocks(page, "python"))
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    original, again = folder / "cover.dcm", folder / "original.dcm"
    assert dcmread(original).PatientName == dcmread(again).PatientName


@pytest.mark.parametrize("page", ["docs/console.md", "docs/scheme.md"])
def test_the_profiles_of_the_tables_are_those_of_the_code(page):
    text = (ROOT / page).read_text()
    for name in ("faint", "default", "robust"):
        row = next(
            line for line in text.splitlines() if line.startswith((f"| `{name}`", f"| {name} "))
        )
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert f"{PROFILES[name].step:g}" in [re.split("[ ,]", cell)[0] for cell in cells]


def test_every_code_of_the_limits_is_one_of_the_errors():
    from coverslip import errors

    known = {
        e.code
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, errors.CoverslipError)
    }
    named = re.findall(
        r"`([a-z]+(?:-[a-z]+)+)`", (ROOT / "docs/limits.md").read_text().split("## Not promised")[0]
    )
    assert len(named) > 15
    assert set(named) <= known


def test_every_page_and_picture_that_is_linked_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_file_that_a_page_names_exists():
    pages = [
        ROOT / "README.md",
        ROOT / "models/README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "protos").rglob("*.md"),
    ]
    rooms = "benchmarks|coverslip|docs|edge|graph|models|protos|serving|tests|training"
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", page.read_text())
    }
    assert len(named) > 30
    assert not {(page, path) for page, path in named if not (ROOT / path).exists()}


def under(page, heading):
    """The commands below a heading of the second level."""
    (part,) = [
        text for text in (ROOT / page).read_text().split("\n## ") if text.startswith(heading + "\n")
    ]
    return re.findall(r"^\$ (.*)$", part, re.MULTILINE)


@pytest.mark.slow
def test_the_training_page_goes_from_images_to_records(tmp_path):
    for module in ("tensorflow", "contourpy", "pycocotools"):
        pytest.importorskip(module)
    (tmp_path / "images").mkdir()
    for number in range(3):
        dataset = head_ct(number)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(tmp_path / f"images/{number}.dcm")
    # Three patients may all fall to one side; this key parts them.
    (tmp_path / "records").mkdir()
    (tmp_path / "records/split.key").write_text("00" * 32)
    listed = under("docs/training.md", "Propose outlines and check them") + under(
        "docs/training.md", "Make records"
    )
    assert len(listed) == 2
    for command in listed:
        done = run(shlex.split(command), tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for name in ("sheets/sheet-001.png", "previews", "index.csv"):
        assert (tmp_path / "annotated" / name).exists(), name
    assert (tmp_path / "records/report.txt").exists() and (
        tmp_path / "records/report.json"
    ).exists()
    assert "3 CT" in done.stdout or "2 CT" in done.stdout
