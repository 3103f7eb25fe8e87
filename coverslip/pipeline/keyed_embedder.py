"""Embeds by the keyed scheme, and reads every frame back before it counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from coverslip.crypto.keys import Recipient
from coverslip.engine import EmbedRequest, Engine
from coverslip.errors import DamagedMessageError, DoesNotComeBackError
from coverslip.parallel import CONCURRENT_IMAGES, map_concurrently
from coverslip.pipeline.embedders import Attempt, draw_symbol
from coverslip.pipeline.frame_reports import FrameOutcome, FrameReport, Refusal, changed_outside
from coverslip.pipeline.planes import Planes, PlaneWindow
from coverslip.pipeline.reading import read_plane, read_votes
from coverslip.pipeline.trials import first_failing_disturbance
from coverslip.scheme import address
from coverslip.scheme.carriers import is_noisy, margin_for
from coverslip.scheme.dct import COEFFICIENTS, SIDE
from coverslip.scheme.dither import dither_key, dither_plane
from coverslip.scheme.phases import PhasePlane, phase_plane
from coverslip.scheme.profiles import Profile

_CROPS = (0.0, 0.03, 0.06, 0.09, 0.12)
"""Shares of the side cut off every edge, for which an address variant is ranked."""

_VARIANTS_TRIED = 4
"""Address variants to try for a frame, those first whose carriers reach most slots."""

_REGARDLESS_OF_ADDRESS = (Refusal.NO_BODY, Refusal.NO_BLOCK, Refusal.NOISY)
"""Refusals that no other address variant changes."""


def _request(
    planes: Planes, pixels: NDArray[np.int32], plane: PhasePlane, profile: Profile
) -> EmbedRequest:
    batch = len(pixels)
    coefficients = np.zeros((batch, COEFFICIENTS), dtype=np.float32)
    coefficients[:, list(profile.coefficients)] = 1
    return EmbedRequest(
        pixels=pixels,
        legal=np.tile(np.array(planes.legal, dtype=np.int32), (batch, 1)),
        padding=np.full(batch, planes.padding, dtype=np.int32),
        phases=np.broadcast_to(plane.phases, (batch, *plane.phases.shape)),
        slots=np.broadcast_to(plane.slots, (batch, *plane.slots.shape)),
        coefficients=coefficients,
        step=np.full(batch, profile.step, dtype=np.float32),
        votes=np.full(batch, profile.votes, dtype=np.int32),
        margin=np.full(batch, margin_for(profile.margin, *pixels.shape[1:]), dtype=np.int32),
    )


def _covered(carriers: NDArray[np.bool_], slots: NDArray[np.int32]) -> int:
    return int(np.unique(slots[carriers]).size)


def _without_edges(shape: tuple[int, ...], share: float) -> tuple[slice, ...]:
    """The blocks that are left where every edge loses a share of its side."""
    return tuple(slice(cut := round(share * side), side - cut) for side in shape)


class KeyedEmbedder:
    """Embeds one sealed frame into the planes of one instance."""

    def __init__(
        self,
        planes: Planes,
        recipient: Recipient,
        profile: Profile,
        engine: Engine,
        sealed: bytes,
    ) -> None:
        self._planes = planes
        self._recipient = recipient
        self._profile = profile
        self._engine = engine
        self._sealed = sealed
        self.symbol, self.slots_needed = draw_symbol(sealed, profile)
        rows, cols = (side // SIDE for side in planes.pixels.shape[1:])
        self._dither = (
            dither_plane(dither_key(recipient.public), rows, cols) if rows and cols else None
        )

    def _phase_plane(self, variant: int) -> PhasePlane:
        assert self._dither is not None
        return phase_plane(self.symbol, self._dither, self._profile, variant)

    def _judge(
        self,
        cover: NDArray[np.int32],
        stego: NDArray[np.int32],
        mask: NDArray[np.uint8],
        carriers: NDArray[np.bool_],
        slots: NDArray[np.int32],
    ) -> FrameReport:
        """Read the stego plane as a stranger to the mask would, and say whether it comes back."""
        if not mask.any():
            return _refused(mask, carriers, Refusal.NO_BODY)
        if not carriers.any():
            return _refused(mask, carriers, Refusal.NO_BLOCK)
        if outside := changed_outside(cover, stego, carriers):
            raise DoesNotComeBackError(
                f"the engine changed {outside} pixels outside the carriers; none was expected: "
                "do not use this model",
                is_fault=True,
            )
        if is_noisy(cover, carriers):
            return _refused(mask, carriers, Refusal.NOISY)
        covered = _covered(carriers, slots)
        if (mean := carriers.sum() / self.slots_needed) < self._profile.least_votes:
            return _refused(
                mask, carriers, Refusal.TOO_FEW_CARRIERS, mean, self._profile.least_votes
            )
        votes = read_plane(stego, self._recipient, self._profile)
        try:
            if votes is not None and read_votes(votes) == self._sealed:
                return FrameReport(mask, carriers, votes)
        except DamagedMessageError:
            pass  # The refusal below gives the coverage that explains it.
        return _refused(mask, carriers, Refusal.SLOTS_MISSED, covered, self.slots_needed)

    def _variant(self, pixels: NDArray[np.int32], variant: int) -> list[Attempt]:
        plane = self._phase_plane(variant)
        request = _request(self._planes, pixels, plane, self._profile)
        done = self._engine.embed(request)

        def attempt(number: int) -> Attempt:
            stego, carriers = done.stego[number], done.carriers[number].astype(bool)
            return Attempt(
                stego,
                self._judge(
                    request.pixels[number], stego, done.mask[number], carriers, plane.slots
                ),
            )

        return map_concurrently(attempt, len(request.pixels), CONCURRENT_IMAGES)

    def _reached(self, carriers: NDArray[np.bool_], variant: int, cut: float) -> float:
        """Share of the slots that keep a carrier where every edge loses a share of its side."""
        kept = _without_edges(carriers.shape, cut)
        slots = address.slot_plane(*carriers.shape, self.slots_needed, variant)
        return _covered(carriers[kept], slots[kept]) / self.slots_needed

    def _ranked(self, carriers: NDArray[np.bool_]) -> list[int]:
        """Variants, those first under which carriers reach most slots.

        After crops too, where the profile asks for it.
        """
        cuts = _CROPS if self._profile.best_variant else _CROPS[:1]
        reached = [
            sum(self._reached(carriers, variant, cut) for cut in cuts)
            for variant in range(address.VARIANTS)
        ]
        return [int(variant) for variant in np.argsort(-np.array(reached), kind="stable")]

    def _better(self, attempt: Attempt, pixels: NDArray[np.int32]) -> Attempt:
        """A frame under the variant that suits it, from the attempt under the first one."""
        report = attempt.report
        if report.outcome.refusal in _REGARDLESS_OF_ADDRESS or (
            report.votes is not None and not self._profile.best_variant
        ):
            return attempt
        for variant in self._ranked(report.carriers)[:_VARIANTS_TRIED]:
            other = self._variant(pixels, variant)[0] if variant else attempt
            if other.report.votes is not None:
                return other
        return attempt

    def _batch(self, pixels: NDArray[np.int32]) -> list[Attempt]:
        attempts = [
            self._better(attempt, pixels[number : number + 1])
            for number, attempt in enumerate(self._variant(pixels, 0))
        ]
        if not self._profile.tried:
            return attempts
        return map_concurrently(
            lambda number: self._tried(attempts[number]), len(attempts), CONCURRENT_IMAGES
        )

    def _tried(self, attempt: Attempt) -> Attempt:
        """An attempt counts only when it is readable after cropping and lossy codecs too."""
        report = attempt.report
        if report.votes is None:
            return attempt
        failing = first_failing_disturbance(
            attempt.stego,
            self._planes.instance.legal,
            self._recipient,
            self._profile,
            self._sealed,
        )
        if failing is None:
            return attempt
        outcome = FrameOutcome(Refusal.DISTURBED, disturbance=failing)
        return replace(attempt, report=replace(report, votes=None, outcome=outcome))

    def run(self) -> Iterator[tuple[PlaneWindow, list[Attempt]]]:
        """Every frame, in order, a few at a time."""
        if self._dither is None:
            return
        for window in self._planes.windows():
            yield window, self._batch(window.planes)


def _refused(
    mask: NDArray[np.uint8],
    carriers: NDArray[np.bool_],
    refusal: Refusal,
    seen: float = 0.0,
    needed: float = 0.0,
) -> FrameReport:
    return FrameReport(mask, carriers, None, FrameOutcome(refusal, float(seen), float(needed)))
