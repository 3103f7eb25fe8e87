"""What becomes of slices when they are really embedded: which pixels change, and whether the
outline withstands it.

The way is the product's own: an invented patient is written into the header,
`coverslip.pipeline.embed` hides it with the default profile, and the stego image is read back from
the file that was written.
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
class Lasting:
    """How an outline and the carriers withstand the embedding.

    Attributes
    ----------
    refused : str
        Code of the error if the record was refused; empty otherwise. What the rest says is then of
        the engine's part alone, with arbitrary bits in every block that may carry.
    ncc : float
        Normalised correlation coefficient (Eq. 13) of the outline of the stego image with that of
        the cover, -1 to 1.
    moved : float
        Blocks that may carry (margin and gate) in one of the two and not in the other, as a share
        of those of the cover.
    moved_by_outline : float
        The same without the gate, whose threshold follows the noise that an embedding adds: what
        the outline itself moves.
    body_altered : int
        Pixels of the labelled body that were changed.
    """

    refused: str
    ncc: float
    moved: float
    moved_by_outline: float
    body_altered: int


@dataclass(frozen=True)
class Altered:
    """What an embedding did to a slice of which nobody outlined the body.

    Attributes
    ----------
    refused : str
        Code of the error; empty where a record was embedded.
    brightest : float
        The brightest pixel that was changed, as `coverslip_training.measures.brightness` counts; 0
        where none was.
    """

    refused: str
    brightest: float = 0.0


def labelled(data: Path, split: str) -> Iterator[Case]:
    """Cases of one split of a folder with ``slices.csv``; see
    `coverslip_training.records.read_slices`.
    """
    for item in read_slices(data, split):
        yield case_of(item, read_instance(data / item.name))


def unlabelled(data: Path) -> Iterator[tuple[Case, str]]:
    """Cases of ``hard.csv``, each with why it is hard; none where there is no such table."""
    table = data / "hard.csv"
    if not table.exists():
        return
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        instance = read_instance(data / row["file"])
        plane = instance.planes[0]
        nobody = np.zeros(plane.shape, np.uint8)
        yield (
            case_of(
                Slice(row["file"], "", row["modality"], plane, nobody, row.get("anatomy", "")),
                instance,
            ),
            row["why"],
        )


def embedded(
    file: Path, seed: int, engine: Engine, folder: Path, profile: Profile = DEFAULT
) -> NDArray[np.int32]:
    """The first plane, with dark air, of a stego image as it was written.

    Parameters
    ----------
    file : Path
    seed : int
        The same seed invents the same patient.
    engine : Engine
    folder : Path
        For the two files on the way; what was there is replaced.
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
    done = pipeline.embed(
        read_instance(cover), Identity.generate().recipient, engine, pipeline.EmbedOptions(profile)
    )
    done.write(stego, overwrite=True)
    return pipeline.engine_planes(read_instance(stego)).pixels[0]


def arbitrary(
    case: Case, engine: Engine, seed: int, profile: Profile = DEFAULT
) -> NDArray[np.int32]:
    """The stego plane [H, W] of arbitrary bits, as many as there are blocks that may carry."""
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


def differing(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Blocks that are in one of two selections alone, as a share of the first; above 1 where there
    are more of them.
    """
    return float(np.count_nonzero(before != after) / max(np.count_nonzero(before), 1))


def withstand(
    case: Case,
    mask: Mask,
    file: Path,
    seed: int,
    engine: Engine,
    folder: Path,
    profile: Profile = DEFAULT,
) -> Lasting:
    """Embed a case whose outline by the engine is ``mask`` [H, W], and outline it again."""
    refused = ""
    try:
        stego = embedded(file, seed, engine, folder, profile)
    except CoverslipError as error:
        refused, stego = error.code, arbitrary(case, engine, seed, profile)
    again = engine.segment(stego[np.newaxis]).mask[0]
    away = distance_to(mask), distance_to(again)
    allowed = [
        possible_carriers(one, far, PRODUCT_MARGIN)
        for one, far in zip((case, case.with_pixels(stego)), away, strict=True)
    ]
    clear = [to_blocks((far > PRODUCT_MARGIN).astype(np.int32)).all(axis=-1) for far in away]
    return Lasting(
        refused,
        metrics.ncc(mask, again),
        differing(*allowed),
        differing(*clear),
        int(np.count_nonzero((stego != case.pixels) & (case.label > 0))),
    )


def alter(case: Case, file: Path, seed: int, engine: Engine, folder: Path) -> Altered:
    """Embed a case without a label, and look at what was changed."""
    try:
        stego = embedded(file, seed, engine, folder)
    except CoverslipError as error:
        return Altered(error.code)
    return Altered("", brightness(case, stego != case.pixels))
