"""Real embeddings, for an evaluation: what the mask does under them, and what happens to slices that nobody could label."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
from coverslip.training.measures import PRODUCT_MARGIN, Case, brightness, distance_to, possible_carriers
from numpy.typing import NDArray

from coverslip import metrics, pipeline
from coverslip.engine import Engine
from coverslip.errors import CoverslipError
from coverslip.invented import write_invented_patient
from coverslip.keys import Recipient
from coverslip.scheme.profiles import Profile

BRIGHT = 0.25
"""Share of the way from the darkest pixel to the 98th percentile above which a pixel is called bright."""


@dataclass(frozen=True)
class Trial:
    """One embedding.

    Attributes
    ----------
    refused : str
        Code of the error that refused it; empty where it was embedded.
    ncc : float
        Correlation of the stego image's mask with the cover's (Eq. 13), -1 to 1.
    blocks_differ : float
        Blocks that may carry by one mask and not by the other, as a share of those that may by either, 0 to 1.
    body_changed : int
        Labelled body pixels that changed.
    brightest : float
        Brightest pixel that changed; see `coverslip.training.measures.brightness`.
    changed : bool [H, W]
        Where the stego image differs; nowhere if refused.
    """

    refused: str
    ncc: float
    blocks_differ: float
    body_changed: int
    brightest: float
    changed: NDArray[np.bool_]


def embed(case: Case, engine: Engine, profile: Profile, recipient: Recipient, seed: int) -> pipeline.Embedding:
    """Embed an invented patient into a slice, as ``coverslip embed`` would."""
    dataset = copy.deepcopy(case.instance.dataset)
    write_invented_patient(dataset, seed=seed)
    return pipeline.embed(case.instance.with_dataset(dataset), recipient, engine, pipeline.EmbedOptions(profile))


def differing(case: Case, stego: NDArray[np.int32], before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Blocks that may carry in cover or stego, each with its own mask, but not in both: their share of those that may in either."""
    cover = possible_carriers(case, distance_to(before), PRODUCT_MARGIN)
    again = possible_carriers(replace(case, pixels=stego), distance_to(after), PRODUCT_MARGIN)
    return float(np.count_nonzero(cover ^ again) / max(np.count_nonzero(cover | again), 1))


def attempt(case: Case, engine: Engine, profile: Profile, recipient: Recipient, seed: int) -> Trial:
    """Embed, outline the stego image again, and compare."""
    try:
        done = embed(case, engine, profile, recipient, seed)
    except CoverslipError as error:
        return Trial(error.code, 0.0, 0.0, 0, 0.0, np.zeros(case.pixels.shape, bool))
    stego = pipeline.engine_planes(replace(case.instance, planes=done.stego)).pixels[0]
    changed = stego != case.pixels
    before, after = done.frames[0].mask, engine.segment(stego[np.newaxis]).mask[0]
    return Trial(
        refused="",
        ncc=metrics.ncc(before, after),
        blocks_differ=differing(case, stego, before, after),
        body_changed=int(np.count_nonzero(changed & (case.label > 0))),
        brightest=brightness(case, changed),
        changed=changed,
    )
