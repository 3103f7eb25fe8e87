"""Whatever a file holds, it is embedded and comes back, or is refused with an error of ours."""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file

from coverslip import pipeline
from coverslip.crypto.seal import FrameKind, seal, unseal
from coverslip.deidentification import mark
from coverslip.dicom.objects import read_object
from coverslip.errors import CannotWriteError, CoverslipError, TruncatedFileError
from coverslip.pipeline import Binding, RestoredAs
from coverslip.pipeline.header_part import decode_header_part, encode_header_part
from coverslip.scheme.profiles import DEFAULT
from tests.coverslip.pipeline.images import ENGINE, IDENTITY

OPTIONS = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)
NAMES = (
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
    "rtdose_1frame.dcm",
    "liver_1frame.dcm",
    "examples_palette.dcm",
)
PREAMBLE = 132


def shipped(name: str) -> bytes:
    return Path(str(get_testdata_file(name, download=False))).read_bytes()


CONTENTS = {name: shipped(name) for name in NAMES}
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=9)


def changed(data: bytes, changes: list[tuple[int, int]], end: int) -> bytes:
    made = bytearray(data)
    for place, change in changes:
        made[PREAMBLE + place % (end - PREAMBLE)] ^= change
    return bytes(made)


def there_and_back(cover: Path) -> str:
    """Embed, extract and restore; what came of it, an error's code or what it was restored as."""
    stego, restored = (cover.with_name(f"{name}.dcm") for name in ("stego", "restored"))
    try:
        pipeline.embed(read_object(cover), IDENTITY.recipient, ENGINE, OPTIONS).write(stego)
    except CoverslipError as error:
        assert not stego.exists()
        return error.code
    source = read_object(stego)
    found = pipeline.extract(source, IDENTITY)
    assert found.binding is Binding.VERIFIED
    restoration = pipeline.restore(source, found, IDENTITY.recipient)
    restoration.write(restored)
    if restoration.restored_as is RestoredAs.ORIGINAL_FILE:
        assert restored.read_bytes() == cover.read_bytes()
    return restoration.restored_as.value


@pytest.mark.slow
@given(st.sampled_from(NAMES), CHANGES)
@settings(max_examples=150, deadline=None)
def test_a_file_with_changed_bytes_comes_back_or_is_refused(
    name: str, changes: list[tuple[int, int]]
) -> None:
    data = CONTENTS[name]
    with tempfile.TemporaryDirectory() as folder:
        cover = Path(folder) / "cover.dcm"
        cover.write_bytes(changed(data, changes, min(len(data), 5000)))
        assert there_and_back(cover) != RestoredAs.IDENTITY.value


@pytest.fixture(scope="module")
def stegos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stego")
    paths = {name: folder / name for name in NAMES}
    for name, path in paths.items():
        pipeline.embed(read_object(CONTENTS[name]), IDENTITY.recipient, ENGINE, OPTIONS).write(path)
    return paths


@pytest.mark.slow
def test_a_sealed_header_with_changed_bytes_gives_something_or_is_refused(
    stegos: dict[str, Path], tmp_path: Path
) -> None:
    """Whoever has the recipient can seal it; the seal is no protection from its content."""
    outcomes: Counter[str] = Counter()

    @given(st.sampled_from(NAMES), CHANGES, st.booleans())
    @settings(max_examples=120, deadline=None)
    def try_one(name: str, changes: list[tuple[int, int]], with_record: bool) -> None:
        ds = copy.deepcopy(dcmread(stegos[name]))
        part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
        head = changed(part.head, changes, len(part.head))
        forged = encode_header_part(replace(part, head=head, original_file=b""))
        mark.write_sealed_part(ds, seal(forged, IDENTITY.recipient.public, FrameKind.HEADER_PART))
        if not with_record:
            del ds[mark.GROUP << 16 | 0x1011]
        try:
            found = pipeline.extract(read_object(ds), IDENTITY)
            restoration = pipeline.restore(
                read_object(ds), found, IDENTITY.recipient, even_if_changed=True
            )
            restoration.write(tmp_path / "restored.dcm", overwrite=True)
        except CoverslipError as error:
            outcomes[error.code] += 1
            return
        assert restoration.restored_as is not RestoredAs.ORIGINAL_FILE
        outcomes[restoration.restored_as.value] += 1

    try_one()
    assert len(outcomes) > 1


def test_an_rle_frame_that_ends_early_is_refused(tmp_path: Path) -> None:
    # The decoder, which is in Rust, panics: no exception of Python's would catch that.
    ds = dcmread(str(get_testdata_file("MR_small_RLE.dcm", download=False)))
    ds.Rows = ds.Columns = 640
    ds.save_as(tmp_path / "cover.dcm")
    with pytest.raises(TruncatedFileError, match="does not decode"):
        read_object(tmp_path / "cover.dcm")


def test_pixel_data_of_an_unknown_vr_come_back(tmp_path: Path) -> None:
    # Converters that do not know an element write UN.
    cover = tmp_path / "cover.dcm"
    data = bytearray(shipped("liver_1frame.dcm"))
    place = data.index(bytes.fromhex("e07f1000") + b"OB")
    data[place + 4 : place + 6] = b"UN"
    cover.write_bytes(bytes(data))
    assert there_and_back(cover) == RestoredAs.ORIGINAL_FILE.value


def test_pixel_data_of_an_odd_length_are_verified(tmp_path: Path) -> None:
    # pydicom writes an even length: the digest must not depend on it.
    data = bytearray(shipped("liver_1frame.dcm"))
    place = data.index(bytes.fromhex("e07f1000") + b"OB")
    length = int.from_bytes(data[place + 8 : place + 12], "little")
    data[place + 8 : place + 12] = (length - 1).to_bytes(4, "little")
    cover = tmp_path / "cover.dcm"
    cover.write_bytes(bytes(data[: place + 12 + length - 1]))
    assert there_and_back(cover) == RestoredAs.ORIGINAL.value


def test_a_vr_that_is_none_is_refused(tmp_path: Path) -> None:
    data = bytearray(CONTENTS["CT_small.dcm"])
    place = data.index(bytes.fromhex("10001000") + b"PN")
    data[place + 4 : place + 6] = b"QQ"
    (tmp_path / "cover.dcm").write_bytes(bytes(data))
    with pytest.raises(CannotWriteError) as caught:
        pipeline.embed(read_object(tmp_path / "cover.dcm"), IDENTITY.recipient, ENGINE, OPTIONS)
    assert "CompressedSamples" not in str(caught.value)
