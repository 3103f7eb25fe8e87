import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from coverslip import pipeline
from coverslip import record as records
from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import FrameKind, kind_of, seal, unseal
from coverslip.deidentification import header, mark
from coverslip.deidentification.mark import read_mark
from coverslip.dicom.instance import read_instance
from coverslip.dicom.objects import read_object
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
from coverslip.pipeline import embedding, extraction, sealed_header
from coverslip.pipeline.binding import bind, dark_air, measure_brightness, pack, unpack
from coverslip.pipeline.surveying import fit_as_json
from coverslip.pixels.frames import HeldFrames
from coverslip.qr import symbol as symbols
from coverslip.scheme.profiles import DEFAULT, FAINT, PAPER, ROBUST, readable
from coverslip.scheme.reference import ReferenceEngine
from tests.covers import crop, head_ct
from tests.coverslip.pipeline.images import ENGINE, IDENTITY
from tests.outlines import outline_head


@pytest.fixture(scope="module")
def cover(tmp_path_factory):
    path = tmp_path_factory.mktemp("cover") / "cover.dcm"
    head_ct(7).save_as(path)
    return path


def embed(path, profile=DEFAULT, engine=ENGINE, **choices):
    return pipeline.embed(
        read_object(path), IDENTITY.recipient, engine, pipeline.EmbedOptions(profile, **choices)
    )


def embed_in_pixels(path, profile=DEFAULT, engine=ENGINE, **choices):
    """Embed, and be refused where only the header can carry."""
    return embed(path, profile, engine, require_pixels=True, **choices)


def assert_in_header(path, code, **choices):
    """Fail unless the header carries what the pixels refuse with this code."""
    done = embed(path, **choices)
    assert done.report.carried is pipeline.Carried.HEADER
    assert [reason.code for reason in done.report.header_reasons] == [code]
    assert done.pixels is None and done.report.changed_pixels == 0
    return done.report.header_reasons[0]


@pytest.fixture(scope="module")
def stego(cover, tmp_path_factory):
    path = tmp_path_factory.mktemp("stego") / "stego.dcm"
    embed(cover).write(path)
    return path


def read_pixels(source, engine=None):
    """What the pixels carry; the sealed header part would hide that they carry nothing."""
    found = pipeline.extract(source, IDENTITY, engine)
    assert found.carried is pipeline.Carried.PIXELS
    return found


def same_attributes(record, original, other):
    return all(other.get(e.tag) == original.get(e.tag) for e in as_dataset(record))


@pytest.mark.parametrize("profile", [FAINT, DEFAULT], ids=lambda p: p.name)
def test_the_identity_comes_back_exactly(cover, tmp_path, profile):
    embedding = embed(cover, profile)
    embedding.write(tmp_path / "stego.dcm")
    stego = read_object(tmp_path / "stego.dcm")
    found = read_pixels(stego)
    original = dcmread(cover)
    assert len(found.record) > 20
    assert stego.dataset.get("PatientName") != original.PatientName
    by_record = header.restore(stego.dataset, found.record)
    whole = pipeline.restore(stego, found, IDENTITY.recipient)
    for restored in (by_record, whole.header):
        assert restored.PatientName == original.PatientName
        assert same_attributes(found.record, original, restored)
    assert whole.restored_as is pipeline.RestoredAs.ORIGINAL and not whole.missing


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
    mask = outline_head(pixels)
    noise = np.random.default_rng(1).integers(0, 900, pixels.shape)
    dataset.set_pixel_data(
        np.where(mask > 0, pixels, pixels.min() + noise).astype(np.int16),
        "MONOCHROME2",
        dataset.BitsStored,
    )
    dataset.save_as(tmp_path / "noisy.dcm")
    outlined = []
    engine = ReferenceEngine(lambda _: outlined.append(1) or mask)
    with pytest.raises(NoCarriersError, match="as uneven as tissue"):
        embed_in_pixels(tmp_path / "noisy.dcm", engine=engine)
    assert len(outlined) == 1, "no other address would make the air even"
    reason = assert_in_header(tmp_path / "noisy.dcm", NoCarriersError.code, engine=engine)
    assert "as uneven as tissue" in reason.message


def test_an_image_of_few_grey_levels_goes_to_the_header_unless_the_step_is_small(cover, tmp_path):
    dataset = dcmread(cover)
    pixels = dataset.pixel_array.astype(np.int32)
    dark, bright = np.quantile(pixels, 0.05), np.quantile(pixels, 0.98)
    dim = ((pixels - dark) * 36 / (bright - dark)).clip(-5, 60)
    dataset.set_pixel_data((dim + 5).astype(np.int16), "MONOCHROME2", dataset.BitsStored)
    dataset.save_as(tmp_path / "dim.dcm")
    engine = ReferenceEngine(lambda _: outline_head(pixels))
    reason = assert_in_header(tmp_path / "dim.dcm", NoCarriersError.code, engine=engine)
    assert "grey levels brighter than the air" in reason.message
    embed_in_pixels(tmp_path / "dim.dcm", FAINT, engine)


def test_reading_with_the_engines_mask_finds_the_same(stego):
    instance = read_instance(stego)
    with_mask = read_pixels(instance, ENGINE)
    assert records.encode(with_mask.record) == records.encode(read_pixels(instance).record)


def test_for_one_sealed_frame_the_bytes_are_the_same(cover, tmp_path, monkeypatch):
    # Only the seal is random: where what is sealed twice is sealed alike, two runs write the same
    # file.
    sealed_alike = functools.cache(seal)
    for module in (embedding, sealed_header):
        monkeypatch.setattr(module, "seal", sealed_alike)
    for name in ("one", "other"):
        embed(cover).write(tmp_path / name)
    assert sealed_alike.cache_info().misses == 2, "a record and a header part"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_wrong_key_is_an_error(stego):
    with pytest.raises(WrongKeyError, match="another recipient"):
        pipeline.extract(read_instance(stego), Identity.generate())


def without_header_part(instance):
    """An instance whose header has the mark alone."""
    dataset = copy.deepcopy(instance.dataset)
    del dataset[dataset.private_block(mark.GROUP, mark.CREATOR).get_tag(0x10)]
    return instance.with_dataset(dataset)


def unmarked(path):
    instance = read_instance(path)
    dataset = instance.dataset
    for element in list(dataset.group_dataset(0x0099)):
        del dataset[element.tag]
    return instance


@pytest.mark.slow
def test_without_its_mark_it_is_still_found_and_a_wrong_key_finds_nothing(stego):
    instance = unmarked(stego)
    assert len(read_pixels(instance).record) > 20
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
    changed = with_planes(instance, planes)
    with pytest.raises(DamagedMessageError):
        pipeline.extract(without_header_part(changed), IDENTITY)
    # The header part gives the record still, and says that the pixels are others.
    found = pipeline.extract(changed, IDENTITY)
    assert found.carried is pipeline.Carried.HEADER
    assert found.binding is pipeline.Binding.CHANGED
    assert pipeline.Change.PIXELS in found.changes


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.07, 0.1, 0.4])
def test_another_alpha_is_found_without_being_named(cover, tmp_path, alpha):
    # The mark holds the step but not alpha; a record written with another alpha was once told to be
    # damaged.
    embed(cover, replace(DEFAULT, alpha=alpha)).write(tmp_path / "stego.dcm")
    assert len(read_pixels(read_instance(tmp_path / "stego.dcm")).record) > 20


def test_embedding_twice_is_refused(stego):
    with pytest.raises(AlreadyCarriesError):
        embed(stego)


BLIND = ReferenceEngine(lambda pixels: np.zeros(pixels.shape, dtype=np.uint8))
EVERYWHERE = ReferenceEngine(lambda pixels: np.ones(pixels.shape, dtype=np.uint8))


def test_pixels_without_a_body_are_refused_and_the_header_carries(cover):
    with pytest.raises(NoBodyError):
        embed_in_pixels(cover, engine=BLIND)
    assert_in_header(cover, NoBodyError.code, engine=BLIND)


def test_pixels_without_background_are_refused_and_the_header_carries(cover):
    with pytest.raises(NoCarriersError, match="inspect"):
        embed_in_pixels(cover, engine=EVERYWHERE)
    assert_in_header(cover, NoCarriersError.code, engine=EVERYWHERE)


def test_too_little_background_is_refused_and_says_how_much_there_is(cover):
    def nearly_all(pixels):
        mask = np.ones(pixels.shape, dtype=np.uint8)
        mask[:12] = 0
        return mask

    with pytest.raises(NoCarriersError, match=r"background has \d+ blocks .* too few"):
        embed_in_pixels(cover, engine=ReferenceEngine(nearly_all))
    assert_in_header(cover, NoCarriersError.code, engine=ReferenceEngine(nearly_all))


def test_a_record_that_no_symbol_holds_is_refused_and_the_header_carries(cover, monkeypatch):
    monkeypatch.setattr(records, "encode", lambda _: bytes(symbols.MAX_FRAME_BYTES))
    with pytest.raises(RecordTooLargeError, match=str(symbols.MAX_FRAME_BYTES)):
        embed_in_pixels(cover)
    assert_in_header(cover, RecordTooLargeError.code)


def test_the_papers_scheme_comes_back_where_mask_and_range_hold_still(cover, tmp_path):
    # Not at the paper's numbers. One pixel of the body is darker than any carrier can get: without
    # it, embedding moves the image's own minimum, by which the paper normalises, and every DC
    # coefficient is read wrongly.
    instance = read_instance(cover)
    planes = instance.planes.copy()
    planes[0, 256, 256] = instance.legal[0]
    fixed = outline_head(planes[0])
    engine = ReferenceEngine(lambda _: fixed)
    options = pipeline.EmbedOptions(replace(PAPER, alpha=0.25), beta=600)
    pipeline.embed(with_planes(instance, planes), IDENTITY.recipient, engine, options).write(
        tmp_path / "stego.dcm"
    )
    stego = read_instance(tmp_path / "stego.dcm")
    found = pipeline.extract(stego, IDENTITY, engine)
    assert len(found.record) > 20 and found.carried is pipeline.Carried.PIXELS
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
        embed(cover, engine=Touching(outline_head))


def test_robust_embeds_a_small_record_with_room(cover):
    assert embed(cover, ROBUST).report.module_errors >= 0


def test_inspecting_says_what_fits_and_what_does_not(cover):
    source, options = read_object(cover), pipeline.EmbedOptions(DEFAULT)
    seen = pipeline.survey(source, IDENTITY.recipient, ENGINE, options).summary()
    assert seen["modules"] == embed(cover).symbol.size
    assert seen["profiles"]["default"]["carried"] == "pixels"
    fit = pipeline.would_fit(source, IDENTITY.recipient, ENGINE, options)
    assert fit.error is None and fit.report.carried is pipeline.Carried.PIXELS
    fit = pipeline.would_fit(source, IDENTITY.recipient, BLIND, options)
    assert fit_as_json(fit)["carried"] == "header"
    assert [reason["code"] for reason in fit_as_json(fit)["header_reasons"]] == ["no-body"]
    strict = replace(options, require_pixels=True)
    fit = pipeline.would_fit(source, IDENTITY.recipient, BLIND, strict)
    assert fit_as_json(fit) == {"fits": False, "code": "no-body", "message": str(fit.error)}


def test_a_sealed_record_is_read_without_the_key_and_opened_with_it(stego):
    found = pipeline.extract_sealed(read_instance(stego), IDENTITY.recipient)
    assert kind_of(found.sealed) is FrameKind.BOUND_RECORD
    bound, encoded = unpack(unseal(found.sealed, IDENTITY.secret))
    assert bound is not None and bound.level is not None
    assert records.decode(encoded) == pipeline.extract(read_instance(stego), IDENTITY).record


@pytest.mark.parametrize("kind", [FrameKind.RECORD, FrameKind.BOUND_RECORD], ids=lambda k: k.name)
@pytest.mark.parametrize(
    ("engine", "carried"), [(ENGINE, "pixels"), (BLIND, "header")], ids=["pixels", "header"]
)
def test_a_frame_that_was_sealed_elsewhere_is_carried_as_it_is(
    kind, engine, carried, cover, tmp_path
):
    instance = read_instance(cover)
    clean, record, _ = header.deidentify(instance.dataset, pipeline.uid_key(IDENTITY.recipient))
    encoded = records.encode(record)
    if kind is FrameKind.BOUND_RECORD:
        level = measure_brightness(dark_air(instance), instance.legal[0]).level_for(DEFAULT.step)
        encoded = pack(bind(dark_air(instance), level), encoded)
    frame = seal(encoded, IDENTITY.recipient.public, kind)
    options = pipeline.EmbedOptions(DEFAULT)
    first, second = (
        pipeline.embed(
            instance.with_dataset(clean), IDENTITY.recipient, engine, options, sealed_frame=frame
        )
        for _ in range(2)
    )
    assert np.array_equal(first.stego, second.stego)
    first.write(tmp_path / "stego.dcm")
    second.write(tmp_path / "again.dcm")
    assert (tmp_path / "stego.dcm").read_bytes() == (tmp_path / "again.dcm").read_bytes()
    stego = read_instance(tmp_path / "stego.dcm")
    found = pipeline.extract_sealed(stego, IDENTITY.recipient)
    assert found.sealed == frame and found.carried.value == carried
    opened = pipeline.extract(stego, IDENTITY)
    bound = kind is FrameKind.BOUND_RECORD
    assert opened.binding.value == ("verified" if bound else "not-bound")
    assert records.encode(opened.record) == records.encode(record)
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
    if marked:
        assert pipeline.extract(instance, IDENTITY).carried is pipeline.Carried.HEADER
    with pytest.raises(DamagedMessageError if marked else NoMessageError):
        pipeline.extract(without_header_part(instance) if marked else instance, IDENTITY)
    found = pipeline.extract(instance, IDENTITY, cropped=True)
    assert found.profile == "robust" and found.carried is pipeline.Carried.PIXELS
    assert found.binding is pipeline.Binding.CHANGED
    assert same_attributes(
        found.record,
        read_instance(cover).dataset,
        header.restore(instance.dataset, found.record),
    )


@pytest.mark.slow
def test_only_what_the_mark_names_is_sought_in_a_cropped_instance(robust, tmp_path, monkeypatch):
    sought = []
    monkeypatch.setattr(
        extraction, "read_cropped", lambda pixels, recipient, profile: sought.append(profile)
    )
    crop(robust, (slice(19, -7), slice(6, -21)), tmp_path / "cropped.dcm")
    instance = without_header_part(read_instance(tmp_path / "cropped.dcm"))
    with pytest.raises(DamagedMessageError):
        pipeline.extract(instance, IDENTITY, cropped=True)
    step = read_mark(read_instance(robust).dataset).step
    assert sought == list(readable(replace(ROBUST, step=step)))
