"""What archives and converters do to a stego file costs no identity.

The programs are other people's, from Debian; a test whose program is not installed is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.deidentification import header
from coverslip.dicom.objects import DicomObject, read_object
from coverslip.errors import NoMessageError, WrongKeyError
from coverslip.fake_patient import write_fake_patient
from coverslip.pipeline import Binding, Carried, Change, Missing, RestoredAs
from coverslip.scheme.profiles import DEFAULT
from coverslip.scheme.reference import ReferenceEngine
from tests import golden
from tests.covers import head_ct
from tests.outlines import outline_head
from tests.paths import ROOT, pydicom_file
from tests.peers import Orthanc, need, run, running_orthanc

pytestmark = pytest.mark.slow

IDENTITY, SOMEBODY_ELSE = Identity.generate(), Identity.generate()
ENGINE = ReferenceEngine(outline_head)
PATIENT = "Imagined^Patient Nr 0007"


@dataclass(frozen=True)
class Pair:
    """A cover and the stego file that was made of it."""

    cover: Path
    stego: Path


def embed(cover: Path, stego: Path, carried: Carried = Carried.PIXELS) -> Pair:
    options = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)
    embedding = pipeline.embed(read_object(cover), IDENTITY.recipient, ENGINE, options)
    assert embedding.report.carried is carried
    embedding.write(stego)
    return Pair(cover, stego)


def native_head_ct() -> Dataset:
    """The head CT, decompressed."""
    dataset = head_ct(7)
    dataset.decompress()
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return dataset


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """In explicit little endian, which every program reads."""
    folder = tmp_path_factory.mktemp("native")
    native_head_ct().save_as(folder / "cover.dcm")
    return embed(folder / "cover.dcm", folder / "stego.dcm")


@pytest.fixture(scope="module")
def compressed(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """In JPEG 2000, as pydicom has it."""
    folder = tmp_path_factory.mktemp("compressed")
    head_ct(7).save_as(folder / "cover.dcm")
    return embed(folder / "cover.dcm", folder / "stego.dcm")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    need("Orthanc", "storescu")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


def expected_record(cover: DicomObject) -> records.Record:
    key = pipeline.uid_key(IDENTITY.recipient)
    return header.deidentify(cover.dataset, key, allow_burned_in=True)[1]


def assert_identity_comes_back(
    handled: Path, pair: Pair, keeps_private: bool, new_uid: bool
) -> None:
    """The right key reads the record and it is verified; the wrong key is told apart."""
    found, cover = read_object(handled), read_object(pair.cover)
    extraction = pipeline.extract(found, IDENTITY)
    assert extraction.record == expected_record(cover)
    assert extraction.carried is Carried.PIXELS
    assert extraction.binding is Binding.VERIFIED
    assert extraction.changes == ((Change.SOP_INSTANCE_UID,) if new_uid else ())
    # Without a mark nothing says that there is a record for somebody else.
    with pytest.raises(WrongKeyError if keeps_private else NoMessageError):
        pipeline.extract(found, SOMEBODY_ELSE)
    assert_restored(found, extraction, cover, keeps_private, handled.with_name("restored.dcm"))


def assert_restored(
    found: DicomObject,
    extraction: pipeline.Extraction,
    cover: DicomObject,
    keeps_private: bool,
    target: Path,
) -> None:
    restoration = pipeline.restore(found, extraction, IDENTITY.recipient)
    restoration.write(target)
    restored = read_object(target)
    assert restored.dataset.PatientName == PATIENT
    assert restored.image is not None and found.image is not None and cover.image is not None
    if not keeps_private:
        assert restoration.restored_as is RestoredAs.IDENTITY
        assert restoration.missing == (Missing.NO_HEADER_PART,)
        np.testing.assert_array_equal(restored.image.planes, found.image.planes)
        return
    assert restoration.restored_as in (RestoredAs.ORIGINAL_FILE, RestoredAs.ORIGINAL)
    if restoration.restored_as is RestoredAs.ORIGINAL_FILE:
        assert cover.path is not None and target.read_bytes() == cover.path.read_bytes()
    np.testing.assert_array_equal(restored.image.planes, cover.image.planes)
    assert differing_attributes(restored.dataset, cover.dataset) == []


def differing_attributes(restored: Dataset, cover: Dataset) -> list[str]:
    """Tags that are not the same in both; group lengths are no part of what a file says."""
    tags = sorted({*restored.keys(), *cover.keys()})
    return [
        str(tag)
        for tag in tags
        if tag.element and tag != 0x7FE00010 and restored.get(tag) != cover.get(tag)
    ]


@dataclass(frozen=True)
class Handling:
    """Something that happens to a file on its way, done by somebody else's program.

    Attributes
    ----------
    what : str
    commands : tuple
        Each a program and its words; ``IN`` and ``OUT`` stand for files, and a command without
        ``OUT`` changes its file in place.
    keeps_private : bool
        The private block is still there, and so the sealed header part.
    new_uid : bool
        The SOP Instance UID is another one.
    """

    what: str
    commands: tuple[tuple[str, ...], ...]
    keeps_private: bool = True
    new_uid: bool = False

    def __call__(self, source: Path, folder: Path) -> Path:
        """Handle a file; where the result is."""
        need(*(command[0] for command in self.commands))
        for number, command in enumerate(self.commands):
            target = folder / f"{number}.dcm"
            if "OUT" not in command:
                shutil.copy(source, target)
                run(*command, target)
            else:
                files = {"IN": source, "OUT": target}
                run(*(files.get(word, word) for word in command))
            source = target
        return source


def dcmodify(what: str, *words: str, keeps_private: bool = True, new_uid: bool = False) -> Handling:
    return Handling(what, (("dcmodify", "-nb", *words),), keeps_private, new_uid)


def gdcmconv(what: str, *words: str, keeps_private: bool = True) -> Handling:
    return Handling(what, (("gdcmconv", *words, "IN", "OUT"),), keeps_private)


def dcmtk(what: str, *commands: str) -> Handling:
    return Handling(what, tuple((*command.split(), "IN", "OUT") for command in commands))


TO_ANY = [
    dcmodify("nothing", "-v"),
    dcmodify("a new SOP Instance UID", "-gin", new_uid=True),
    dcmodify("new study, series and instance UIDs", "-gst", "-gse", "-gin", new_uid=True),
    dcmodify("a mark of a later version", "-m", "(0099,1001)=9"),
    dcmodify("a mark of the first version", "-m", "(0099,1001)=1"),
    dcmodify("another patient's name", "-m", "PatientName=Somebody^Else"),
    dcmodify("private attributes erased", "-ep", keeps_private=False),
    dcmodify(
        "private attributes erased, a new UID", "-ep", "-gin", keeps_private=False, new_uid=True
    ),
    dcmodify("the private creator erased", "-ea", "(0099,0010)", keeps_private=False),
    gdcmconv("gdcmconv without private attributes", "--remove-private-tags", keeps_private=False),
    gdcmconv("gdcmconv to native", "--raw"),
    gdcmconv("gdcmconv to implicit", "--raw", "--implicit"),
    gdcmconv("gdcmconv to deflated", "--raw", "--deflated"),
]
"""Of which every program can read every transfer syntax."""

GDCMANON = ("--dumb", "--empty", "10,10", "--empty", "8,50", "--remove", "99,1010")
TO_NATIVE = [
    gdcmconv("gdcmconv to JPEG", "--jpeg"),
    gdcmconv("gdcmconv to JPEG-LS", "--jpegls"),
    gdcmconv("gdcmconv to JPEG 2000", "--j2k"),
    gdcmconv("gdcmconv to RLE", "--rle"),
    dcmtk("dcmcjpeg, SV1", "dcmcjpeg"),
    dcmtk("dcmcjpeg, process 14", "dcmcjpeg +el"),
    dcmtk("dcmcjpeg and dcmdjpeg", "dcmcjpeg", "dcmdjpeg"),
    dcmtk("dcmcrle", "dcmcrle"),
    dcmtk("dcmcrle and dcmdrle", "dcmcrle", "dcmdrle"),
    dcmtk("dcmcjpls", "dcmcjpls"),
    dcmtk("dcmcjpls and dcmdjpls", "dcmcjpls", "dcmdjpls"),
    dcmtk("dcmconv to implicit", "dcmconv +ti"),
    dcmtk("dcmconv to big endian", "dcmconv +tb"),
    dcmtk("dcmconv to deflated", "dcmconv +td"),
    dcmtk("dcmconv with group lengths", "dcmconv +g"),
    dcmtk("dcmconv with undefined lengths and padding", "dcmconv -e +p 2048 128"),
    dcmtk("dcmconv without VRs of after 1993", "dcmconv -u"),
    dcmtk("dcmconv to implicit and back, private VRs UN", "dcmconv +ti", "dcmconv +te"),
    dcmtk("dcmconv by implicit to big endian", "dcmconv +ti", "dcmconv +tb"),
    dcmtk("dcmconv by implicit, UN by OB", "dcmconv +ti", "dcmconv +te -u"),
]
"""For native files alone: DCMTK decodes no JPEG 2000."""


def named(handlings: list[Handling]) -> list[object]:
    return [pytest.param(handling, id=handling.what) for handling in handlings]


@pytest.mark.parametrize("handling", named(TO_ANY + TO_NATIVE))
def test_a_native_stego_file_gives_its_identity_back_after(
    native: Pair, tmp_path: Path, handling: Handling
) -> None:
    handled = handling(native.stego, tmp_path)
    assert_identity_comes_back(handled, native, handling.keeps_private, handling.new_uid)


@pytest.mark.parametrize("handling", named(TO_ANY))
def test_a_compressed_stego_file_gives_its_identity_back_after(
    compressed: Pair, tmp_path: Path, handling: Handling
) -> None:
    handled = handling(compressed.stego, tmp_path)
    assert_identity_comes_back(handled, compressed, handling.keeps_private, handling.new_uid)


def test_gdcmanon_may_take_the_sealed_header_part_alone(native: Pair, tmp_path: Path) -> None:
    need("gdcmanon")
    run("gdcmanon", *GDCMANON, native.stego, tmp_path / "handled.dcm")
    handled = read_object(tmp_path / "handled.dcm")
    extraction = pipeline.extract(handled, IDENTITY)
    assert extraction.record == expected_record(read_object(native.cover))
    assert extraction.binding is Binding.VERIFIED and extraction.part is None
    with pytest.raises(WrongKeyError):
        pipeline.extract(handled, SOMEBODY_ELSE)
    restoration = pipeline.restore(handled, extraction, IDENTITY.recipient)
    assert restoration.missing == (Missing.NO_HEADER_PART,)


ORIGINALS = {
    "implicit": ("dcmconv +ti",),
    "big endian": ("dcmconv +tb",),
    "deflated": ("dcmconv +td",),
    "RLE": ("dcmcrle",),
    "JPEG-LS": ("dcmcjpls",),
    "JPEG": ("dcmcjpeg",),
    "with group lengths and undefined lengths": ("dcmconv +g -e",),
}
REACHED = {
    "implicit": "--implicit --raw",
    "explicit": "--explicit --raw",
    "JPEG 2000": "--j2k",
}


@pytest.fixture(scope="module", params=ORIGINALS)
def original(
    request: pytest.FixtureRequest, native: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """A cover that its scanner wrote in another encoding."""
    folder = tmp_path_factory.mktemp("original")
    cover = dcmtk("", *ORIGINALS[request.param])(native.cover, folder)
    return embed(cover, folder / "stego.dcm")


@pytest.mark.parametrize("words", REACHED.values(), ids=REACHED)
def test_an_original_of_any_encoding_comes_back_out_of_any_other(
    original: Pair, tmp_path: Path, words: str
) -> None:
    handled = gdcmconv("", *words.split())(original.stego, tmp_path)
    assert_identity_comes_back(handled, original, keeps_private=True, new_uid=False)


@pytest.mark.parametrize("name", ["implicit", "explicit"])
def test_a_big_endian_copy_gives_the_original_back(native: Pair, tmp_path: Path, name: str) -> None:
    """Values of one byte order, or without their VR, must not be written as they are."""
    need("dcmconv")
    run("dcmconv", "+ti" if name == "implicit" else "+te", native.cover, tmp_path / "cover.dcm")
    pair = embed(tmp_path / "cover.dcm", tmp_path / "stego.dcm")
    run("dcmconv", "+tb", pair.stego, tmp_path / "handled.dcm")
    assert_identity_comes_back(tmp_path / "handled.dcm", pair, keeps_private=True, new_uid=False)


def replacement(uid: str) -> dict[str, object]:
    """Words of a request to Orthanc: new study, series and instance UIDs, another patient."""
    return {
        "Replace": {
            "PatientName": "Somebody^Else",
            "PatientID": "42",
            "StudyInstanceUID": f"{uid}.1",
            "SeriesInstanceUID": f"{uid}.2",
            "SOPInstanceUID": f"{uid}.3",
        },
        "Force": True,
    }


Request = Callable[[Orthanc, str], bytes]


def posted(action: str, **words: object) -> Request:
    return lambda orthanc, name: orthanc.post(f"/instances/{name}/{action}", words)


REQUESTS: dict[str, tuple[Request, bool, bool]] = {
    # What is asked for; private attributes are kept; the SOP Instance UID is new.
    "store": (lambda orthanc, name: orthanc.get(f"/instances/{name}/file"), True, False),
    "modify": (posted("modify", **replacement("2.25.7")), True, True),
    "modify, private attributes removed": (
        posted("modify", RemovePrivateTags=True, **replacement("2.25.8")),
        False,
        True,
    ),
    "anonymize": (posted("anonymize"), False, True),
    "anonymize, private attributes kept": (posted("anonymize", KeepPrivateTags=True), True, True),
    "anonymize by the edition of 2008": (posted("anonymize", DicomVersion="2008"), False, True),
}
TRANSCODED = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "JPEG, process 14": "1.2.840.10008.1.2.4.57",
    "JPEG, SV1": "1.2.840.10008.1.2.4.70",
    # Orthanc 1.10.1 of Debian encodes no RLE, and its JPEG-LS encoder ends the server on images of
    # 13 bits, the cover's among them.
}


@pytest.mark.parametrize("request_name", REQUESTS)
def test_orthanc_keeps_the_identity_of_a_native_file_through(
    orthanc: Orthanc, native: Pair, tmp_path: Path, request_name: str
) -> None:
    send, keeps_private, new_uid = REQUESTS[request_name]
    (tmp_path / "handled.dcm").write_bytes(send(orthanc, orthanc.store(native.stego)))
    assert_identity_comes_back(tmp_path / "handled.dcm", native, keeps_private, new_uid)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_orthanc_keeps_the_identity_of_a_compressed_file_through(
    orthanc: Orthanc, compressed: Pair, tmp_path: Path, request_name: str
) -> None:
    send, keeps_private, new_uid = REQUESTS[request_name]
    stored = orthanc.store(compressed.stego, "--propose-j2k-lossless")
    (tmp_path / "handled.dcm").write_bytes(send(orthanc, stored))
    assert_identity_comes_back(tmp_path / "handled.dcm", compressed, keeps_private, new_uid)


@pytest.mark.parametrize("syntax", TRANSCODED.values(), ids=TRANSCODED)
def test_orthanc_transcodes_without_loss_to(
    orthanc: Orthanc, native: Pair, tmp_path: Path, syntax: str
) -> None:
    stored = orthanc.store(native.stego)
    transcoded = orthanc.post(f"/instances/{stored}/modify", {"Transcode": syntax})
    (tmp_path / "handled.dcm").write_bytes(transcoded)
    assert dcmread(tmp_path / "handled.dcm").file_meta.TransferSyntaxUID == syntax
    assert_identity_comes_back(tmp_path / "handled.dcm", native, keeps_private=True, new_uid=True)


WITHOUT_AIR = [
    "reportsi.dcm",
    "rtplan.dcm",
    "waveform_ecg.dcm",
    "rtdose_1frame.dcm",
    "SC_rgb_rle.dcm",
]


@pytest.fixture(params=WITHOUT_AIR)
def headed(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """An object whose header carries its record."""
    dataset = dcmread(pydicom_file(request.param))
    write_fake_patient(dataset, seed=7)
    dataset.save_as(tmp_path / "cover.dcm")
    return embed(tmp_path / "cover.dcm", tmp_path / "stego.dcm", Carried.HEADER)


def assert_whole(restoration: pipeline.Restoration, headed: Pair, target: Path) -> None:
    """The original comes back; byte for byte where its pixel data did not change their syntax."""
    restoration.write(target)
    source, cover = restoration.source, read_object(headed.cover)
    if not source.has_pixels or source.transfer_syntax == cover.transfer_syntax:
        assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
        assert target.read_bytes() == headed.cover.read_bytes()
    else:
        assert restoration.restored_as is RestoredAs.ORIGINAL
        restored = read_object(target)
        assert differing_attributes(restored.dataset, cover.dataset) == []
        assert restored.dataset.PixelData == cover.dataset.PixelData


def test_orthanc_keeps_what_the_header_carries(
    orthanc: Orthanc, headed: Pair, tmp_path: Path
) -> None:
    """An archive that writes another patient into an image's header does not cost the binding."""
    stored = orthanc.store(headed.stego, "--propose-rle")
    key = IDENTITY.recipient
    for action in ("modify", "anonymize"):
        words = replacement("2.25.9") if action == "modify" else {"KeepPrivateTags": True}
        (tmp_path / action).write_bytes(orthanc.post(f"/instances/{stored}/{action}", words))
        found = read_object(tmp_path / action)
        extraction = pipeline.extract(found, IDENTITY)
        assert extraction.record == expected_record(read_object(headed.cover))
        assert extraction.carried is Carried.HEADER
        # Little but its UIDs tells a report from another.
        bound = found.has_pixels
        assert extraction.binding is (Binding.VERIFIED if bound else Binding.CHANGED)
        assert Change.SOP_INSTANCE_UID in extraction.changes
        assert (Change.CONTENT in extraction.changes) is not bound
        with pytest.raises(WrongKeyError):
            pipeline.extract(found, SOMEBODY_ELSE)
        restoration = pipeline.restore(found, extraction, key, even_if_changed=not bound)
        assert_whole(restoration, headed, tmp_path / f"restored-{action}")


def test_converters_keep_what_the_header_carries(headed: Pair, tmp_path: Path) -> None:
    need("dcmconv")
    encapsulated = read_object(headed.cover).is_encapsulated
    for words in ("+g", "-e") if encapsulated else ("+ti", "+te", "+g", "-e"):
        run("dcmconv", words, headed.stego, tmp_path / f"{words}.dcm")
        found = read_object(tmp_path / f"{words}.dcm")
        extraction = pipeline.extract(found, IDENTITY)
        assert (extraction.binding, extraction.changes) == (Binding.VERIFIED, ())
        restoration = pipeline.restore(found, extraction, IDENTITY.recipient)
        assert_whole(restoration, headed, tmp_path / f"restored{words}.dcm")


@pytest.mark.parametrize("name", sorted(path.name for path in golden.FOLDER.glob("*.dcm")))
def test_a_released_file_gives_its_identity_back_after_a_new_uid(tmp_path: Path, name: str) -> None:
    released = golden.FOLDER / name
    handled = dcmodify("", "-gin")(released, tmp_path)
    before = pipeline.extract(read_object(released), golden.IDENTITY)
    after = pipeline.extract(read_object(handled), golden.IDENTITY)
    assert after.record == before.record and len(after.record) > 20
    # Records of early releases name no image: nothing but the UID could say that they belong.
    bound = before.binding is Binding.VERIFIED
    assert after.binding is (Binding.VERIFIED if bound else Binding.CHANGED)
    assert Change.SOP_INSTANCE_UID in after.changes
    with pytest.raises(WrongKeyError):
        pipeline.extract(read_object(handled), SOMEBODY_ELSE)


def test_the_released_files_are_there() -> None:
    assert len(list((ROOT / "tests" / "data").glob("model*.dcm"))) >= 18
