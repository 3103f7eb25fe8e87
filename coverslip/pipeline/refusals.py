"""The sentences and errors for frames that carry nothing, in one place."""

from __future__ import annotations

from collections.abc import Sequence

from coverslip.errors import (
    CoverslipError,
    DoesNotComeBackError,
    NoBodyError,
    NoCarriersError,
)
from coverslip.pipeline.frame_reports import FrameOutcome, FrameReport, Refusal
from coverslip.scheme.profiles import Profile, Scheme

_NOISY = "what is outside the outline is as uneven as tissue, so that nothing tells the two apart"


def describe(outcome: FrameOutcome, profile: Profile) -> str:
    """Why a frame carries nothing, as a clause; empty where it carries."""
    if outcome.refusal is None:
        return ""
    if outcome.refusal is Refusal.DISTURBED:
        assert outcome.disturbance is not None
        return f"it would not come back after {outcome.disturbance.description}"
    texts = {
        Refusal.NO_BODY: "no body was found",
        Refusal.NO_BLOCK: "no block may carry",
        Refusal.NOISY: _NOISY,
        Refusal.TOO_FEW_CARRIERS: (
            f"{outcome.seen:.1f} carriers for each group of modules, where {outcome.needed:g} are "
            f"needed for what profile '{profile.name}' promises to survive"
        ),
        Refusal.SLOTS_MISSED: (
            f"its carriers reach {outcome.seen:.0f} of the {outcome.needed:.0f} groups of modules"
        ),
        Refusal.MODULES_WRONG: (
            f"{outcome.seen:.1%} of its modules are wrong once pixels are integers, even with the "
            "very same mask"
        ),
    }
    return texts[outcome.refusal]


def is_disturbed(reports: Sequence[FrameReport]) -> bool:
    """Whether no frame carries, and some would but for what the profile promises to survive."""
    refusals = {report.outcome.refusal for report in reports}
    return None not in refusals and Refusal.DISTURBED in refusals


def refuse(
    reports: Sequence[FrameReport], profile: Profile, slots_needed: int
) -> CoverslipError | None:
    """The error that says why no frame carries; None where one does."""
    if any(report.votes is not None for report in reports):
        return None
    if all(report.outcome.refusal is Refusal.NO_BODY for report in reports):
        return NoBodyError(
            "no body was outlined in any frame; an image of a body with air around it was "
            "expected: look at it with 'coverslip inspect'"
        )
    if profile.scheme is Scheme.PAPER:
        first = next(r for r in reports if r.outcome.refusal is not Refusal.NO_BODY)
        return DoesNotComeBackError(
            f"the record would not come back ({describe(first.outcome, profile)}): use --profile "
            "default, 'paper' is for comparison"
        )
    disturbed = sorted(
        {describe(r.outcome, profile) for r in reports if r.outcome.refusal is Refusal.DISTURBED}
    )
    if disturbed:
        return DoesNotComeBackError(
            f"the record would be lost to what the profile is for ({'; '.join(disturbed)}): use "
            "--profile default for lossless handling, or choose a slice with more air"
        )
    return _too_little_air(reports, profile, slots_needed)


def _too_little_air(
    reports: Sequence[FrameReport], profile: Profile, slots_needed: int
) -> NoCarriersError:
    best = max(reports, key=lambda report: int(report.carriers.sum()))
    count = int(best.carriers.sum())
    if not count:
        return NoCarriersError(
            "no block of background may carry: expected air around the body that is dark and not "
            "padding; look at it with 'coverslip inspect', and try --use-padding if the background "
            "is padding"
        )
    if best.outcome.refusal is Refusal.NOISY:
        return NoCarriersError(
            f"no block of background may carry: {_NOISY}; expected air that is dark and even "
            "beside the body"
        )
    return NoCarriersError(
        f"the background has {count} blocks that may carry, which is too few for this record "
        f"({describe(best.outcome, profile)}; about {3 * slots_needed} blocks are usual): choose a "
        "slice with more air, or a smaller record"
    )
