"""Files written by a released model, kept as they are: what every later version must still read.

``python -m tests.golden`` writes those of the model that is installed, for a new frame version or
model version; existing files are never replaced. The image is a drawn phantom, the patient and the
key are invented."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from coverslip.crypto.keys import Identity
from coverslip.fake_patient import write_fake_patient
from tests.paths import ROOT

FOLDER = ROOT / "tests" / "data"
SIDE = 240
ROOMY = 384
"""Side of what `robust` gets: a lossy codec leaves a small picture too little."""

IDENTITY = Identity(bytes(range(32)))
"""A key that anybody can write down: it protects nothing but an invented patient."""


LAST_WITHOUT_IMAGE_TYPE = 6
"""Models up to this one embedded into a phantom without Image Type."""


def phantom(side: int = SIDE, image_type: bool = True) -> Dataset:
    """A drawn slice of 12 bits with an invented patient.

    A bright noisy ellipse with a dark one inside, on dark noise.
    """
    random = np.random.default_rng(20)
    row, column = np.ogrid[:side, :side]
    body = ((row / side - 0.5) / 0.3) ** 2 + ((column / side - 0.5) / 0.35) ** 2 < 1
    lung = ((row / side - 0.5) / 0.12) ** 2 + ((column / side - 0.4) / 0.1) ** 2 < 1
    pixels = np.where(
        body & ~lung, 1050 + random.normal(0, 30, body.shape), 24 + random.normal(0, 6, body.shape)
    )
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    slice_ = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    slice_.SOPClassUID, slice_.Modality = CTImageStorage, "CT"
    if image_type:
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    slice_.Rows = slice_.Columns = side
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = (
        16,
        12,
        11,
        0,
    )
    slice_.PixelData = pixels.clip(0, 4095).astype("<u2").tobytes()
    write_fake_patient(slice_, seed=20)
    return slice_


def has_image_type(path: Path) -> bool:
    """Whether the phantom that a golden file was made from has an Image Type."""
    return int(path.stem.split("-")[0].removeprefix("model")) > LAST_WITHOUT_IMAGE_TYPE


def main() -> None:
    """Write the files of the installed model, where they are not there yet."""
    from coverslip import pipeline
    from coverslip.dicom.instance import read_instance
    from coverslip.models import ModelKind, find_model
    from coverslip.scheme.profiles import PROFILES, ROBUST, Scheme
    from coverslip_edge.engine import LiteRtEngine

    FOLDER.mkdir(exist_ok=True)
    version = json.loads((find_model(ModelKind.LITERT).parent / "model.json").read_text())[
        "version"
    ]
    cover = FOLDER / "cover.dcm"
    for profile in PROFILES.values():
        stego = FOLDER / f"model{version}-{profile.name}.dcm"
        if profile.scheme is Scheme.KEYED and not stego.exists():
            phantom(ROOMY if profile is ROBUST else SIDE).save_as(cover)
            done = pipeline.embed(
                read_instance(cover),
                IDENTITY.recipient,
                LiteRtEngine(),
                pipeline.EmbedOptions(profile, require_pixels=True),
            )
            done.write(stego)
            print(stego.name, done.report.votes_per_module, stego.stat().st_size)
            cover.unlink()


if __name__ == "__main__":
    main()
