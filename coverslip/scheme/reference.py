"""The engine in plain numpy: the definition that every runtime is compared with.

The caller supplies the outline of the body.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from coverslip.engine import Embedded, EmbedRequest, Measured, Segmented
from coverslip.scheme.carriers import allowed_blocks, near_blocks, touched_blocks
from coverslip.scheme.dct import to_blocks
from coverslip.scheme.quantise import embed_plane, in_steps, to_bytes

Outline = Callable[[NDArray[np.int32]], NDArray[np.uint8]]
"""Takes pixels int32 [H, W], returns a mask uint8 [H, W], 1 = body."""


def measure_plane(pixels: NDArray[np.int32], step: float) -> NDArray[np.uint8]:
    """Measure the phases of one plane at a step.

    Parameters
    ----------
    pixels : int32 [H, W]
    step : float
        Grey levels.

    Returns
    -------
    uint8 [H // 4, W // 4, 16]
        (c / step) mod 1 of every coefficient, in 1/256.
    """
    return to_bytes(in_steps(to_blocks(pixels), step))


class ReferenceEngine:
    """An engine in float64 numpy with any outline of the body.

    Parameters
    ----------
    outline : Outline
    """

    name = "reference"

    def __init__(self, outline: Outline) -> None:
        self._outline = outline

    def segment(self, pixels: NDArray[np.int32]) -> Segmented:
        """Outline each image."""
        mask = np.stack([self._outline(plane) for plane in pixels])
        return Segmented(mask, mask.any(axis=(1, 2)).astype(np.float32))

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embed a phase plane into each image."""
        mask = self.segment(request.pixels).mask
        stego = np.empty_like(request.pixels)
        carriers = np.zeros(request.slots.shape, dtype=np.uint8)
        for i, plane in enumerate(request.pixels):
            legal = int(request.legal[i, 0]), int(request.legal[i, 1])
            margin = int(request.margin[i])
            allowed = allowed_blocks(plane, mask[i], legal, int(request.padding[i]), margin)
            stego[i], chosen = embed_plane(
                plane,
                allowed,
                near_blocks(touched_blocks(mask[i], margin)),
                request.phases[i],
                request.slots[i],
                request.coefficients[i],
                float(request.step[i]),
                int(request.votes[i]),
                legal,
            )
            carriers[i] = chosen
        return Embedded(stego, mask, carriers)

    def extract(self, pixels: NDArray[np.int32], step: NDArray[np.float32]) -> Measured:
        """Measure the phases of each image."""
        phases = np.stack([measure_plane(p, float(s)) for p, s in zip(pixels, step, strict=True)])
        return Measured(phases, self.segment(pixels).mask)
