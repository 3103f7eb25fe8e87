"""Writes the results of an evaluation: report, figures, a table of slices, and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from coverslip_training import drawing, tables
from coverslip_training.figures import OUTLINERS, Figures, LabelledResult
from coverslip_training.measures import MARGINS, PRODUCT_MARGIN

WORST_LISTED = 8
"""Number of slices in the report's table of the worst."""


@dataclass
class Evaluation:
    """The results of an evaluation.

    Attributes
    ----------
    figures : dict
        Ready for JSON.
    results : list of LabelledResult
    worst : list of image
        The worst slices, drawn, worst first.
    """

    figures: Figures
    results: list[LabelledResult]
    worst: list[Image.Image]


def report_text(figures: Figures) -> str:
    """Format the figures in Markdown; the model card has the same tables."""
    kinds: tuple[str, ...] = ("modality",)
    sections = [
        ("Outline", tables.outline_table(figures, kinds)),
        ("What may carry", tables.carrier_table(figures, kinds)),
        ("Where only one outline fails", tables.comparison_lines(figures)),
        ("Margins", tables.margin_table(figures)),
        ("Cover against stego", tables.stability_table(figures, kinds)),
        (
            "Cover against stego, profile robust",
            tables.stability_table(figures, kinds, "embedded_robust"),
        ),
        (
            "Without a label",
            tables.unlabelled_table(figures) + "\n\n" + tables.unlabelled_rows(figures),
        ),
    ]
    kinds = ("anatomy", "scanner")
    sections += [
        ("By anatomy and scanner: outline", tables.outline_table(figures, kinds)),
        ("By anatomy and scanner: what may carry", tables.carrier_table(figures, kinds)),
        ("By anatomy and scanner: cover against stego", tables.stability_table(figures, kinds)),
        ("Worst", tables.worst_table(figures, WORST_LISTED)),
    ]
    texts = [_notes(figures), *(f"## {title}\n\n{text}" for title, text in sections)]
    return "\n\n".join(texts) + "\n"


def _notes(figures: Figures) -> str:
    return (
        f"Split {figures['split']}; margin {figures['margin_px']} pixels; step "
        f"{figures['step']:g} grey levels. Saidi et al. 2024 report a mean IoU of "
        f"{figures['paper_iou']} on slices of their own. The labels come from a classical "
        "segmentation, so IoU and distances favour the classical outline. The figures that matter "
        "are body in possible carriers and the slices without a label."
    )


def slice_table(results: Sequence[LabelledResult]) -> list[dict[str, str | float]]:
    """Make a row for each slice, for a spreadsheet."""
    at = MARGINS.index(PRODUCT_MARGIN)
    rows = []
    for result in results:
        row: dict[str, str | float] = {
            "name": result.name,
            "patient": result.patient,
            "modality": result.modality,
            "anatomy": result.anatomy,
            "scanner": result.scanner,
        }
        for outliner in OUTLINERS:
            score = result.score(outliner)
            row |= {
                f"{outliner}_iou": round(score.iou, 5),
                f"{outliner}_rim_mean_px": round(score.distances.mean, 3),
                f"{outliner}_rim_p95_px": round(score.distances.p95, 3),
                f"{outliner}_rim_hausdorff_px": round(score.distances.hausdorff, 3),
                f"{outliner}_rim_signed_px": round(score.distances.signed, 3),
                f"{outliner}_margin_needed_px": score.needed,
                f"{outliner}_body_pixels_missed": score.missed[at],
                f"{outliner}_body_pixels_in_carriers": score.in_carriers[at],
                f"{outliner}_background_found": round(score.background[at], 4),
            }
        stability = result.default
        row |= {
            "refused": stability.refused,
            "mask_ncc": round(stability.ncc, 6),
            "carriers_moved": round(stability.carriers_moved, 6),
            "carriers_moved_by_outline": round(stability.moved_by_outline, 6),
            "body_pixels_altered": stability.body_altered,
        }
        rows.append(row)
    return rows


def write_evaluation(evaluation: Evaluation, out: Path) -> None:
    """Write ``report.md``, ``metrics.json``, ``slices.csv`` and ``worst.png`` to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    every_slice = tables.unlabelled_rows(evaluation.figures, everything=True)
    text = report_text(evaluation.figures)
    (out / "report.md").write_text(f"{text}\n## Every slice without a label\n\n{every_slice}\n")
    write_figures(evaluation.figures, out / "metrics.json")
    rows = slice_table(evaluation.results)
    with (out / "slices.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    drawing.write_page(evaluation.worst, out / "worst.png")


def write_figures(figures: Figures, path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps(figures, indent=1) + "\n")
