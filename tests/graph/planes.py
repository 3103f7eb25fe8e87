"""Planes and requests for tests that compare a runtime with the reference."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverslip.engine import EmbedRequest
from coverslip.scheme.profiles import ALL_SIXTEEN, LOW_FOUR, LOW_SIX, LOW_TEN
from coverslip.scheme.reference import ReferenceEngine

KINDS = ("floor", "ceiling", "noise", "dark", "columns", "chequer", "ramp", "graded", "scene")
RANGES = ((0, 255), (0, 511), (0, 1023), (0, 4095), (0, 65535), (-1024, 3071), (-32768, 32767))
STEPS = (2.3, 6.0, 6.7, 8.0, 13.7, 63.1, 64.0, 724.0)
"""Grey levels. At whole steps exact halves are common; `coverslip.scheme.quantise.TIE` decides."""


def plane(
    kind: str, height: int, width: int, legal: tuple[int, int], seed: int
) -> NDArray[np.int32]:
    """One plane, int32 [height, width], inside the legal range."""
    lo, hi = legal
    made: NDArray[np.int64]
    random = np.random.default_rng(seed)
    row, column = np.ogrid[:height, :width]
    if kind in ("floor", "ceiling"):
        made = np.full((height, width), lo if kind == "floor" else hi)
    elif kind == "noise":
        made = random.integers(lo, hi + 1, (height, width))
    elif kind == "dark":
        made = lo + random.integers(0, 20, (height, width))
    elif kind == "columns":
        made = np.where((row * 0 + column) % 2, lo, hi)
    elif kind == "chequer":
        made = np.where((row + column) % 2, lo, hi)
    elif kind == "ramp":
        made = lo + (row * width + column) * (hi - lo) // max(height * width - 1, 1)
    elif kind == "graded":
        made = lo + np.minimum(
            (row * width + column) * random.integers(8, 90) // (height * width), hi - lo
        )
    else:
        disc = ((row - height / 2) / height) ** 2 + ((column - width / 2) / width) ** 2 < 0.1
        made = np.where(
            disc,
            random.integers((lo + hi) // 2, hi + 1, (height, width)),
            lo + random.integers(0, 12, (height, width)),
        )
    return np.asarray(made, np.int32)


def request(
    kind: str,
    height: int,
    width: int,
    legal: tuple[int, int],
    seed: int,
    *,
    step: float = 6.7,
    votes: int = 2,
    margin: int = 3,
    coefficients: tuple[int, ...] = ALL_SIXTEEN,
    padding: int | None = None,
    slots: int = 30,
) -> EmbedRequest:
    """A request with one image."""
    random = np.random.default_rng(seed + 1)
    blocks = (1, height // 4, width // 4)
    carries = np.zeros((1, 16), np.float32)
    carries[0, list(coefficients)] = 1
    return EmbedRequest(
        pixels=plane(kind, height, width, legal, seed)[np.newaxis],
        legal=np.array([legal], np.int32),
        padding=np.array([legal[0] - 1 if padding is None else padding], np.int32),
        phases=random.integers(0, 256, (*blocks, 16), dtype=np.uint8),
        slots=random.integers(0, slots, blocks, dtype=np.int32),
        coefficients=carries,
        step=np.array([step], np.float32),
        votes=np.array([votes], np.int32),
        margin=np.array([margin], np.int32),
    )


def stack(*requests: EmbedRequest) -> EmbedRequest:
    """Requests for images of one size as one batch."""
    return EmbedRequest(
        **{name: np.concatenate([getattr(r, name) for r in requests]) for name in vars(requests[0])}
    )


@st.composite
def requests(draw: st.DrawFn, steps: tuple[float, ...] = STEPS) -> EmbedRequest:
    """Any request for one image of up to 70 x 70 pixels."""
    legal = draw(st.sampled_from(RANGES))
    return request(
        draw(st.sampled_from(KINDS)),
        draw(st.integers(4, 70)),
        draw(st.integers(4, 70)),
        legal,
        draw(st.integers(0, 2**31)),
        step=draw(st.sampled_from(steps)),
        votes=draw(st.integers(1, 5)),
        margin=draw(st.integers(0, 32)),
        coefficients=draw(
            st.sampled_from([ALL_SIXTEEN, LOW_TEN, LOW_SIX, LOW_FOUR, (0,), (5, 10)])
        ),
        padding=draw(st.sampled_from([None, legal[0], legal[0] + 3])),
        slots=draw(st.sampled_from([1, 7, 200, 8190])),
    )


def reference(
    wanted: EmbedRequest, mask: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Embed around given masks with the reference: stego int32 [B, H, W], carriers [B, Hb, Wb]."""
    masks = iter(mask)
    embedded = ReferenceEngine(lambda _: next(masks)).embed(wanted)
    return embedded.stego, embedded.carriers
