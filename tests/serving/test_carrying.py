"""Where a record is carried and whether it belongs to its instance, over the wire."""

from __future__ import annotations

import io
import random
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.crypto.seal import FrameKind, kind_of
from coverslip.dicom.objects import read_object
from coverslip.engine import open_engine
from coverslip.pipeline import Binding, Carried, Change, EmbedOptions, RestoredAs
from coverslip.scheme.profiles import DEFAULT
from coverslip_serving import Client
from coverslip_serving._stubs import coverslip_pb2 as pb
from coverslip_serving._stubs.coverslip_pb2_grpc import CoverslipServiceStub
from coverslip_serving.errors import BadRequestError, RemoteError
from coverslip_serving.opening import Opener
from tests.serving.test_client import proxied  # noqa: F401 - a fixture

pytestmark = pytest.mark.slow
"""These tests start servers."""

IN_HEADER = {
    "reportsi.dcm": "no-pixels",
    "rtdose_1frame.dcm": "deep",
    "rtplan.dcm": "no-pixels",
    "liver_1frame.dcm": "one-bit",
}
"""Objects that come with pydicom, and the first reason why their header carries."""


def sample(name):
    return Path(get_testdata_file(name, download=False))


@pytest.fixture(scope="module")
def client(gateway):
    with Client(gateway.address()) as client:
        yield client


@pytest.fixture(scope="module")
def stego(client, cover, identity):
    return client.embed(cover, identity.recipient)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """An ultrasound-like image in colour, of which nothing is said about text in its pixels."""
    path = tmp_path_factory.mktemp("colour") / "colour.dcm"
    dataset = dcmread(sample("SC_rgb_small_odd.dcm"))
    dataset.PatientName, dataset.PatientID = "COLOUR^ANNA", "colour-17"
    dataset.save_as(path)
    return path


def altered(content, row, column):
    """A stego file with one pixel changed."""
    dataset = dcmread(io.BytesIO(content))
    dataset.decompress(generate_instance_uid=False)
    planes = dataset.pixel_array.copy()
    planes[row, column] += 1
    dataset.PixelData = planes.tobytes()
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def restored(content, found, identity):
    return pipeline.restore(read_object(content), found.extraction, identity.recipient)


def refusal(call):
    with pytest.raises(RemoteError) as refused:
        call()
    return refused.value.status, refused.value.code


@pytest.mark.parametrize("name", IN_HEADER)
def test_the_header_carries_what_pixels_cannot_and_the_original_comes_back(
    client, identity, name, tmp_path
):
    done = client.embed(sample(name), identity.recipient)
    assert done.report.carried == pb.CARRIED_HEADER and done.report.bound
    assert done.report.header_reasons[0].code == IN_HEADER[name]
    assert len(done.report.header_reasons[0].message.split()) > 4
    assert done.report.header_bytes > 300 and done.report.psnr.stored == float("inf")
    found = client.extract(done.instance, identity)
    assert (found.carried, found.binding, found.changes) == (
        Carried.HEADER,
        Binding.VERIFIED,
        (),
    )
    restoration = restored(done.instance, found, identity)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
    restoration.write(tmp_path / "restored.dcm")
    assert (tmp_path / "restored.dcm").read_bytes() == sample(name).read_bytes()


def test_colour_is_carried_once_the_header_denies_text_in_the_pixels(
    client, colour, identity, tmp_path
):
    assert refusal(lambda: client.embed(colour, identity.recipient)) == (
        "FAILED_PRECONDITION",
        "burned-in-annotation",
    )
    dataset = dcmread(colour)
    dataset.BurnedInAnnotation = "NO"
    dataset.save_as(tmp_path / "looked-at.dcm")
    done = client.embed(tmp_path / "looked-at.dcm", identity.recipient)
    assert done.report.header_reasons[0].code == "colour"
    assert b"COLOUR" not in done.instance
    assert client.extract(done.instance, identity).binding is Binding.VERIFIED


def test_pixels_carry_and_the_record_is_verified_by_the_client(stego, client, cover, identity):
    assert stego.report.carried == pb.CARRIED_PIXELS and not stego.report.header_reasons
    assert stego.report.bound and stego.report.header_bytes > 1000
    found = client.extract(stego.instance, identity)
    assert (found.carried, found.binding, found.changes) == (
        Carried.PIXELS,
        Binding.VERIFIED,
        (),
    )
    assert kind_of(found.sealed) is FrameKind.BOUND_RECORD and found.agreement > 10
    restoration = restored(stego.instance, found, identity)
    assert restoration.restored_as in (RestoredAs.ORIGINAL, RestoredAs.ORIGINAL_FILE)


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ((256, 256), (Change.BODY_PIXELS, Change.PIXELS)),
        ((3, 3), (Change.PIXELS,)),
    ],
    ids=["in the body", "in the air"],
)
def test_a_changed_file_is_reported_and_still_gives_its_record(
    client, stego, identity, place, changes
):
    found = client.extract(altered(stego.instance, *place), identity)
    assert (found.binding, found.changes) == (Binding.CHANGED, changes)
    assert len(found.record) > 20


def test_a_series_says_it_for_each_instance(client, cover, stego, identity, tmp_path):
    instances = [("air", cover), ("report", sample("reportsi.dcm"))]
    done = list(client.embed_series(instances, identity.recipient))
    assert [each.report.carried for each in done] == [pb.CARRIED_PIXELS, pb.CARRIED_HEADER]
    paths = []
    contents = [done[0].instance, b"no DICOM", altered(done[0].instance, 256, 256)]
    for number, content in enumerate([*contents, done[1].instance]):
        paths.append((str(number), tmp_path / str(number)))
        paths[-1][1].write_bytes(content)
    found = list(client.extract_series(iter(paths), identity))
    assert isinstance(found[1], RemoteError) and found[1].code == "not-dicom"
    assert [(each.label, each.binding) for each in (found[0], found[2], found[3])] == [
        ("0", Binding.VERIFIED),
        ("2", Binding.CHANGED),
        ("3", Binding.VERIFIED),
    ]
    assert client.extract_file(paths[3][1], identity).carried is Carried.HEADER
    sealed = client.extract_sealed_file(paths[0][1], identity.recipient)
    assert sealed.votes is None and sealed.agreement == found[0].agreement > 10


def test_who_asks_for_pixels_gets_pixels_or_a_refusal(client, cover, identity, tmp_path):
    report = sample("reportsi.dcm")
    calls = [
        lambda **more: client.embed(report, identity.recipient, **more),
        lambda **more: client.embed_file(report, identity.recipient, **more),
        lambda **more: client.embed_to_file(
            report, tmp_path / "stego.dcm", identity.recipient, **more
        ),
    ]
    for call in calls:
        assert refusal(lambda call=call: call(require_pixels=True)) == (
            "FAILED_PRECONDITION",
            "header-only",
        )
    (failure,) = client.embed_series([("x", report)], identity.recipient, require_pixels=True)
    assert failure.code == "header-only"
    assert client.embed(cover, identity.recipient, require_pixels=True).instance


def test_kinds_are_allowed_by_name_and_none_that_never_carries(
    gateway, client, cover, identity, tmp_path
):
    dataset = dcmread(cover)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.save_as(tmp_path / "localizer.dcm")
    localizer = tmp_path / "localizer.dcm"
    done = client.embed(localizer, identity.recipient)
    assert [reason.code for reason in done.report.header_reasons] == ["localizer"]
    done = client.embed(localizer, identity.recipient, allow=("localizer",))
    assert done.report.carried == pb.CARRIED_PIXELS
    here = client.embed(localizer, identity.recipient, allow=("localizer",), seal_here=True)
    assert here.report.carried == pb.CARRIED_PIXELS
    fits = client.inspect(localizer, allow=("localizer",)).profiles
    assert {fit.carried for fit in fits if fit.fits} == {pb.CARRIED_PIXELS}
    for kind in ("colour", "nonsense"):
        with pytest.raises(BadRequestError, match="never carry"):
            client.embed(localizer, identity.recipient, allow=(kind,))
        options = pb.EmbedOptions(recipient=str(identity.recipient), allow=[kind])
        request = pb.EmbedRequest(instance=localizer.read_bytes(), options=options)
        with (
            grpc.insecure_channel(gateway.address()) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            CoverslipServiceStub(channel).Embed(request, timeout=30)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "localizer" in refused.value.details()


def test_inspect_is_that_of_this_machine(client, cover, colour, identity):
    engine = open_engine()
    for path in (cover, colour, sample("reportsi.dcm")):
        seen = client.inspect(path)
        here = pipeline.survey(
            read_object(path), identity.recipient, engine, EmbedOptions(DEFAULT)
        ).summary()
        for name in ("frames", "rows", "columns", "recorded", "modules", "burned_in", "body"):
            assert getattr(seen, name) == here[name], name
        assert list(seen.notes) == here["notes"] and seen.carries == pb.CARRIED_UNSPECIFIED
        for fit in seen.profiles:
            wanted = here["profiles"][fit.profile]
            assert fit.fits == wanted["fits"] and fit.code == wanted.get("code", "")
            carried = {"pixels": pb.CARRIED_PIXELS, "header": pb.CARRIED_HEADER, "": 0}
            assert fit.carried == carried[wanted.get("carried", "")]
            assert [reason.code for reason in fit.header_reasons] == [
                reason["code"] for reason in wanted.get("header_reasons", [])
            ]


def test_inspect_says_where_a_file_carries_already(client, stego, identity, tmp_path):
    seen = client.inspect(stego.instance)
    assert seen.carries == pb.CARRIED_PIXELS
    assert {fit.code for fit in seen.profiles} == {"already-carries"}
    report = client.embed(sample("reportsi.dcm"), identity.recipient)
    assert client.inspect(report.instance).carries == pb.CARRIED_HEADER


@pytest.fixture(scope="module")
def long_record(tmp_path_factory):
    """A report with so much identity that no frame holds it."""
    path = tmp_path_factory.mktemp("long") / "long.dcm"
    dataset, draw = dcmread(sample("reportsi.dcm")), random.Random(3)
    dataset.RequestAttributesSequence = [Dataset() for _ in range(20)]
    for item in dataset.RequestAttributesSequence:
        item.ReasonForTheRequestedProcedure = [draw.randbytes(30).hex() for _ in range(16)]
    dataset.save_as(path)
    return path


def test_a_record_that_the_header_part_alone_holds_comes_back(
    gateway, client, long_record, identity
):
    done = client.embed(long_record, identity.recipient)
    assert done.report.sealed_bytes == 0 and done.report.header_bytes > 4000
    options = pb.ExtractOptions(recipient=str(identity.recipient))
    request = pb.ExtractRequest(instance=done.instance, options=options)
    with grpc.insecure_channel(gateway.address()) as channel:
        answer = CoverslipServiceStub(channel).Extract(request, timeout=30)
    assert answer.sealed == b"" and answer.carried == pb.CARRIED_HEADER
    found = client.extract(done.instance, identity)
    assert found.binding is Binding.VERIFIED and found.sealed == b""
    assert restored(done.instance, found, identity).restored_as is RestoredAs.ORIGINAL_FILE
    assert refusal(lambda: client.extract(done.instance, Identity.generate())) == (
        "FAILED_PRECONDITION",
        "wrong-key",
    )


def test_sealed_here_the_server_gets_no_identity_and_the_original_comes_back(
    proxied,  # noqa: F811 - the fixture
    cover,
    identity,
    tmp_path,
):
    client, proxy = proxied
    done = client.embed(cover, identity.recipient, seal_here=True)
    ((sent,),) = proxy.calls
    original = dcmread(cover)
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "SOPInstanceUID"):
        value = str(original[keyword].value).encode()
        assert value in cover.read_bytes() and value not in sent and value not in done.instance
    with Client(proxy.address) as direct:
        found = direct.extract(done.instance, identity)
        here = direct.embed(cover, identity.recipient)
    assert (found.binding, found.changes) == (Binding.VERIFIED, ())
    restoration = restored(done.instance, found, identity)
    assert restoration.restored_as in (RestoredAs.ORIGINAL, RestoredAs.ORIGINAL_FILE)
    restoration.write(tmp_path / "restored.dcm")
    back = read_object(tmp_path / "restored.dcm")
    assert np.array_equal(back.image.planes, read_object(cover).image.planes)
    assert back.dataset.PatientName == original.PatientName
    for name in ("carried", "bound", "recorded", "record_bytes", "sealed_bytes", "dropped"):
        assert getattr(done.report, name) == getattr(here.report, name), name
    assert done.report.header_bytes > 1000 and list(done.report.notes) == list(here.report.notes)


def test_what_the_header_alone_may_carry_is_sealed_here_without_any_server(
    identity, colour, tmp_path
):
    with Client("127.0.0.1:9", timeout=1) as nobody:
        for name in IN_HEADER:
            done = nobody.embed(sample(name), identity.recipient, seal_here=True)
            assert done.figures()["carried"] == "header"
            (tmp_path / name).write_bytes(done.instance)
            found = pipeline.extract(read_object(tmp_path / name), identity)
            assert found.binding is Binding.VERIFIED
        from coverslip.errors import BurnedInAnnotationError, HeaderOnlyError

        with pytest.raises(HeaderOnlyError):
            nobody.embed(
                sample("rtplan.dcm"), identity.recipient, seal_here=True, require_pixels=True
            )
        with pytest.raises(BurnedInAnnotationError):
            nobody.embed(colour, identity.recipient, seal_here=True)


def test_figures_are_those_that_the_command_line_prints(stego, client, cover, identity):
    done = pipeline.embed(
        read_object(cover), identity.recipient, open_engine(), EmbedOptions(DEFAULT)
    )
    here, over_the_wire = done.report.as_json(), stego.figures()
    assert {*here} - {*over_the_wire} == {"changed_outside"} and not {*over_the_wire} - {*here}
    assert over_the_wire["carried"] == "pixels" and over_the_wire["header_reasons"] == []
    report = client.embed(sample("rtplan.dcm"), identity.recipient).figures()
    (reason,) = report["header_reasons"]
    assert report["carried"] == "header" and {*reason} == {"code", "message"}


def test_an_opener_restores_the_original_into_a_file_for_its_eyes_and_deletes_it(
    stego, cover, identity, tmp_path, monkeypatch
):
    (tmp_path / "cover.dcm").write_bytes(stego.instance)
    modes = []
    write = pipeline.Restoration.write

    def watched(self, path, overwrite=False):
        write(self, path, overwrite)
        modes.append(path.stat().st_mode & 0o777)

    monkeypatch.setattr(pipeline.Restoration, "write", watched)
    options = pb.ExtractOptions(recipient=str(identity.recipient), open=True, restore=True)
    sealed = pipeline.extract_sealed(read_object(tmp_path / "cover.dcm"), identity.recipient)
    answer = pb.ExtractResponse(sealed=sealed.sealed, carried=pb.CARRIED_PIXELS)
    opener = Opener({identity.recipient.public: identity})
    assert opener.complete(answer, tmp_path / "cover.dcm", options) is Binding.VERIFIED
    assert modes == [0o600] and [path.name for path in tmp_path.iterdir()] == ["cover.dcm"]
    assert answer.restored_as in ("original", "original-file") and not answer.not_original_because
    back = dcmread(io.BytesIO(answer.restored))
    assert np.array_equal(back.pixel_array, dcmread(cover).pixel_array)


def test_the_figures_count_where_records_are(gateway, client, cover, identity):
    def count(where):
        with urllib.request.urlopen(f"http://{gateway.address('metrics')}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        name = f'coverslip_carried_total{{carried="{where}"}} '
        return sum(float(line[len(name) :]) for line in lines if line.startswith(name))

    before = count("pixels"), count("header")
    client.embed(cover, identity.recipient)
    list(client.embed_series([("x", sample("rtplan.dcm"))], identity.recipient))
    assert (count("pixels"), count("header")) == (before[0] + 1, before[1] + 1)
