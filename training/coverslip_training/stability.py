"""Embeds slices as Coverslip does, and measures what changed: pixels, outline and carriers.

A fake patient is written into the header, `coverslip.pipeline.embed` hides it, and the stego image
is read back from the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from coverslip import metrics, pipeline
from coverslip.crypto.keys import Identity
from coverslip.dicom.instance import read_instance
from coverslip.eligibility import ALLOWABLE
from coverslip.engine import EmbedRequest, Engine
from coverslip.errors import CoverslipError
from coverslip.fake_patient import write_fake_patient
from coverslip.scheme.dct import COEFFICIENTS, SIDE, to_blocks
from coverslip.scheme.profiles import DEFAULT, Profile
from coverslip_training.measures import (
    PRODUCT_MARGIN,
    Case,
    Mask,
    brightness,
    case_of,
    distance_to,
    possible_carriers,
)
from coverslip_training.records import Slice, read_slices


@dataclass(frozen=True)
class Stability:
    """How far an embedding changes the outline and the carriers.

    Attributes
    ----------
    refused : str
        Error code if the embedding was refused; else empty. If it was refused, the other values are
        from the engine alone, with arbitrary bits in every block that may carry.
    ncc : float
        Normalised correlation coefficient (Eq. 13) between the masks of stego image and cover, -1
        to 1.
    carriers_moved : float
        Number of blocks that may carry (margin and gate) in only one of the two images, as a share
        of those of the cover.
    moved_by_outline : float
        The same without the gate, whose threshold follows the noise that an embedding adds: the
        part due to the outline.
    body_altered : int
        Number of labelled body pixels that were changed.
    """

    refused: str
    ncc: float
    carriers_moved: float
    moved_by_outline: float
    body_altered: int


@dataclass(frozen=True)
class Alteration:
    """Effect of an embedding on a slice without a label.

    Attributes
    ----------
    refused : str
        Error code if the embedding was refused; else empty.
    brightest : float
        Brightness of the brightest changed pixel (`coverslip_training.measures.brightness`); 0 if
        none was changed.
    """

    refused: str
    brightest: float = 0.0


def labelled_cases(data: Path, split: str) -> Iterator[Case]:
    """Read the cases of one split of a folder; see `coverslip_training.records.read_slices`."""
    for item in read_slices(data, split):
        yield case_of(item, read_instance(data / item.name))


def unlabelled_cases(data: Path) -> Iterator[tuple[Case, str]]:
    """Read the cases of ``hard.csv``, if it exists, each with the reason why it is hard."""
    table = data / "hard.csv"
    if not table.exists():
        return
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        instance = read_instance(data / row["file"])
        plane = instance.planes[0]
        no_label = np.zeros(plane.shape, np.uint8)
        yield (
            case_of(
                Slice(row["file"], "", row["modality"], plane, no_label, row.get("anatomy", "")),
                instance,
            ),
            row["why"],
        )


def embed_and_read(
    file: Path, seed: int, engine: Engine, folder: Path, profile: Profile = DEFAULT
) -> NDArray[np.int32]:
    """Embed a fake patient, write the stego image, and read its first plane, with dark air.

    Parameters
    ----------
    file : Path
    seed : int
        The same seed gives the same patient.
    engine : Engine
    folder : Path
        For ``cover.dcm`` and ``stego.dcm``, which are replaced if they exist.
    profile : Profile

    Raises
    ------
    CoverslipError
        The embedding was refused.
    """
    dataset = dcmread(file)
    write_fake_patient(dataset, seed=seed)
    cover, stego = folder / "cover.dcm", folder / "stego.dcm"
    dataset.save_as(cover)
    # Of every kind, and never in the header: it is the pixels that are measured.
    options = pipeline.EmbedOptions(profile, require_pixels=True, allow=frozenset(ALLOWABLE))
    embedding = pipeline.embed(read_instance(cover), Identity.generate().recipient, engine, options)
    embedding.write(stego, overwrite=True)
    return pipeline.engine_planes(read_instance(stego)).pixels[0]


def embed_arbitrary_bits(
    case: Case, engine: Engine, seed: int, profile: Profile = DEFAULT
) -> NDArray[np.int32]:
    """Embed arbitrary bits into every block that may carry; return the stego plane [H, W]."""
    rng = np.random.default_rng(seed)
    blocks = (case.pixels.shape[0] // SIDE, case.pixels.shape[1] // SIDE)
    request = EmbedRequest(
        pixels=case.pixels[np.newaxis],
        legal=np.array([case.legal], np.int32),
        padding=np.array([case.padding], np.int32),
        phases=rng.integers(0, 256, (1, *blocks, COEFFICIENTS), dtype=np.uint8),
        slots=np.zeros((1, *blocks), np.int32),
        coefficients=np.isin(np.arange(COEFFICIENTS), profile.coefficients).astype(np.float32)[
            np.newaxis
        ],
        step=np.array([pipeline.resolve_step(profile, None, case.instance).step], np.float32),
        votes=np.array([blocks[0] * blocks[1]], np.int32),
        margin=np.array([profile.margin], np.int32),
    )
    return engine.embed(request).stego[0]


def share_moved(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Number of blocks in only one of two selections, as a share of the first; may exceed 1."""
    return float(np.count_nonzero(before != after) / max(np.count_nonzero(before), 1))


def measure_stability(
    case: Case,
    mask: Mask,
    file: Path,
    seed: int,
    engine: Engine,
    folder: Path,
    profile: Profile = DEFAULT,
) -> Stability:
    """Embed a case and outline the stego image; ``mask`` [H, W] is the engine's outline of it."""
    refused = ""
    try:
        stego = embed_and_read(file, seed, engine, folder, profile)
    except CoverslipError as error:
        refused, stego = error.code, embed_arbitrary_bits(case, engine, seed, profile)
    again = engine.segment(stego[np.newaxis]).mask[0]
    distances = distance_to(mask), distance_to(again)
    allowed = [
        possible_carriers(image, distance, PRODUCT_MARGIN)
        for image, distance in zip((case, case.with_pixels(stego)), distances, strict=True)
    ]
    clear = [
        to_blocks((distance > PRODUCT_MARGIN).astype(np.int32)).all(axis=-1)
        for distance in distances
    ]
    return Stability(
        refused,
        metrics.ncc(mask, again),
        share_moved(*allowed),
        share_moved(*clear),
        int(np.count_nonzero((stego != case.pixels) & (case.label > 0))),
    )


def measure_alteration(
    case: Case, file: Path, seed: int, engine: Engine, folder: Path
) -> Alteration:
    """Embed a case without a label, and measure the brightest pixel that changed."""
    try:
        stego = embed_and_read(file, seed, engine, folder)
    except CoverslipError as error:
        return Alteration(error.code)
    return Alteration("", brightness(case, stego != case.pixels))
