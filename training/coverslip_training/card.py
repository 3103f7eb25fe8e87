"""Writes the model card from a template and the figures of ``metrics.json``.

No result is typed by hand. ``python -m coverslip_training.card models`` writes the card again after
the template or the figures changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from coverslip.cli.batch import misuse
from coverslip_training import tables
from coverslip_training.figures import BRIGHT_FROM, DARK_TO, Figures
from coverslip_training.report import WORST_LISTED
from coverslip_training.tables import groups_of, table

METRICS = "metrics.json"
CARD = "README.md"
TEMPLATE = "card.template.md"
"""File with the card's text; a ``$name`` of `PARTS` is replaced by its table or figure."""

FORMS = {"tflite": ".tflite", "savedmodel": "SavedModel", "weights": "weights"}


def least_margin(figures: Figures) -> int | None:
    """Least margin, pixels, from which on no labelled body is in possible carriers, if any."""
    groups = [group["network"]["by_margin"] for group in groups_of(figures, ("modality",))]
    margins = sorted(int(margin) for margin in groups[0])
    clean = [
        all(group[str(margin)]["body_pixels_in_carriers"] == 0 for group in groups)
        for margin in margins
    ]
    return next((margin for at, margin in enumerate(margins) if all(clean[at:])), None)


def margin_sentence(figures: Figures) -> str:
    """State the margin that the data need, in a sentence."""
    least, used = least_margin(figures), figures["margin_px"]
    if least is None:
        return (
            "No measured margin keeps all labelled body out of the possible carriers; "
            f"Coverslip uses {used} pixels."
        )
    return (
        f"From {least} pixels on, no labelled body pixel is in a possible carrier on any slice; "
        f"Coverslip uses {used}."
    )


def slice_counts(figures: Figures) -> str:
    """Count the slices and patients of training and evaluation, as a table."""
    rows = [
        [split, kind, str(at["slices"]), str(at["patients"])]
        for split, name in (("train", "train"), (figures["split"], "measured"))
        for kind, at in figures["data"][name]["by_modality"].items()
    ]
    return table(["split", "", "slices", "patients"], rows)


def licences(figures: Figures) -> str:
    """Count the slices by licence of their source, as a table."""
    rows = [
        [at["licence"], str(at["train"]), str(at["measured"]), str(at["patients"])]
        for at in figures["data"]["licences"]
    ]
    return table(["licence", "train slices", f"{figures['split']} slices", "patients"], rows)


def measured_file(figures: Figures) -> str:
    """Name the measured file, so that readers can compare it with theirs."""
    model = figures["model"]
    digest = f", SHA-256 `{model['sha256']}`" if "sha256" in model else ""
    return f"`{model['name']}` ({FORMS[model['form']]}), {model['bytes'] / 1e6:.1f} MB{digest}"


PARTS: dict[str, Callable[[Figures], str]] = {
    "bright_from": lambda _: str(BRIGHT_FROM),
    "carriers_by_group": lambda figures: tables.carrier_table(figures, ("anatomy", "scanner")),
    "carriers_by_modality": lambda figures: tables.carrier_table(figures, ("modality",)),
    "comparison": tables.comparison_lines,
    "dark_to": lambda _: str(DARK_TO),
    "hard": tables.unlabelled_table,
    "hard_each": lambda figures: tables.unlabelled_rows(figures, everything=True),
    "licences": licences,
    "margin": lambda figures: str(figures["margin_px"]),
    "margin_sentence": margin_sentence,
    "margins": tables.margin_table,
    "measured_file": measured_file,
    "outline_by_group": lambda figures: tables.outline_table(figures, ("anatomy", "scanner")),
    "outline_by_modality": lambda figures: tables.outline_table(figures, ("modality",)),
    "paper_iou": lambda figures: f"{figures['paper_iou']:.4f}",
    "slices": slice_counts,
    "split": lambda figures: str(figures["split"]),
    "stability": lambda figures: tables.stability_table(figures, ("modality",)),
    "stability_robust": lambda figures: tables.stability_table(
        figures, ("modality",), "embedded_robust"
    ),
    "step": lambda figures: f"{figures['step']:g}",
    "worst": lambda figures: tables.worst_table(figures, WORST_LISTED),
}
"""Tables and figures that a template may name."""


def fill(template: str, figures: Figures) -> str:
    """Replace the names in a template.

    Parameters
    ----------
    template : str
        Text with ``$name`` for a name of `PARTS`, and ``$$`` for a dollar sign.
    figures : dict
        Contents of ``metrics.json``.

    Raises
    ------
    KeyError
        The template names something that is not in `PARTS`.
    """
    names = {match["named"] or match["braced"] for match in Template.pattern.finditer(template)}
    return Template(template).substitute({name: PARTS[name](figures) for name in names - {None}})


def write_card(folder: Path) -> Path:
    """Write a folder's ``README.md`` from its ``metrics.json`` and template; return its path."""
    figures = json.loads((folder / METRICS).read_text())
    card = folder / CARD
    card.write_text(fill((folder / TEMPLATE).read_text(), figures))
    return card


def main(words: Sequence[str] | None = None) -> int:
    """Run ``python -m coverslip_training.card``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help=f"folder with {METRICS} and {TEMPLATE}, in which {CARD} is written",
    )
    arguments = parser.parse_args(words)
    if missing := [name for name in (METRICS, TEMPLATE) if not (arguments.folder / name).is_file()]:
        return misuse(
            f"there is no {missing[0]} in {arguments.folder}: the figures of coverslip train "
            "evaluate --metrics and a template are needed"
        )
    print(write_card(arguments.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
