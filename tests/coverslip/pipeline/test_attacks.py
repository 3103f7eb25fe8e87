"""What somebody without the key can do to a stego file is reported, and nothing is restored."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from coverslip import pipeline
from coverslip.cli import main
from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import FrameKind, seal, unseal
from coverslip.deidentification import mark
from coverslip.dicom.objects import parse_head, read_object
from coverslip.dicom.record_views import as_dataset
from coverslip.errors import ChangedError, DamagedMessageError
from coverslip.fake_patient import write_fake_patient
from coverslip.pipeline import Binding, Carried, Change, Missing, RestoredAs
from coverslip.pipeline.binding import unpack
from coverslip.pipeline.header_part import (
    HeaderPart,
    decode_header_part,
    digest_of,
    encode_header_part,
)
from coverslip.pipeline.undo import undo_frame
from coverslip.pixels.frames import HeldFrames
from coverslip.scheme.dct import to_blocks
from coverslip.scheme.profiles import DEFAULT
from tests import golden
from tests.covers import head_ct
from tests.coverslip.pipeline.images import ENGINE, IDENTITY

PART_AT, RECORD_AT = 0x10, 0x11
OPTIONS = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)


@dataclass(frozen=True)
class Victim:
    """A cover, and what was embedded into it."""

    cover: Path
    stego: Path
    embedding: pipeline.Embedding

    @property
    def patient(self) -> str:
        return str(dcmread(self.cover).PatientName)

    @property
    def carriers(self) -> NDArray[np.bool_]:
        """Pixels of the blocks that carry, bool [H, W]."""
        return np.kron(self.embedding.frames[0].carriers, np.ones((4, 4), dtype=bool))

    @property
    def level(self) -> int:
        """The level T that the record was bound at."""
        found = pipeline.extract_sealed(read_object(self.stego), IDENTITY.recipient)
        bound, _ = unpack(unseal(found.sealed, IDENTITY.secret))
        assert bound is not None and bound.level is not None
        return bound.level


def embedded(ds: Dataset, folder: Path) -> Victim:
    folder.mkdir(exist_ok=True)
    ds.save_as(folder / "cover.dcm")
    done = pipeline.embed(read_object(folder / "cover.dcm"), IDENTITY.recipient, ENGINE, OPTIONS)
    done.write(folder / "stego.dcm")
    return Victim(folder / "cover.dcm", folder / "stego.dcm", done)


def native_head(seed: int, turned: bool = False) -> FileDataset:
    """The head CT, uncompressed; turned over left to right where another one is wanted."""
    ds = head_ct(seed)
    pixels = ds.pixel_array[:, ::-1] if turned else ds.pixel_array
    ds.set_pixel_data(np.ascontiguousarray(pixels), "MONOCHROME2", ds.BitsStored)
    assert isinstance(ds, FileDataset)
    return ds


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return embedded(native_head(7), tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return embedded(native_head(8, turned=True), tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "archive.key"
    IDENTITY.write(path)
    return path


def with_pixels(ds: Dataset, plane: NDArray[np.int32]) -> Dataset:
    made = copy.deepcopy(ds)
    made.PixelData = plane.astype("<i2" if ds.PixelRepresentation else "<u2").tobytes()
    return made


def pixels_of(path: Path) -> NDArray[np.int32]:
    image = read_object(path).image
    assert image is not None
    return image.planes[0].copy()


def block_of(ds: Dataset) -> Dataset:
    """Group 0099 of a data set, as a data set."""
    return copy.deepcopy(ds.group_dataset(mark.GROUP))


def with_block(ds: Dataset, block: Dataset) -> Dataset:
    made = copy.deepcopy(ds)
    mark.remove_mark(made)
    for element in block:
        made[element.tag] = element
    return made


def without(ds: Dataset, *offsets: int) -> Dataset:
    """A data set without some elements of its private block."""
    made = copy.deepcopy(ds)
    for offset in offsets:
        del made[mark.GROUP << 16 | 0x1000 | offset]
    return made


def extract(ds: Dataset) -> pipeline.Extraction:
    return pipeline.extract(read_object(ds), IDENTITY)


def name_in(found: pipeline.Extraction) -> str:
    return str(as_dataset(found.record).PatientName)


class Reported:
    """Runs ``coverslip extract --restore``, each time into a folder of its own."""

    def __init__(self, folder: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._key = key
        self._capsys = capsys
        self._runs = 0

    def run(self, ds: Dataset, *words: str) -> tuple[int, dict[str, object]]:
        """The exit code, and what is reported of a data set as a file."""
        self._runs += 1
        folder = self._folder / f"run {self._runs}"
        folder.mkdir()
        ds.save_as(folder / "file.dcm", enforce_file_format=True)
        call = ["extract", folder / "file.dcm", "--identity", self._key, "--no-model", "--json"]
        code = main([*map(str, [*call, "--restore", folder / "restored"]), *words])
        (out,) = self._capsys.readouterr().out.splitlines()
        line = json.loads(out)
        assert ("restored" in line) == (folder / "restored" / "file.dcm").exists()
        return code, line

    def __call__(self, ds: Dataset, *changes: Change) -> None:
        """Fail unless these changes are reported and nothing is restored unasked."""
        code, line = self.run(ds)
        assert (code, line["status"], line["binding"]) == (1, "changed", "changed"), line
        assert line["changes"] == [change.value for change in changes]
        assert "--even-if-changed" in str(line["not_restored"])
        assert "restored" not in line
        with pytest.raises(ChangedError):
            pipeline.restore(read_object(ds), extract(ds), IDENTITY.recipient)
        code, line = self.run(ds, "--even-if-changed")
        assert (code, line["status"]) == (1, "changed"), "asked for, and still reported"
        assert "restored" in line


@pytest.fixture
def reported(tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]) -> Reported:
    return Reported(tmp_path, key, capsys)


def test_what_nobody_touched_is_verified_and_restored(one: Victim, reported: Reported) -> None:
    code, line = reported.run(dcmread(one.stego))
    assert code == 0 and line["binding"] == Binding.VERIFIED.value and line["changes"] == []
    assert line["restored_as"] == RestoredAs.ORIGINAL_FILE.value
    assert Path(str(line["restored"])).read_bytes() == one.cover.read_bytes()


# Dark blocks of one image in another: the record comes along, the body does not.


def transplanted(one: Victim, other: Victim, which: str) -> NDArray[np.int32]:
    """The other's stego pixels with dark blocks of the first."""
    source, target = pixels_of(one.stego), pixels_of(other.stego)
    if which == "carriers":
        return np.where(one.carriers, source, target)
    level = min(one.level, other.level)
    dark = (to_blocks(source).max(axis=-1) < level) & (to_blocks(target).max(axis=-1) < level)
    return np.where(np.kron(dark, np.ones((4, 4), dtype=bool)), source, target)


@pytest.mark.parametrize("which", ["carriers", "every dark block"])
def test_dark_blocks_copied_into_another_stego_file_are_reported(
    which: str, one: Victim, other: Victim, reported: Reported
) -> None:
    attacked = with_pixels(dcmread(other.stego), transplanted(one, other, which))
    found = extract(attacked)
    assert found.carried is Carried.PIXELS and name_in(found) == one.patient
    expected = (Change.BODY_PIXELS, Change.PIXELS, Change.SOP_INSTANCE_UID)
    reported(attacked, *expected)
    # Without the header part it is the record alone that says so.
    reported(without(attacked, PART_AT), Change.BODY_PIXELS, Change.SOP_INSTANCE_UID)


def test_a_sop_instance_uid_that_fits_does_not_hide_other_pixels(
    one: Victim, other: Victim, reported: Reported
) -> None:
    attacked = with_pixels(dcmread(other.stego), transplanted(one, other, "carriers"))
    uid = dcmread(one.stego).SOPInstanceUID
    attacked.SOPInstanceUID = attacked.file_meta.MediaStorageSOPInstanceUID = uid
    reported(without(attacked, PART_AT), Change.BODY_PIXELS)


# Group 0099 of one file in another.


def test_the_private_group_of_another_stego_file_is_reported(
    one: Victim, other: Victim, reported: Reported
) -> None:
    attacked = with_block(dcmread(other.stego), block_of(dcmread(one.stego)))
    found = extract(attacked)
    assert name_in(found) == other.patient and found.carried is Carried.PIXELS
    reported(attacked, Change.PIXELS)


def test_the_private_group_in_a_file_that_carries_nothing_is_reported(
    one: Victim, other: Victim, reported: Reported
) -> None:
    plain = with_pixels(dcmread(other.stego), pixels_of(other.cover))
    found = extract(with_block(plain, block_of(dcmread(one.stego))))
    assert name_in(found) == one.patient and found.carried is Carried.HEADER
    reported(
        with_block(plain, block_of(dcmread(one.stego))), Change.PIXELS, Change.SOP_INSTANCE_UID
    )


def test_a_header_part_from_another_file_alone_never_restores_that_file(
    one: Victim, other: Victim, reported: Reported
) -> None:
    block = block_of(dcmread(other.stego))
    tag = mark.GROUP << 16 | 0x1000 | PART_AT
    block[tag] = dcmread(one.stego)[tag]
    reported(with_block(dcmread(other.stego), block), Change.PIXELS)


# Single pixels.


def test_one_grey_level_in_the_body_is_reported(one: Victim, reported: Reported) -> None:
    plane = pixels_of(one.stego)
    row, col = np.argwhere(plane >= one.level)[1234]
    plane[row, col] -= 1
    attacked = with_pixels(dcmread(one.stego), plane)
    reported(attacked, Change.BODY_PIXELS, Change.PIXELS)
    reported(without(attacked, PART_AT), Change.BODY_PIXELS)


def test_one_grey_level_in_air_that_carries_nothing_is_reported_by_the_header(
    one: Victim, reported: Reported
) -> None:
    plane = pixels_of(one.stego)
    dark = np.kron(to_blocks(plane).max(axis=-1) < one.level - 1, np.ones((4, 4), dtype=bool))
    row, col = np.argwhere(dark & ~one.carriers)[1234]
    plane[row, col] += 1
    attacked = with_pixels(dcmread(one.stego), plane)
    reported(attacked, Change.PIXELS)
    # The record is bound to what is bright: dark pixels are for the header part to tell.
    assert extract(without(attacked, PART_AT)).binding is Binding.VERIFIED


def test_pixels_of_two_slices_of_a_series_that_were_swapped_are_reported(
    one: Victim, tmp_path: Path, reported: Reported
) -> None:
    neighbour = native_head(7, turned=True)
    neighbour.SOPInstanceUID = neighbour.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    next_one = embedded(neighbour, tmp_path / "next")
    assert next_one.patient == one.patient
    for victim, donor in ((one, next_one), (next_one, one)):
        attacked = with_pixels(dcmread(victim.stego), pixels_of(donor.stego))
        assert name_in(extract(attacked)) == one.patient
        reported(attacked, Change.PIXELS, Change.SOP_INSTANCE_UID)
        bare = extract(without(attacked, PART_AT))
        assert bare.binding is Binding.VERIFIED, "the record is that of these pixels"
        assert bare.changes == (Change.SOP_INSTANCE_UID,)


# What archives do is no attack.


def test_a_new_sop_instance_uid_alone_is_verified_and_the_original_comes_back(
    one: Victim, reported: Reported
) -> None:
    moved = dcmread(one.stego)
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(moved, keyword, generate_uid())
    moved.file_meta.MediaStorageSOPInstanceUID = moved.SOPInstanceUID
    code, line = reported.run(moved)
    assert code == 0 and line["binding"] == Binding.VERIFIED.value
    assert line["changes"] == [Change.SOP_INSTANCE_UID.value]
    assert Path(str(line["restored"])).read_bytes() == one.cover.read_bytes()


def test_without_the_private_group_the_identity_comes_back(one: Victim, reported: Reported) -> None:
    bare = dcmread(one.stego)
    mark.remove_mark(bare)
    code, line = reported.run(bare)
    assert code == 0 and line["binding"] == Binding.VERIFIED.value and line["changes"] == []
    assert line["restored_as"] == RestoredAs.IDENTITY.value
    assert line["not_original_because"] == [Missing.NO_HEADER_PART.value]
    restored, cover = dcmread(str(line["restored"])), dcmread(one.cover)
    assert restored.PatientName == cover.PatientName and restored.StudyDate == cover.StudyDate
    assert restored.SOPInstanceUID not in (cover.SOPInstanceUID, bare.SOPInstanceUID)
    assert restored.file_meta.MediaStorageSOPInstanceUID == restored.SOPInstanceUID
    assert restored.ImageType[0] == "DERIVED" and restored.DerivationDescription
    assert np.array_equal(restored.pixel_array, bare.pixel_array)


# Whoever has the recipient can seal; what is sealed is not trusted.


def forged(victim: Victim, change: Callable[[Dataset], None]) -> Dataset:
    """A stego file whose header part holds another original, sealed to the same recipient."""
    ds = dcmread(victim.stego)
    part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
    head, _ = parse_head(part.head)
    change(head)
    return with_part(ds, replace(part, head=head_bytes(head), original_file=b""))


def head_bytes(head: Dataset) -> bytes:
    file = BytesIO()
    head.save_as(file, enforce_file_format=True)
    return file.getvalue()


def with_part(ds: Dataset, part: HeaderPart) -> Dataset:
    made = copy.deepcopy(ds)
    sealed = seal(encode_header_part(part), IDENTITY.recipient.public, FrameKind.HEADER_PART)
    read = mark.read_mark(made)
    assert read is not None
    mark.write_mark(made, read, sealed)
    return made


def forged_file(victim: Victim, head: bytes, tail: bytes = b"") -> Dataset:
    """A stego file whose header part makes another file of the original's pixels."""
    ds = dcmread(victim.stego)
    part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
    original = victim.cover.read_bytes()
    value = original[len(part.head) : len(original) - len(part.tail)]
    digest = hashlib.sha256(head + value + tail).digest()
    return with_part(ds, replace(part, head=head, tail=tail, original_file=digest))


def sealed_head(victim: Victim) -> bytes:
    part = unseal(mark.read_sealed_part(dcmread(victim.stego)), IDENTITY.secret)
    return decode_header_part(part).head


def test_a_forged_file_that_is_the_original_is_given_back(one: Victim, reported: Reported) -> None:
    """The forgeries below fail for what they change, and for nothing else."""
    code, line = reported.run(forged_file(one, sealed_head(one)))
    assert code == 0 and line["restored_as"] == RestoredAs.ORIGINAL_FILE.value


def test_what_follows_the_pixel_data_is_not_trusted_either(one: Victim, reported: Reported) -> None:
    # Readers take the last of two elements, in whatever order they come.
    slope = bytes.fromhex("28005310") + b"DS" + struct.pack("<H", 2) + b"3 "
    code, line = reported.run(forged_file(one, sealed_head(one), tail=slope))
    assert code == 0 and line["refused"] == ["RescaleSlope"]
    assert dcmread(str(line["restored"])).RescaleSlope == 1
    pixels = sealed_head(one)[-12:-4] + struct.pack("<I", 4) + bytes(4)
    for tail in (pixels, b"no data set", slope[:-1]):
        code, line = reported.run(forged_file(one, sealed_head(one), tail=tail))
        assert code == 0 and line["restored_as"] == RestoredAs.IDENTITY.value


def test_pixels_do_not_come_out_of_a_sealed_header(one: Victim, reported: Reported) -> None:
    head, size = sealed_head(one), 512 * 512 * 2
    announcement = head[-12:]
    assert announcement[-4:] == struct.pack("<I", size)
    own_pixels = announcement + bytes(size) + bytes.fromhex("e17f0110") + b"OB\0\0"
    for hidden in (
        head[:-12] + own_pixels + struct.pack("<I", size),
        head[:-4] + struct.pack("<I", size - 2),
        head[:-4] + struct.pack("<I", size + 2),
        head[:-4] + struct.pack("<I", 0xFFFFFFFF),
        head[:-12] + announcement[:2] + b"\x08\0" + announcement[4:],
        head[:-12],
    ):
        code, line = reported.run(forged_file(one, hidden))
        assert code == 0 and line["restored_as"] == RestoredAs.ORIGINAL.value
        restored = dcmread(str(line["restored"]))
        assert np.array_equal(restored.pixel_array, dcmread(one.cover).pixel_array)


def test_an_undo_list_does_not_change_the_body(one: Victim, reported: Reported) -> None:
    cover, stego = pixels_of(one.cover), pixels_of(one.stego)
    row, col = np.argwhere(cover >= one.level)[1234]
    cover[row, col] -= 1
    ds = dcmread(one.stego)
    part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
    undo = undo_frame(cover, stego)
    digest = digest_of(HeldFrames(cover[np.newaxis]))
    code, line = reported.run(
        with_part(ds, replace(part, undo=undo, original_pixels=digest, original_file=b""))
    )
    assert code == 0 and line["restored_as"] == RestoredAs.IDENTITY.value
    assert line["not_original_because"] == [Missing.HEADER_PART_DAMAGED.value]


def test_a_sealed_header_does_not_inflate_without_end(one: Victim, reported: Reported) -> None:
    deflater = zlib.compressobj(9, wbits=-15)
    part = bytes(1 << 20)
    bomb = b"".join(deflater.compress(part) for _ in range(2048)) + deflater.flush()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.3", "1.2.3"
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = BytesIO(bytes(128) + b"DICM")
    file.seek(132)
    write_file_meta_info(file, meta)
    tracemalloc.start()
    code, line = reported.run(forged_file(one, file.getvalue() + bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code == 0 and line["restored_as"] == RestoredAs.IDENTITY.value
    assert peak < 200 << 20, "2 GiB of zeros"


def set_slope(ds: Dataset) -> None:
    ds.RescaleSlope = "3"


def set_spacing(ds: Dataset) -> None:
    ds.PixelSpacing = ["9", "9"]


def set_position(ds: Dataset) -> None:
    ds.ImagePositionPatient = ["1", "2", "3"]


def set_orientation_and_window(ds: Dataset) -> None:
    ds.ImageOrientationPatient = ["0", "1", "0", "1", "0", "0"]
    ds.WindowCenter = "-500"


def add_modality_lut(ds: Dataset) -> None:
    ds.ModalityLUTSequence = Sequence([Dataset()])
    ds.ModalityLUTSequence[0].ModalityLUTType = "HU"


def remove_thickness(ds: Dataset) -> None:
    del ds.SliceThickness


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (set_slope, ["RescaleSlope"]),
        (set_spacing, ["PixelSpacing"]),
        (set_position, ["ImagePositionPatient"]),
        (set_orientation_and_window, ["ImageOrientationPatient", "WindowCenter"]),
        (add_modality_lut, ["ModalityLUTSequence"]),
        (remove_thickness, ["SliceThickness"]),
    ],
    ids=lambda each: each.__name__ if callable(each) else None,
)
def test_a_sealed_header_brings_back_only_what_de_identification_takes(
    change: Callable[[Dataset], None], refused: list[str], one: Victim, reported: Reported
) -> None:
    code, line = reported.run(forged(one, change))
    assert code == 0 and line["refused"] == refused
    assert line["restored_as"] == RestoredAs.IDENTITY.value
    assert line["not_original_because"] == [Missing.ATTRIBUTES_REFUSED.value]
    restored, stego = dcmread(str(line["restored"])), dcmread(one.stego)
    for keyword in refused:
        assert restored.get(keyword) == stego.get(keyword)
    assert restored.PatientName == dcmread(one.cover).PatientName
    assert restored.SOPInstanceUID != dcmread(one.cover).SOPInstanceUID


def test_an_attribute_that_was_changed_in_the_file_is_named_and_stays_changed(
    one: Victim, reported: Reported
) -> None:
    edited = dcmread(one.stego)
    edited.RescaleIntercept = "12"
    code, line = reported.run(edited)
    assert code == 0 and line["refused"] == ["RescaleIntercept"]
    assert dcmread(str(line["restored"])).RescaleIntercept == 12


@pytest.mark.parametrize(
    "head",
    [b"", b"no DICOM", bytes(200), bytes(128) + b"DICM" + bytes(60)],
    ids=["none", "text", "zeros", "no meta"],
)
def test_a_sealed_header_that_is_none_costs_the_original_and_nothing_else(
    head: bytes, one: Victim, reported: Reported
) -> None:
    ds = dcmread(one.stego)
    part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
    code, line = reported.run(with_part(ds, replace(part, head=head)))
    assert code == 0 and line["restored_as"] == RestoredAs.IDENTITY.value
    assert dcmread(str(line["restored"])).PatientName == dcmread(one.cover).PatientName


def test_a_header_part_that_does_not_open_costs_the_original_and_nothing_else(
    one: Victim, reported: Reported
) -> None:
    ds = dcmread(one.stego)
    part = unseal(mark.read_sealed_part(ds), IDENTITY.secret)
    read = mark.read_mark(ds)
    assert read is not None
    stranger = Identity.generate().recipient.public
    for sealed in (
        seal(part, stranger, FrameKind.HEADER_PART),
        seal(part, IDENTITY.recipient.public, FrameKind.BOUND_RECORD),
        seal(b"\x02\xff", IDENTITY.recipient.public, FrameKind.HEADER_PART),
        b"\x03" + bytes(100),
        b"\x07" * 100,
    ):
        mark.write_mark(ds, read, sealed)
        code, line = reported.run(ds)
        assert code == 0 and line["binding"] == Binding.VERIFIED.value
        assert line["not_original_because"] == [Missing.HEADER_PART_DAMAGED.value]
        assert line["header_part"]


def test_an_undo_list_that_gives_other_pixels_is_not_used(one: Victim, reported: Reported) -> None:
    ds = dcmread(one.stego)
    part = decode_header_part(unseal(mark.read_sealed_part(ds), IDENTITY.secret))
    for undo in (b"nonsense", part.undo[:-1], part.undo[:8] + bytes(len(part.undo) - 8)):
        code, line = reported.run(with_part(ds, replace(part, undo=undo)))
        assert code == 0 and line["restored_as"] == RestoredAs.IDENTITY.value
        assert line["not_original_because"] == [Missing.HEADER_PART_DAMAGED.value]


# Objects whose header carries.


def dose(seed: int, doubled: bool = False) -> Dataset:
    ds = dcmread(get_testdata_file("rtdose_1frame.dcm", download=False))
    write_fake_patient(ds, seed)
    if doubled:
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u4") * 2).astype("<u4").tobytes()
    return ds


def report(seed: int, file: str = "test-SR.dcm") -> Dataset:
    ds = dcmread(get_testdata_file(file, download=False))
    write_fake_patient(ds, seed)
    return ds


def key_objects(seed: int) -> Dataset:
    """A key object selection of one image; two of them differ in nothing but identity and UIDs."""
    ds = report(seed)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.59"
    ds.Modality = "KO"
    image, item = Dataset(), Dataset()
    image.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.ReferencedSOPInstanceUID = f"2.25.{seed}"
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = Sequence([image])
    ds.ContentSequence = Sequence([item])
    return ds


HEADER_CARRIED = {
    "a dose in another dose": (lambda: dose(1), lambda: dose(2, doubled=True)),
    "a dose in a report": (lambda: dose(1), lambda: report(2)),
    "a report in another": (lambda: report(1), lambda: report(2, "reportsi.dcm")),
    "a report in one of the same form": (lambda: report(1), lambda: report(2)),
    "key objects in others": (lambda: key_objects(1), lambda: key_objects(2)),
}


@pytest.mark.parametrize("case", HEADER_CARRIED)
def test_a_header_carried_record_moved_to_another_object_is_reported(
    case: str, tmp_path: Path, reported: Reported
) -> None:
    first, second = (
        embedded(make(), tmp_path / name)
        for make, name in zip(HEADER_CARRIED[case], ("first", "second"), strict=True)
    )
    assert first.embedding.report.carried is Carried.HEADER
    assert extract(dcmread(first.stego)).binding is Binding.VERIFIED
    attacked = with_block(dcmread(second.stego), block_of(dcmread(first.stego)))
    found = extract(attacked)
    assert name_in(found) == first.patient
    assert found.binding is Binding.CHANGED and Change.CONTENT in found.changes
    assert found.carried is Carried.HEADER
    reported(attacked, *found.changes)
    # The identity's own UID does not help.
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(attacked, keyword, dcmread(first.stego)[keyword].value)
    attacked.file_meta.MediaStorageSOPInstanceUID = attacked.SOPInstanceUID
    assert extract(attacked).binding is Binding.CHANGED


def test_a_header_carried_record_moved_by_itself_is_reported(tmp_path: Path) -> None:
    first, second = embedded(dose(1), tmp_path / "a"), embedded(dose(2, True), tmp_path / "b")
    ds = dcmread(second.stego)
    tag = mark.GROUP << 16 | 0x1000 | RECORD_AT
    ds[tag] = dcmread(first.stego)[tag]
    found = extract(ds)
    assert name_in(found) == first.patient
    assert found.binding is Binding.CHANGED and Change.CONTENT in found.changes


def test_a_changed_dose_grid_is_reported(tmp_path: Path, reported: Reported) -> None:
    ds = dcmread(embedded(dose(1), tmp_path / "dose").stego)
    scaled = copy.deepcopy(ds)
    scaled.DoseGridScaling = float(ds.DoseGridScaling) * 2
    reported(scaled, Change.CONTENT)
    scaled.DoseGridScaling = ds.DoseGridScaling
    scaled.PixelData = scaled.PixelData[:-1] + b"\x01"
    reported(scaled, Change.CONTENT, Change.PIXELS)
    reported(without(scaled, PART_AT), Change.CONTENT)


def test_a_new_sop_instance_uid_of_a_dose_is_verified(tmp_path: Path, reported: Reported) -> None:
    victim = embedded(dose(1), tmp_path / "dose")
    moved = dcmread(victim.stego)
    moved.SOPInstanceUID = moved.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    code, line = reported.run(moved)
    assert code == 0 and line["changes"] == [Change.SOP_INSTANCE_UID.value]
    assert Path(str(line["restored"])).read_bytes() == victim.cover.read_bytes()


def test_frames_for_header_and_pixels_do_not_pass_for_each_other(tmp_path: Path) -> None:
    ds = dcmread(embedded(dose(1), tmp_path / "dose").stego)
    part, record = (mark.GROUP << 16 | 0x1000 | at for at in (PART_AT, RECORD_AT))
    ds[part].value, ds[record].value = ds[record].value, ds[part].value
    with pytest.raises(DamagedMessageError):
        extract(ds)


# Files of the first release.


@pytest.mark.parametrize("path", sorted(golden.FOLDER.glob("model1-*.dcm")), ids=lambda p: p.stem)
def test_a_file_of_an_earlier_release_is_not_bound_and_a_new_uid_is_reported(path: Path) -> None:
    ds = dcmread(path)
    found = pipeline.extract(read_object(ds), golden.IDENTITY)
    assert found.binding is Binding.NOT_BOUND and found.changes == ()
    restored = pipeline.restore(read_object(ds), found, golden.IDENTITY.recipient)
    assert restored.restored_as is RestoredAs.IDENTITY
    assert restored.missing == (Missing.NO_HEADER_PART,)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    found = pipeline.extract(read_object(ds), golden.IDENTITY)
    assert found.binding is Binding.CHANGED and found.changes == (Change.SOP_INSTANCE_UID,)
    with pytest.raises(ChangedError):
        pipeline.restore(read_object(ds), found, golden.IDENTITY.recipient)
