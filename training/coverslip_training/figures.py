"""Summarises measured slices as figures by modality, anatomy and scanner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coverslip.scheme.profiles import DEFAULT
from coverslip_training.measures import MARGINS, PRODUCT_MARGIN, OutlineScore
from coverslip_training.stability import Alteration, Stability

Figures = dict[str, Any]
"""Figures as JSON holds them."""

PAPER_IOU = 0.9146
"""Mean IoU that Saidi et al. 2024 report on their own slices."""

DARK_TO, BRIGHT_FROM = 0.2, 0.5
"""Bounds between dark, grey and bright altered pixels, as shares of the way from the darkest pixel
to the 98th percentile."""

OUTLINERS = ("network", "classical")


@dataclass(frozen=True)
class LabelledResult:
    """Measures of a labelled slice.

    Attributes
    ----------
    name, patient, modality, anatomy, scanner : str
    network, classical : OutlineScore
    default : Stability
        Of the network's outline, under the default profile.
    robust : Stability, optional
        The same under the robust profile.
    """

    name: str
    patient: str
    modality: str
    anatomy: str
    scanner: str
    network: OutlineScore
    classical: OutlineScore
    default: Stability
    robust: Stability | None = None

    def score(self, outliner: str) -> OutlineScore:
        """Measures of the outline of one of `OUTLINERS`."""
        return self.network if outliner == "network" else self.classical


@dataclass(frozen=True)
class UnlabelledResult:
    """Measures of a slice without a label; ``why`` is the reason why it is hard."""

    name: str
    modality: str
    why: str
    network: Alteration
    classical: Alteration

    def alteration(self, outliner: str) -> Alteration:
        """Effect of an embedding with the outline of one of `OUTLINERS`."""
        return self.network if outliner == "network" else self.classical


def outline_figures(scores: Sequence[OutlineScore]) -> Figures:
    """Means and extremes over outlines."""
    ious = np.array([score.iou for score in scores])
    distances = [score.distances for score in scores]
    needed = np.array([score.needed for score in scores])
    missed = np.array([score.missed for score in scores])
    carriers = np.array([score.in_carriers for score in scores])
    background = np.array([score.background for score in scores])
    return {
        "iou": {
            "mean": round(float(ious.mean()), 4),
            "p5": round(float(np.percentile(ious, 5)), 4),
            "worst": round(float(ious.min()), 4),
        },
        "rim_px": {
            "mean": round(float(np.mean([d.mean for d in distances])), 2),
            "p95": round(float(np.mean([d.p95 for d in distances])), 2),
            "hausdorff_mean": round(float(np.mean([d.hausdorff for d in distances])), 1),
            "hausdorff_worst": round(max(d.hausdorff for d in distances), 1),
            "signed": round(float(np.mean([d.signed for d in distances])), 2),
        },
        "nothing_outlined": sum(score.empty for score in scores),
        "margin_needed_px": {
            "median": int(np.median(needed)),
            "p95": int(np.percentile(needed, 95)),
            "worst": int(needed.max()),
        },
        "by_margin": {
            str(margin): {
                "body_pixels_missed": int(missed[:, i].sum()),
                "slices_missed": int((missed[:, i] > 0).sum()),
                "body_pixels_in_carriers": int(carriers[:, i].sum()),
                "slices_in_carriers": int((carriers[:, i] > 0).sum()),
                "background_found": round(float(background[:, i].mean()), 4),
            }
            for i, margin in enumerate(MARGINS)
        },
    }


def stability_figures(results: Sequence[Stability]) -> Figures:
    """Means and extremes of the changes that embeddings caused."""
    ncc = np.array([result.ncc for result in results])
    moved = np.array([result.carriers_moved for result in results])
    outline = np.array([result.moved_by_outline for result in results])
    return {
        "ncc_mean": round(float(ncc.mean()), 5),
        "ncc_worst": round(float(ncc.min()), 5),
        "slices_below_0.999": int((ncc < 0.999).sum()),
        "carriers_moved_mean": round(float(moved.mean()), 5),
        "carriers_moved_worst": round(float(moved.max()), 5),
        "carriers_moved_by_outline_mean": round(float(outline.mean()), 5),
        "carriers_moved_by_outline_worst": round(float(outline.max()), 5),
        "refused": count_refusals(results),
        "body_pixels_altered": sum(result.body_altered for result in results),
    }


def count_refusals(results: Sequence[Stability | Alteration]) -> dict[str, int]:
    """Number of refused embeddings by error code."""
    return dict(sorted(Counter(result.refused for result in results if result.refused).items()))


def group_figures(kind: str, name: str, results: Sequence[LabelledResult]) -> Figures:
    """Figures of the slices of one modality, anatomy or scanner."""
    robust = [result.robust for result in results if result.robust is not None]
    return {
        "kind": kind,
        "name": name,
        "slices": len(results),
        "patients": len({result.patient for result in results}),
        "network": outline_figures([result.network for result in results]),
        "classical": outline_figures([result.classical for result in results]),
        "embedded": stability_figures([result.default for result in results]),
        **({"embedded_robust": stability_figures(robust)} if robust else {}),
    }


def all_groups(results: Sequence[LabelledResult]) -> list[Figures]:
    """Figures by modality, anatomy and scanner."""
    kinds: dict[str, Callable[[LabelledResult], str]] = {
        "modality": lambda result: result.modality,
        "anatomy": lambda result: f"{result.modality} {result.anatomy}",
        "scanner": lambda result: f"{result.modality} {result.scanner}",
    }
    groups = []
    for kind, name_of in kinds.items():
        for name in sorted({name_of(result) for result in results}):
            members = [result for result in results if name_of(result) == name]
            groups.append(group_figures(kind, name, members))
    return groups


def comparison(results: Sequence[LabelledResult]) -> Figures:
    """Slices on which one of the two outlines misses body that the other covers."""

    def failures(count: Callable[[OutlineScore], int]) -> Figures:
        network = {result.name for result in results if count(result.network)}
        classical = {result.name for result in results if count(result.classical)}
        where = {result.name: f"{result.modality} {result.anatomy}" for result in results}
        return {
            "network_only": sorted(network - classical),
            "both": sorted(network & classical),
            "classical_only": sorted(classical - network),
            "classical_only_where": dict(
                Counter(where[name] for name in sorted(classical - network))
            ),
            "network_only_where": dict(
                Counter(where[name] for name in sorted(network - classical))
            ),
        }

    at = MARGINS.index(PRODUCT_MARGIN)
    return {
        "missed_after_margin": failures(lambda score: score.missed[at]),
        "in_carriers": failures(lambda score: score.in_carriers[at]),
    }


def unlabelled_figures(results: Sequence[UnlabelledResult]) -> Figures:
    """Figures of the slices without a label, as counts and slice by slice."""
    figures: Figures = {"slices": len(results)}
    for outliner in OUTLINERS:
        alterations = [result.alteration(outliner) for result in results]
        shares = [alteration.brightest for alteration in alterations if not alteration.refused]
        figures[outliner] = {
            "refused": count_refusals(alterations),
            "dark": sum(share < DARK_TO for share in shares),
            "grey": sum(DARK_TO <= share < BRIGHT_FROM for share in shares),
            "bright": sum(share >= BRIGHT_FROM for share in shares),
        }
    figures["rows"] = [
        {
            "name": result.name,
            "modality": result.modality,
            "why": result.why,
            **{
                outliner: result.alteration(outliner).refused
                or round(result.alteration(outliner).brightest, 3)
                for outliner in OUTLINERS
            },
        }
        for result in results
    ]
    return figures


def worst_first(results: Iterable[LabelledResult]) -> list[LabelledResult]:
    """Sort by the network's outline: body in possible carriers, then margin needed, then IoU."""
    return sorted(
        results,
        key=lambda result: (
            -result.network.body_in_carriers,
            -result.network.needed,
            result.network.iou,
        ),
    )


def summarise(
    results: Sequence[LabelledResult], hard: Sequence[UnlabelledResult], worst: int
) -> Figures:
    """Compute all figures of an evaluation; ``worst`` is how many of the worst slices to list."""
    return {
        "margin_px": PRODUCT_MARGIN,
        "step": DEFAULT.step,
        "paper_iou": PAPER_IOU,
        "groups": all_groups(results),
        "comparison": comparison(results),
        "hard": unlabelled_figures(hard),
        "worst": [
            {
                "name": result.name,
                "of": f"{result.modality} {result.anatomy}",
                "iou": round(result.network.iou, 4),
                "margin_needed_px": result.network.needed,
                "body_pixels_in_carriers": result.network.body_in_carriers,
            }
            for result in worst_first(results)[:worst]
        ],
    }
