"""Files through a gateway that neither side holds as a whole."""

import pytest
from pydicom import dcmread

from coverslip.errors import OutputExistsError
from coverslip_serving import Client
from coverslip_serving.errors import RemoteError
from tests.serving.conftest import repeat_frames

pytestmark = pytest.mark.slow
"""These tests start servers."""

FRAMES = 10
"""More than a window."""


@pytest.fixture(scope="module")
def client(gateway):
    with Client(gateway.address(), timeout=300) as client:
        yield client


def test_a_file_of_many_frames_goes_into_a_file_and_its_record_comes_back(
    client, cover, identity, tmp_path
):
    source, target = tmp_path / "source.dcm", tmp_path / "target.dcm"
    repeat_frames(cover, FRAMES, source)
    done = client.embed_to_file(source, target, identity.recipient)
    assert done.instance == b"" and done.report.frames == done.report.frames_carrying == FRAMES
    result = client.extract_file(target, identity)
    assert len(result.record) == done.report.recorded > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.dcm", "target.dcm"]


def test_nothing_appears_where_the_gateway_refuses(client, identity, tmp_path):
    source = tmp_path / "source.dcm"
    source.write_bytes(b"no DICOM at all")
    with pytest.raises(RemoteError) as refused:
        client.embed_to_file(source, tmp_path / "target.dcm", identity.recipient)
    assert refused.value.code == "not-dicom"
    assert list(tmp_path.iterdir()) == [source]


def test_an_existing_target_is_replaced_only_on_request_and_the_source_never(
    client, cover, identity, tmp_path
):
    target = tmp_path / "target.dcm"
    target.write_bytes(b"something")
    with pytest.raises(OutputExistsError):
        client.embed_to_file(cover, target, identity.recipient)
    with pytest.raises(OutputExistsError):
        client.embed_to_file(cover, cover, identity.recipient, overwrite=True)
    assert target.read_bytes() == b"something"
    client.embed_to_file(cover, target, identity.recipient, overwrite=True)
    assert dcmread(target).PatientIdentityRemoved == "YES"
