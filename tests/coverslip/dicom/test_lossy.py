"""Lossy images are read, never written, and carry in their headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from coverslip import pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.instance import read_instance
from coverslip.dicom.objects import read_object
from coverslip.errors import HeaderOnlyError, LossySourceError
from coverslip.pipeline import Binding, Carried, RestoredAs
from coverslip.pixels.decoding import LOSSY
from coverslip.scheme.profiles import DEFAULT
from coverslip.scheme.reference import ReferenceEngine
from tests.paths import pydicom_file

READ = {
    "JPGExtended.dcm": (0, 264),
    "JPEGLSNearLossless_08.dcm": (0, 255),
    "JPEGLSNearLossless_16.dcm": (0, 65535),
    "693_J2KI.dcm": (-2971, 2836),
    "JPEG2000.dcm": (-30, 245),
}
"""Lowest and highest stored value."""

UNDECODED = ["JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"]
IDENTITY = Identity.generate()
ENGINE = ReferenceEngine(lambda pixels: np.ones(pixels.shape, dtype=np.uint8))


def embed(path: Path, require_pixels: bool = False) -> pipeline.Embedding:
    options = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True, require_pixels=require_pixels)
    return pipeline.embed(read_object(path), IDENTITY.recipient, ENGINE, options)


@pytest.mark.parametrize("name", READ)
def test_a_lossy_image_is_read_and_says_so(name: str) -> None:
    image = read_object(pydicom_file(name)).image
    assert image is not None and image.is_lossy and image.transfer_syntax in LOSSY
    assert (image.planes.min(), image.planes.max()) == READ[name]
    np.testing.assert_array_equal(image.planes[0], dcmread(pydicom_file(name)).pixel_array)


def test_a_lossless_image_is_not_lossy() -> None:
    image = read_object(pydicom_file("MR_small_jp2klossless.dcm")).image
    assert image is not None and not image.is_lossy


@pytest.mark.parametrize("name", UNDECODED)
def test_a_lossy_image_that_does_not_decode_goes_on_without_pixels(name: str) -> None:
    source = read_object(pydicom_file(name))
    assert source.image is None
    assert isinstance(source.not_image, LossySourceError)
    assert "do not decode" in str(source.not_image)


@pytest.mark.parametrize("name", [*READ, *UNDECODED])
def test_no_lossy_image_is_read_to_be_written(name: str) -> None:
    with pytest.raises(LossySourceError):
        read_instance(pydicom_file(name))


@pytest.mark.parametrize("name", [*READ, *UNDECODED])
def test_a_lossy_image_carries_in_its_header_and_says_why(name: str, tmp_path: Path) -> None:
    embedding = embed(pydicom_file(name))
    reason = embedding.report.header_reasons[0]
    assert embedding.report.carried is Carried.HEADER and reason.code == "lossy-source"
    assert "decompress" not in reason.message and "lossy transfer syntax" in reason.message
    embedding.write(tmp_path / "stego.dcm")
    stego = read_object(tmp_path / "stego.dcm")
    assert stego.transfer_syntax == read_object(pydicom_file(name)).transfer_syntax
    extraction = pipeline.extract(stego, IDENTITY)
    assert (extraction.carried, extraction.binding) == (Carried.HEADER, Binding.VERIFIED)
    restoration = pipeline.restore(stego, extraction, IDENTITY.recipient)
    assert restoration.restored_as is RestoredAs.ORIGINAL_FILE
    restoration.write(tmp_path / "restored.dcm")
    assert (tmp_path / "restored.dcm").read_bytes() == pydicom_file(name).read_bytes()


def test_who_requires_pixels_gets_a_refusal() -> None:
    with pytest.raises(HeaderOnlyError, match="lossy transfer syntax"):
        embed(pydicom_file("693_J2KI.dcm"), require_pixels=True)


def test_a_lossy_image_is_surveyed() -> None:
    options = pipeline.EmbedOptions(DEFAULT, allow_burned_in=True)
    source = read_object(pydicom_file("693_J2KI.dcm"))
    summary = pipeline.survey(source, IDENTITY.recipient, ENGINE, options).summary()
    assert summary["rows"] == 512 and summary["legal"] == [-8192, 8191]
