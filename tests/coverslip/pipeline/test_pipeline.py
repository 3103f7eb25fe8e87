from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import seal, unseal
from coverslip.deidentification import header
from coverslip.deidentification.mark import read_mark
from coverslip.dicom.instance import read_instance
from coverslip.dicom.record_views import as_dataset
from coverslip.engine import Embedded
from coverslip.errors import (
    AlreadyCarriesError,
    DamagedMessageError,
    DoesNotComeBackError,
    EngineError,
    NoBodyError,
    NoCarriersError,
    NoMessageError,
    RecordTooLargeError,
    WrongKeyError,
)
from coverslip.pipeline import embedding, extraction
from coverslip.pixels.frames import HeldFrames
from coverslip.qr import symbol as symbols
from coverslip.scheme.profiles import DEFAULT, FAINT, PAPER, ROBUST, readable
from coverslip.scheme.reference import ReferenceEngine
from tests.covers import crop, head_ct


def outline(pixels):
    """A classical outline that is good enough for one head CT: bright, largest part, holes
    filled.
    """
    bright = pixels > np.percentile(pixels, 5) + 300
    parts, count = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    if not count:
        return np.zeros(pixels.shape, dtype=np.uint8)
    largest = 1 + np.argmax(ndimage.sum_labels(bright, parts, np.arange(1, count + 1)))
    return ndimage.binary_fill_holes(
        ndimage.binary_dilation(parts == largest, iterations=2)
    ).astype(np.uint8)


ENGINE = ReferenceEngine(outline)
IDENTITY = Identity.generate()


@pytest.fixture(scope="module")
def cover(tmp_path_factory):
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(7).save_as(path)
    return path


def embed(path, profile=DEFAULT, engine=ENGINE, **choices):
    return pipeline.embed(
        read_instance(path), IDENTITY.recipient, engine, pipeline.EmbedOptions(profile, **choices)
    )


@pytest.fixture(scope="module")
def stego(cover, tmp_path_factory):
    path = tmp_path_factory.mktemp("stego") / "stego.dcm"
    embed(cover).write(path)
    return path


def same_attributes(record, original, other):
    return all(other.get(e.tag) == original.get(e.tag) for e in as_dataset(record))


@pytest.mark.parametrize("profile", [FAINT, DEFAULT], ids=lambda p: p.name)
def test_the_identity_comes_back_exactly(cover, tmp_path, profile):
    embedding = embed(cover, profile)
    embedding.write(tmp_path / "stego.dcm")
    instance = read_instance(tmp_path / "stego.dcm")
    found = pipeline.extract(instance, IDENTITY)
    original = dcmread(cover)
    restored = pipeline.restore(instance, found.record).dataset
    assert len(found.record) > 20
    assert restored.PatientName == original.PatientName
    assert same_attributes(found.record, original, restored)
    assert instance.dataset.get("PatientName") != original.PatientName


def test_nothing_of_the_identity_is_left_in_the_file(cover, stego):
    original, data = dcmread(cover), stego.read_bytes()
    for keyword in (
        "PatientName",
        "PatientID",
        "AccessionNumber",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "InstitutionName",
    ):
        value = str(original.get(keyword, ""))
        assert value, keyword
        assert value.encode() not in data, keyword


def test_only_carriers_differ_and_the_report_says_what_it_cost(cover):
    embedding = embed(cover)
    planes = read_instance(cover).planes
    outside = ~np.kron(embedding.frames[0].carriers, np.ones((4, 4), dtype=bool))
    assert np.array_equal(embedding.stego[0][outside], planes[0][outside])
    assert not (embedding.frames[0].mask.astype(bool) & (embedding.stego[0] != planes[0])).any()
    report = embedding.report
    assert report.changed_outside == 0
    assert report.module_errors == 0
    assert report.weakest_module > 0
    assert report.votes_per_module == pytest.approx(3, abs=0.3)
    assert report.psnr.sixteen_bit > 95


def test_air_as_uneven_as_tissue_is_refused(cover, tmp_path):
    # Dark tissue that a network missed would pass the gate there: breasts whose fat is suppressed
    # did.
    dataset = dcmread(cover)
    pixels = dataset.pixel_array.astype(np.int32)
    mask = outline(pixels)
    noise = np.random.default_rng(1).integers(0, 900, pixels.shape)
    dataset.set_pixel_data(
        np.where(mask > 0, pixels, pixels.min() + noise).astype(np.int16),
        "MONOCHROME2",
        dataset.BitsStored,
    )
    dataset.save_as(tmp_path / "noisy.dcm")
    outlined = []
    with pytest.raises(NoCarriersError, match="as uneven as tissue"):
        embed(tmp_path / "noisy.dcm", engine=ReferenceEngine(lambda _: outlined.append(1) or mask))
    assert len(outlined) == 1, "no other address would make the air even"


def test_reading_with_the_engines_mask_finds_the_same(stego):
    instance = read_instance(stego)
    with_mask = pipeline.extract(instance, IDENTITY, ENGINE)
    assert records.encode(with_mask.record) == records.encode(
        pipeline.extract(instance, IDENTITY).record
    )


def test_for_one_sealed_frame_the_bytes_are_the_same(cover, tmp_path, monkeypatch):
    # Only the seal is random: with its frame held still, two runs write the same file.
    frame = embedding.seal(b"invented" * 20, IDENTITY.recipient.public)
    monkeypatch.setattr(embedding, "seal", lambda *_: frame)
    for name in ("one", "other"):
        embed(cover).write(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_wrong_key_is_an_error(stego):
    with pytest.raises(WrongKeyError, match="another recipient"):
        pipeline.extract(read_instance(stego), Identity.generate())


def unmarked(path):
    instance = read_instance(path)
    dataset = instance.dataset
    for element in list(dataset.group_dataset(0x0099)):
        del dataset[element.tag]
    return instance


@pytest.mark.slow
def test_without_its_mark_it_is_still_found_and_a_wrong_key_finds_nothing(stego):
    instance = unmarked(stego)
    assert len(pipeline.extract(instance, IDENTITY).record) > 20
    with pytest.raises(NoMessageError):
        pipeline.extract(instance, Identity.generate())


def test_an_image_without_a_record_has_no_message(cover):
    with pytest.raises(NoMessageError):
        pipeline.extract(read_instance(cover), IDENTITY)


def with_planes(instance, planes):
    return replace(instance, frames=HeldFrames(planes))


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["some", "all"])
def test_changed_pixels_are_damage_not_garbage(stego, harm):
    instance = read_instance(stego)
    rng = np.random.default_rng(3)
    noise = rng.integers(-4, 5, instance.planes.shape)
    if harm == "some":
        noise *= rng.random(instance.planes.shape) < 0.25
    planes = np.clip(instance.planes + noise, *instance.legal).astype(np.int32)
    with pytest.raises(DamagedMessageError):
        pipeline.extract(with_planes(instance, planes), IDENTITY)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.07, 0.1, 0.4])
def test_another_alpha_is_found_without_being_named(cover, tmp_path, alpha):
    # The mark holds the step but not alpha; a record written with another alpha was once told to be
    # damaged.
    embed(cover, replace(DEFAULT, alpha=alpha)).write(tmp_path / "stego.dcm")
    assert len(pipeline.extract(read_instance(tmp_path / "stego.dcm"), IDENTITY).record) > 20


def test_embedding_twice_is_refused(stego):
    with pytest.raises(AlreadyCarriesError):
        embed(stego)


def test_no_body_is_refused(cover):
    with pytest.raises(NoBodyError):
        embed(cover, engine=ReferenceEngine(lambda p: np.zeros(p.shape, dtype=np.uint8)))


def test_no_background_is_refused(cover):
    with pytest.raises(NoCarriersError, match="inspect"):
        embed(cover, engine=ReferenceEngine(lambda p: np.ones(p.shape, dtype=np.uint8)))


def test_too_little_background_is_refused_and_says_how_much_there_is(cover):
    def nearly_all(pixels):
        mask = np.ones(pixels.shape, dtype=np.uint8)
        mask[:12] = 0
        return mask

    with pytest.raises(NoCarriersError, match=r"room for \d+ blocks"):
        embed(cover, engine=ReferenceEngine(nearly_all))


def test_a_record_that_no_symbol_holds_is_refused(cover, monkeypatch):
    monkeypatch.setattr(records, "encode", lambda _: bytes(symbols.MAX_FRAME_BYTES))
    with pytest.raises(RecordTooLargeError, match=str(symbols.MAX_FRAME_BYTES)):
        embed(cover)


def test_the_papers_scheme_comes_back_where_mask_and_range_hold_still(cover, tmp_path):
    # Not at the paper's numbers. One pixel of the body is darker than any carrier can get: without
    # it, embedding moves the image's own minimum, by which the paper normalises, and every DC
    # coefficient is read wrongly.
    instance = read_instance(cover)
    planes = instance.planes.copy()
    planes[0, 256, 256] = instance.legal[0]
    fixed = outline(planes[0])
    engine = ReferenceEngine(lambda _: fixed)
    options = pipeline.EmbedOptions(replace(PAPER, alpha=0.25), beta=600)
    pipeline.embed(with_planes(instance, planes), IDENTITY.recipient, engine, options).write(
        tmp_path / "stego.dcm"
    )
    stego = read_instance(tmp_path / "stego.dcm")
    assert len(pipeline.extract(stego, IDENTITY, engine).record) > 20
    with pytest.raises(EngineError, match="--no-model"):
        pipeline.extract(stego, IDENTITY)


def test_the_papers_scheme_is_refused_because_it_does_not_come_back(cover):
    with pytest.raises(DoesNotComeBackError, match="--profile default"):
        embed(cover, PAPER)


class Touching(ReferenceEngine):
    """An engine that changes one pixel of the body."""

    def embed(self, request):
        done = super().embed(request)
        stego = done.stego.copy()
        stego[:, 256, 256] += 1
        return Embedded(stego, done.mask, done.carriers)


def test_an_engine_that_touches_the_body_is_caught(cover):
    with pytest.raises(DoesNotComeBackError, match="outside the carriers"):
        embed(cover, engine=Touching(outline))


def test_robust_embeds_a_small_record_with_room(cover):
    assert embed(cover, ROBUST).report.module_errors >= 0


def test_inspecting_says_what_fits_and_what_does_not(cover):
    instance = read_instance(cover)
    seen = pipeline.survey(instance, IDENTITY.recipient, ENGINE)
    assert seen.summary()["modules"] == embed(cover).symbol.size
    assert pipeline.would_fit(instance, IDENTITY.recipient, ENGINE, DEFAULT)["fits"]
    blind = ReferenceEngine(lambda p: np.zeros(p.shape, dtype=np.uint8))
    assert pipeline.would_fit(instance, IDENTITY.recipient, blind, DEFAULT) == {
        "fits": False,
        "code": "no-body",
        "message": pipeline.would_fit(instance, IDENTITY.recipient, blind, DEFAULT)["message"],
    }


def test_a_sealed_record_is_read_without_the_key_and_opened_with_it(stego):
    found = pipeline.extract_sealed(read_instance(stego), IDENTITY.recipient)
    opened = records.decode(unseal(found.sealed, IDENTITY.secret))
    assert opened == pipeline.extract(read_instance(stego), IDENTITY).record


def test_a_frame_that_was_sealed_elsewhere_is_carried_as_it_is(cover, tmp_path):
    instance = read_instance(cover)
    clean, record, _ = header.deidentify(instance.dataset, pipeline.uid_key(IDENTITY.recipient))
    frame = seal(records.encode(record), IDENTITY.recipient.public)
    options = pipeline.EmbedOptions(DEFAULT)
    first, second = (
        pipeline.embed(
            instance.with_dataset(clean), IDENTITY.recipient, ENGINE, options, sealed_frame=frame
        )
        for _ in range(2)
    )
    assert np.array_equal(first.stego, second.stego)
    first.write(tmp_path / "stego.dcm")
    assert (
        pipeline.extract_sealed(read_instance(tmp_path / "stego.dcm"), IDENTITY.recipient).sealed
        == frame
    )
    assert read_mark(clean) is None


@pytest.fixture(scope="module")
def robust(cover, tmp_path_factory):
    path = tmp_path_factory.mktemp("robust") / "stego.dcm"
    embed(cover, ROBUST).write(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("marked", [True, False], ids=["marked", "unmarked"])
def test_a_cropped_instance_gives_the_identity_back(marked, robust, cover, tmp_path):
    crop(robust, (slice(19, -7), slice(6, -21)), tmp_path / "cropped.dcm")
    instance = (
        read_instance(tmp_path / "cropped.dcm") if marked else unmarked(tmp_path / "cropped.dcm")
    )
    with pytest.raises(DamagedMessageError if marked else NoMessageError):
        pipeline.extract(instance, IDENTITY)
    found = pipeline.extract(instance, IDENTITY, cropped=True)
    assert found.profile == "robust"
    assert same_attributes(
        found.record, read_instance(cover).dataset, pipeline.restore(instance, found.record).dataset
    )


@pytest.mark.slow
def test_only_what_the_mark_names_is_sought_in_a_cropped_instance(robust, tmp_path, monkeypatch):
    sought = []
    monkeypatch.setattr(
        extraction, "read_cropped", lambda pixels, recipient, profile: sought.append(profile)
    )
    crop(robust, (slice(19, -7), slice(6, -21)), tmp_path / "cropped.dcm")
    with pytest.raises(DamagedMessageError):
        pipeline.extract(read_instance(tmp_path / "cropped.dcm"), IDENTITY, cropped=True)
    step = read_mark(read_instance(robust).dataset).step
    assert sought == list(readable(replace(ROBUST, step=step)))
