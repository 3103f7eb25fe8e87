"""The model card: words from a template, every figure from the evaluation's ``metrics.json``, none
typed by hand.

``python -m coverslip_training.card models`` writes the card of a folder again, after its template
or its figures changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Any

from coverslip.cli.batch import misuse
from coverslip_training import summaries

METRICS = "metrics.json"
CARD = "README.md"
TEMPLATE = "card.template.md"
"""The card's words, beside the model: ``$name`` stands where a table or a figure goes, for a name
in `PARTS`.
"""

FORMS = {"tflite": ".tflite", "savedmodel": "SavedModel", "weights": "weights"}

Figures = dict[str, Any]


def least_margin(figures: Figures) -> int | None:
    """The least margin, pixels, from which on no labelled body is in a possible carrier on any
    slice; None where there is no such.
    """
    kinds = [one["network"]["by_margin"] for one in summaries.of_kinds(figures, ("modality",))]
    margins = sorted(int(margin) for margin in kinds[0])
    clean = [
        all(kind[str(margin)]["body_pixels_in_carriers"] == 0 for kind in kinds)
        for margin in margins
    ]
    return next((margin for at, margin in enumerate(margins) if all(clean[at:])), None)


def margin_words(figures: Figures) -> str:
    """Which margin the data need, in a sentence."""
    least, used = least_margin(figures), figures["margin_px"]
    if least is None:
        return (
            "No margin that was tried keeps all labelled body out of the possible carriers; "
            f"Coverslip keeps {used} pixels."
        )
    return (
        f"From {least} pixels on, no labelled pixel of the body is in a possible carrier on any "
        f"slice; Coverslip keeps {used}."
    )


def doubtful_labels(figures: Figures) -> str:
    """Slices whose labels measure the label rather than the outline, in a sentence."""
    names = figures["labels_that_leave_out_visible_body"]
    if not names:
        return "No label is known to leave out visible body."
    return (
        f"{len(names)} {summaries.LEAVES_OUT} were found by eye "
        f"({', '.join(f'`{name}`' for name in names)}); "
        "figures are given with and without them."
    )


def slices(figures: Figures) -> str:
    """Slices and patients that were learned from and measured on."""
    rows = [
        [part, kind, str(at["slices"]), str(at["patients"])]
        for part, name in (("train", "train"), (figures["split"], "measured"))
        for kind, at in figures["data"][name]["by_modality"].items()
    ]
    return summaries.table(["split", "", "slices", "patients"], rows)


def licences(figures: Figures) -> str:
    """Slices by the licence of their source."""
    rows = [
        [at["licence"], str(at["train"]), str(at["measured"]), str(at["patients"])]
        for at in figures["data"]["licences"]
    ]
    return summaries.table(
        ["licence", "train slices", f"{figures['split']} slices", "patients"], rows
    )


def measured_file(figures: Figures) -> str:
    """What was measured, so that a reader can tell whether it is what they have."""
    model = figures["model"]
    digest = f", SHA-256 `{model['sha256']}`" if "sha256" in model else ""
    return f"`{model['name']}` ({FORMS[model['form']]}), {model['bytes'] / 1e6:.1f} MB{digest}"


PARTS: dict[str, Callable[[Figures], str]] = {
    "bright_from": lambda _: str(summaries.BRIGHT[1]),
    "carriers_by_group": lambda figures: summaries.outcome_table(figures, ("anatomy", "scanner")),
    "carriers_by_modality": lambda figures: summaries.outcome_table(figures, ("modality",)),
    "comparison": summaries.comparison_lines,
    "dark_to": lambda _: str(summaries.BRIGHT[0]),
    "doubtful_labels": doubtful_labels,
    "hard": summaries.hard_table,
    "hard_each": lambda figures: summaries.hard_rows(figures, everything=True),
    "lasting": lambda figures: summaries.lasting_table(figures, ("modality",)),
    "lasting_robust": lambda figures: summaries.lasting_table(
        figures, ("modality",), "embedded_robust"
    ),
    "licences": licences,
    "margin": lambda figures: str(figures["margin_px"]),
    "margin_words": margin_words,
    "margins": summaries.margin_table,
    "measured_file": measured_file,
    "outline_by_group": lambda figures: summaries.outline_table(figures, ("anatomy", "scanner")),
    "outline_by_modality": lambda figures: summaries.outline_table(figures, ("modality",)),
    "paper_iou": lambda figures: f"{figures['paper_iou']:.4f}",
    "slices": slices,
    "split": lambda figures: str(figures["split"]),
    "step": lambda figures: f"{figures['step']:g}",
    "worst": lambda figures: summaries.worst_table(figures, 8),
}
"""What a template may name."""


def fill(template: str, figures: Figures) -> str:
    """A template with its places filled in.

    Parameters
    ----------
    template : str
        ``$name`` for each of `PARTS` that it wants, ``$$`` for a dollar.
    figures : dict
        What `coverslip_training.evaluate` writes as JSON.

    Raises
    ------
    KeyError
        The template names something that is none of `PARTS`.
    """
    found = {match["named"] or match["braced"] for match in Template.pattern.finditer(template)}
    return Template(template).substitute({name: PARTS[name](figures) for name in found - {None}})


def write_card(folder: Path) -> Path:
    """Write a folder's ``README.md`` out of its ``metrics.json`` and its template; where it is."""
    figures = json.loads((folder / METRICS).read_text())
    card = folder / CARD
    card.write_text(fill((folder / TEMPLATE).read_text(), figures))
    return card


def main(words: Sequence[str] | None = None) -> int:
    """Entry of ``python -m coverslip_training.card``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help=f"folder with {METRICS} and {TEMPLATE}; gets {CARD}",
    )
    arguments = parser.parse_args(words)
    if missing := [name for name in (METRICS, TEMPLATE) if not (arguments.folder / name).is_file()]:
        wanted = (
            "the figures that coverslip train evaluate --metrics writes, and a template, are needed"
        )
        return misuse(f"there is no {missing[0]} in {arguments.folder}: {wanted}")
    print(write_card(arguments.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
