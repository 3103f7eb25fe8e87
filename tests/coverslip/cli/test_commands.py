import stat
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

pytestmark = pytest.mark.slow
"""These tests start the command."""

PHRASES = ("Invented", "invented")


def test_keygen_prints_the_recipient_and_keeps_the_identity_to_itself(coverslip, tmp_path):
    done = coverslip("keygen", tmp_path / "id")
    assert done.code == 0
    assert done.out.startswith("cs1")
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o600
    assert "CS-IDENTITY" not in done.out + done.err


def test_keygen_never_overwrites(coverslip, tmp_path):
    coverslip("keygen", tmp_path / "id")
    before = (tmp_path / "id").read_bytes()
    done = coverslip("keygen", tmp_path / "id", "--json")
    assert done.code == 1
    assert done.lines[0]["code"] == "output-exists"
    assert (tmp_path / "id").read_bytes() == before


@pytest.mark.parametrize("how", [["--no-model"], ["--engine", "litert"]])
def test_extract_gives_the_record_back(coverslip, keys, cover, stego, how):
    done = coverslip("extract", stego, "--identity", keys[0] / "mine", "--json", *how)
    assert done.code == 0, done.out
    (line,) = done.lines
    assert line["record"]["00100010"]["Value"][0]["Alphabetic"] == str(dcmread(cover).PatientName)


def test_restore_gives_every_recorded_attribute_back(coverslip, keys, cover, stego, tmp_path):
    done = coverslip(
        "extract",
        stego,
        "--identity",
        keys[0] / "mine",
        "--no-model",
        "--restore",
        tmp_path,
        "--json",
    )
    assert done.code == 0, done.out
    restored, original = dcmread(tmp_path / "stego.dcm"), dcmread(cover)
    for tag in done.lines[0]["record"]:
        assert restored.get(int(tag, 16)) == original.get(int(tag, 16)), tag


def test_embed_reports_in_json_and_draws(coverslip, keys, cover, tmp_path):
    done = coverslip(
        "embed", cover, "--to", keys[1]["mine"], "-o", tmp_path / "s.dcm", "--json",
        "--qr", tmp_path / "qr.png", "--picture", tmp_path / "p.png", "--profile", "faint",
    )  # fmt: skip
    assert done.code == 0, done.out
    (line,) = done.lines
    assert line["status"] == "done"
    assert line["changed_outside"] == 0
    assert line["psnr"]["sixteen_bit"] > 100
    assert Image.open(tmp_path / "p.png").width > 1000
    assert Image.open(tmp_path / "qr.png").width > 100


def test_nothing_of_the_identity_is_printed_or_written(coverslip, keys, cover, tmp_path):
    done = coverslip("embed", cover, "--to", keys[1]["mine"], "-o", tmp_path / "s.dcm")
    assert done.code == 0, done.err
    name = str(dcmread(cover).PatientName)
    for text in (done.out, done.err, (tmp_path / "s.dcm").read_bytes().decode("latin-1")):
        assert name not in text


def test_a_wrong_key_is_an_error_and_never_garbage(coverslip, keys, stego, cover):
    done = coverslip("extract", stego, "--identity", keys[0] / "other", "--no-model", "--json")
    assert done.code == 1
    assert done.lines[0]["code"] == "wrong-key"
    assert str(dcmread(cover).PatientName) not in done.out + done.err


def test_an_image_without_a_record_says_so(coverslip, keys, cover):
    done = coverslip("extract", cover, "--identity", keys[0] / "mine", "--no-model", "--json")
    assert done.code == 1
    assert done.lines[0]["code"] == "no-message"


ONLY_BY_HEADER = {
    "liver_1frame.dcm": "one-bit",
    "JPGExtended.dcm": "lossy-source",
    "rtplan.dcm": "no-pixels",
    "reportsi.dcm": "no-pixels",
}
REFUSED = {
    "SC_rgb_rle.dcm": "burned-in-annotation",
    "truncated.dcm": "truncated-file",
    "text.dcm": "not-dicom",
}


def mixed_folder(folder, cover):
    for name in ("SC_rgb_rle.dcm", *ONLY_BY_HEADER):
        dataset = dcmread(get_testdata_file(name, download=False))
        if name != "SC_rgb_rle.dcm" and "PixelData" in dataset:
            dataset.BurnedInAnnotation = "NO"
        dataset.save_as(folder / name)
    (folder / "truncated.dcm").write_bytes(cover.read_bytes()[:20000])
    (folder / "text.dcm").write_text("no DICOM at all")
    (folder / "sub").mkdir()
    (folder / "sub" / "good.dcm").write_bytes(cover.read_bytes())


def test_a_batch_goes_past_bad_files_and_names_each_cause(coverslip, keys, cover, tmp_path):
    inputs, output = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    mixed_folder(inputs, cover)
    done = coverslip("embed", inputs, "--to", keys[1]["mine"], "--output", output, "--json")
    assert done.code == 1
    results = {line["file"].rsplit("/", 1)[-1]: line for line in done.lines}
    good = results.pop("good.dcm")
    assert (good["status"], good["carried"], good["header_reasons"]) == ("done", "pixels", [])
    codes = {name: line.get("code", "") for name, line in results.items()}
    assert codes == REFUSED | dict.fromkeys(ONLY_BY_HEADER, "")
    for name in REFUSED:
        assert len(results[name]["message"].split()) > 8, "a sentence that says what to do"
    reasons = {name: results[name]["header_reasons"] for name in ONLY_BY_HEADER}
    assert {name: listed[0]["code"] for name, listed in reasons.items()} == ONLY_BY_HEADER
    assert {results[name]["carried"] for name in ONLY_BY_HEADER} == {"header"}
    assert {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()} == {
        "sub/good.dcm",
        *ONLY_BY_HEADER,
    }
    counts = {"files": 8, "done": 5, "failed": 2, "not-dicom": 1}
    assert {name: done.summary[name] for name in counts} == counts
    assert done.summary["carried"] == {"pixels": 1, "header": 4}


@pytest.mark.parametrize(
    ("name", "code"), [("JPGExtended.dcm", "header-only"), ("rtplan.dcm", "header-only")]
)
def test_what_needs_pixels_is_refused_where_only_the_header_can_carry(
    coverslip, keys, tmp_path, name, code
):
    source = Path(get_testdata_file(name, download=False))
    words = ["--to", keys[1]["mine"], "-o", tmp_path / "s.dcm", "--json", "--allow-burned-in"]
    done = coverslip("embed", source, *words, "--require-pixels")
    assert done.code == 1 and done.lines[0]["code"] == code
    assert "--require-pixels" in done.lines[0]["message"]
    assert not (tmp_path / "s.dcm").exists()


def test_a_file_that_is_named_and_no_dicom_is_a_failure(coverslip, keys, tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    words = ["--to", keys[1]["mine"], "-o", tmp_path / "s.dcm", "--json"]
    done = coverslip("embed", tmp_path / "text.dcm", *words)
    assert done.code == 1
    assert (done.lines[0]["status"], done.lines[0]["code"]) == ("failed", "not-dicom")


def test_no_input_and_no_output_is_overwritten(coverslip, keys, cover, tmp_path):
    copy = tmp_path / "cover.dcm"
    copy.write_bytes(cover.read_bytes())
    done = coverslip("embed", copy, "--to", keys[1]["mine"], "--output", tmp_path, "--json")
    assert done.code == 1
    assert done.lines[0]["code"] == "output-exists"
    assert copy.read_bytes() == cover.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["embed"],
        ["embed", "a.dcm", "--to", "nobody", "-o", "b.dcm"],
        ["embed", "a.dcm", "--to", "cs1", "-o", "b.dcm", "--alpha", "0.7"],
        ["embed", "a.dcm", "--to", "cs1", "-o", "b.dcm", "--beta", "-1"],
        ["extract", "a.dcm", "--identity", "missing"],
        ["extract", "a.dcm", "--identity", "missing", "--beta", "3"],
        ["frobnicate"],
    ],
)
def test_misuse_is_exit_code_2(coverslip, words, tmp_path):
    done = coverslip(*words, cwd=tmp_path)
    assert done.code == 2
    assert done.err.strip()


def test_a_missing_file_fails_alone(coverslip, keys, cover, tmp_path):
    done = coverslip(
        "embed",
        tmp_path / "none.dcm",
        cover,
        "--to",
        keys[1]["mine"],
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert done.code == 1
    assert [line["status"] for line in done.lines] == ["failed", "done"]


def test_inspect_says_what_fits_and_writes_nothing_else(coverslip, cover, tmp_path):
    before = cover.read_bytes()
    done = coverslip("inspect", cover, "--json", "--picture", tmp_path / "seen.png")
    assert done.code == 0, done.out
    (line,) = done.lines
    assert line["profiles"]["default"]["fits"]
    assert (
        line["profiles"]["faint"]["psnr"]["stored"] > line["profiles"]["default"]["psnr"]["stored"]
    )
    assert cover.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["seen.png"]


def test_beta_and_alpha_are_the_papers_knobs(coverslip, keys, cover, tmp_path):
    stego = tmp_path / "s.dcm"
    done = coverslip(
        "embed", cover, "--to", keys[1]["mine"], "-o", stego, "--beta", "1024", "--json"
    )
    assert done.code == 0, done.out
    step = done.lines[0]["step"]
    assert step not in (4.0, 8.0, 64.0)
    back = coverslip("extract", stego, "--identity", keys[0] / "mine", "--no-model", "--json")
    assert back.code == 0, back.out


def test_paper_profile_is_refused_with_the_reason(coverslip, keys, cover, tmp_path):
    done = coverslip(
        "embed",
        cover,
        "--to",
        keys[1]["mine"],
        "-o",
        tmp_path / "s.dcm",
        "--profile",
        "paper",
        "--json",
    )
    assert done.code == 1
    assert done.lines[0]["code"] == "does-not-come-back"
    assert not (tmp_path / "s.dcm").exists()


def test_pydicoms_command_line_has_it_too(keys, stego):
    program = Path(sys.executable).parent / "pydicom"
    words = ["coverslip", "extract", stego, "--identity", keys[0] / "mine", "--no-model"]
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "attributes" in done.stdout


def test_demo_goes_the_whole_way(coverslip, tmp_path):
    done = coverslip("demo", "--output", tmp_path / "demo")
    assert done.code == 0, done.out + done.err
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {
        "cover.dcm", "stego.dcm", "restored.dcm", "identity.txt", "picture.png",
    }  # fmt: skip
    restored, original = (dcmread(tmp_path / "demo" / f"{n}.dcm") for n in ("restored", "cover"))
    assert [e.tag for e in original if e.tag != 0x7FE00010 and restored.get(e.tag) != e] == []
    assert restored.file_meta == original.file_meta
    assert (restored.pixel_array == original.pixel_array).all()
    assert "the cover's pixels: yes" in done.out
