"""Embeds by the paper's scheme (Eq. 2 to 9 of Saidi et al. 2024).

The engine only outlines the body, on both sides, and the mask is what the reader needs again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from coverslip.engine import Engine
from coverslip.errors import DamagedMessageError
from coverslip.pipeline.embedders import Attempt, draw_symbol
from coverslip.pipeline.frame_reports import FrameOutcome, FrameReport, Refusal
from coverslip.pipeline.planes import Planes, PlaneWindow
from coverslip.pipeline.reading import read_paper
from coverslip.qr import symbol as symbols
from coverslip.scheme.paper import PaperEmbedded, embed_paper, extract_paper
from coverslip.scheme.profiles import Profile


class PaperEmbedder:
    """Embeds one sealed frame into the planes of one instance."""

    def __init__(self, planes: Planes, profile: Profile, engine: Engine, sealed: bytes) -> None:
        self._planes = planes
        self._profile = profile
        self._engine = engine
        self._sealed = sealed
        self.symbol, self.slots_needed = draw_symbol(sealed, profile)

    def run(self) -> Iterator[tuple[PlaneWindow, list[Attempt]]]:
        """Every frame, in order, a few at a time."""
        for window in self._planes.windows():
            masks = self._engine.segment(window.planes).mask
            yield window, [self._attempt(*pair) for pair in zip(window.planes, masks, strict=True)]

    def _attempt(self, cover: NDArray[np.int32], mask: NDArray[np.uint8]) -> Attempt:
        done = embed_paper(cover, mask, self.symbol, self._profile, self._planes.legal)
        return Attempt(done.stego, self._judge(done, mask))

    def _judge(self, done: PaperEmbedded, mask: NDArray[np.uint8]) -> FrameReport:
        try:
            votes = read_paper(done.stego, self._engine, self._profile)
            if votes is not None and symbols.read(votes.symbol()) == self._sealed:
                return FrameReport(mask, done.carriers, votes)
        except DamagedMessageError:
            pass  # The refusal below gives the error rate that explains it.
        if not mask.any():
            return FrameReport(mask, done.carriers, None, FrameOutcome(Refusal.NO_BODY))
        read = extract_paper(done.stego, mask, len(self.symbol), self._profile)
        wrong = float(np.mean(read != self.symbol))
        outcome = FrameOutcome(Refusal.MODULES_WRONG, seen=wrong)
        return FrameReport(mask, done.carriers, None, outcome)
