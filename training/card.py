"""The model card, and the report on a terminal: both are filled in from an evaluation's figures and hold no other."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Any

METRICS = "metrics.json"
CARD = "README.md"
TEMPLATE = "card.template.md"
"""The card's words, beside the model: ``$name`` stands where a table or a figure goes."""

JUDGES = ("network", "classical")

Figures = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _judged(figures: Figures, judge: str) -> list[str]:
    found, iou, far = figures[judge], figures[judge]["iou"], figures[judge]["distance"]
    return [
        f"{iou['mean']:.4f}",
        f"{iou['p5']:.4f}",
        f"{iou['worst']:.4f}",
        f"{far['mean']:.2f}",
        f"{far['p95']:.2f}",
        f"{far['hausdorff']:.1f} / {far['hausdorff_worst']:.1f}",
        f"{far['signed']:+.2f}",
        f"{found['missed']['total']} ({found['missed']['slices']})",
        f"{found['in_carriers']['total']} ({found['in_carriers']['slices']})",
        f"{found['found']:.3f}",
    ]


def outlines(figures: Figures, grouping: str) -> str:
    """Network and classical segmentation by the groups of one grouping."""
    head = [grouping, "slices / patients", "outline", "IoU mean", "5th percentile", "worst", "rim mean, px", "rim 95th percentile, px"]
    head += ["Hausdorff mean / worst, px", "signed, px", "body px outside the margin", "body px in possible carriers", "free found"]
    rows = []
    for name, group in figures["groups"][grouping].items():
        for judge in JUDGES:
            rows.append([name, f"{group['slices']} / {group['patients']}", judge, *_judged(group, judge)])
    return table(head, rows)


def margins(figures: Figures) -> str:
    """What each margin leaves, by modality."""
    kinds = figures["by_margin"]
    head = ["margin, px"]
    for kind in kinds:
        head += [f"{kind} missed", f"{kind} in carriers", f"{kind} free found"]
    rows = []
    for margin in next(iter(kinds.values()))["margins"]:
        row = [margin]
        for kind in kinds.values():
            at = kind["margins"][margin]
            row += [f"{at[name]['total']} ({at[name]['slices']})" for name in ("missed", "in_carriers")]
            row.append(f"{at['found']:.3f}")
        rows.append(row)
    return table(head, rows)


def margin_words(figures: Figures) -> str:
    """Which margin the data need, in a sentence."""
    least, used = figures["least_margin"], figures["margin"]
    if least is None:
        return f"No margin that was tried keeps every labelled body pixel out of the possible carriers; Coverslip keeps {used} pixels."
    return f"From {least} pixels on no labelled body pixel is in a possible carrier on any slice; Coverslip keeps {used}."


def against(figures: Figures) -> str:
    """Who is ahead, by number of slices."""
    head = ["", "less body in possible carriers: network / same / classical", "higher IoU (by 0.01): network / same / classical"]
    rows = [
        [kind, *(" / ".join(str(ahead[what][who]) for who in ("network", "same", "classical")) for what in ("in_carriers", "iou"))]
        for kind, ahead in figures["comparison"].items()
        if kind != "slices"
    ]
    return table(head, rows)


def where_they_differ(figures: Figures) -> str:
    """Slices on which one outline lets more body into possible carriers than the other."""
    head = ["slice", "what", "network: IoU, body px in carriers", "classical: IoU, body px in carriers"]
    rows = []
    for item in figures["comparison"]["slices"]:
        first, second = (item[judge] for judge in JUDGES)
        if first["in_carriers"] != second["in_carriers"] or first["iou"] > second["iou"]:
            what = f"{item['modality']} {item['anatomy']}, {item['scanner']}"
            rows.append([f"`{item['name']}`", what, *(f"{it['iou']:.4f}, {it['in_carriers']}" for it in (first, second))])
    return table(head, rows)


def _refusals(refused: dict[str, int]) -> str:
    return ", ".join(f"{code}: {count}" for code, count in refused.items()) or "none"


def steadiness(figures: Figures) -> str:
    """Masks of stego against cover."""
    head = ["profile", "", "slices", "refused", "mask NCC mean", "worst", "carrier blocks that differ, mean", "worst", "body px changed"]
    rows = []
    for profile, kinds in figures["stability"].items():
        for kind, found in kinds.items():
            row = [profile, kind, str(found["slices"]), _refusals(found["refused"])]
            if "ncc" in found:
                row += [f"{found['ncc'][key]:.5f}" for key in ("mean", "worst")]
                row += [f"{found['blocks_differ'][key]:.4f}" for key in ("mean", "worst")]
            else:
                row += ["-"] * 4
            rows.append([*row, f"{found['body_changed']['total']} ({found['body_changed']['slices']})"])
    return table(head, rows)


def hard(figures: Figures) -> str:
    """What happened to the slices without a label, counted."""
    head = ["outline", "slices", "refused", "embedded", "a bright pixel altered", "brightest altered pixel, median"]
    found = figures["hard"]
    rows = []
    for judge in JUDGES:
        at = found[judge]
        middle = "-" if at["brightest_median"] is None else f"{at['brightest_median']:.3f}"
        rows.append([judge, str(found["slices"]), _refusals(at["refused"]), str(at["embedded"]), str(at["bright_altered"]), middle])
    return table(head, rows)


def hard_each(figures: Figures) -> str:
    """What happened to the slices without a label, one by one."""

    def said(trial: Figures) -> str:
        return f"refused, {trial['refused']}" if "refused" in trial else f"{trial['brightest_altered']:.3f}"

    rows = [[f"`{item['name']}`", item["why"], *(said(item[judge]) for judge in JUDGES)] for item in figures["hard"]["each"]]
    return table(["slice", "why it is hard", "network: brightest altered", "classical: brightest altered"], rows)


def worst(figures: Figures) -> str:
    """The worst slices."""
    head = ["slice", "what", "IoU", "rim 95th percentile, px", "margin that covers all body, px", "body px in carriers"]
    rows = []
    for item in figures["worst"]:
        at = item["network"]
        what = f"{item['modality']} {item['anatomy']}"
        numbers = [f"{at['iou']:.4f}", f"{at['distance']['p95']:.1f}", str(at["margin_needed"]), str(at["in_carriers"])]
        rows.append([f"`{item['name']}`", what, *numbers])
    return table(head, rows)


def licences(figures: Figures) -> str:
    """Slices by the licence of their source."""
    data = figures["data"]
    head = ["licence", *(f"{split} slices" for split in data["splits"]), "patients"]
    rows = [
        [name, *(str(counts[split]) for split in data["splits"]), str(counts["patients"])] for name, counts in data["licences"].items()
    ]
    return table(head, rows)


def counts(figures: Figures) -> str:
    """Slices and patients by split and modality."""
    rows = [
        [split, kind, str(at["slices"]), str(at["patients"])] for split, kinds in figures["data"]["splits"].items() for kind, at in kinds.items()
    ]
    return table(["split", "modality", "slices", "patients"], rows)


PARTS: dict[str, Callable[[Figures], str]] = {
    "against": against,
    "by_anatomy": lambda figures: outlines(figures, "anatomy"),
    "by_modality": lambda figures: outlines(figures, "modality"),
    "by_scanner": lambda figures: outlines(figures, "scanner"),
    "counts": counts,
    "hard": hard,
    "hard_each": hard_each,
    "licences": licences,
    "margin": lambda figures: str(figures["margin"]),
    "margin_words": margin_words,
    "margins": margins,
    "model_bytes": lambda figures: f"{figures['model']['bytes'] / 1e6:.1f} MB",
    "model_kind": lambda figures: {"litert": ".tflite", "tensorflow": "SavedModel", "weights": "weights"}[figures["model"]["kind"]],
    "model_sha256": lambda figures: str(figures["model"]["sha256"]),
    "paper_iou": lambda figures: f"{figures['paper']['iou']:.4f}",
    "paper_ncc": lambda figures: "{:.2f} to {:.2f}".format(*figures["paper"]["ncc"]),
    "bright": lambda figures: str(figures["hard"]["bright"]),
    "split": lambda figures: str(figures["split"]),
    "steadiness": steadiness,
    "where_they_differ": where_they_differ,
    "worst": worst,
}
"""What a template may name."""


def fill(template: str, figures: Figures) -> str:
    """A template with its places filled in.

    Raises
    ------
    KeyError
        The template names something that is none of `PARTS`.
    """
    wanted = Template(template).get_identifiers()
    return Template(template).substitute({name: PARTS[name](figures) for name in wanted})


def write_card(folder: Path, figures: Figures) -> None:
    """Write ``metrics.json``, and ``README.md`` out of it and the folder's template."""
    (folder / METRICS).write_text(json.dumps(figures, indent=1) + "\n")
    renew(folder)


def renew(folder: Path) -> None:
    """Write a folder's ``README.md`` again, out of its ``metrics.json`` and its template."""
    figures = json.loads((folder / METRICS).read_text())
    (folder / CARD).write_text(fill((folder / TEMPLATE).read_text(), figures))


REPORT = Template("""Split '$split', $model_kind, margin $margin px; the paper's IoU, on its own data, is $paper_iou

$by_modality

$by_anatomy

$by_scanner

Margins. $margin_words

$margins

Network against classical segmentation, margin and gate behind both

$against

$where_they_differ

Masks of stego against cover (the paper's Table 3: NCC $paper_ncc)

$steadiness

Worst slices

$worst
""")

HARD_REPORT = Template("""
Slices without a label; above $bright of the way from the darkest pixel to the 98th percentile a pixel counts as bright

$hard

$hard_each
""")


def aligned(text: str) -> str:
    """Markdown tables of a text with their columns made equally wide, for a terminal."""
    out: list[str] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            rows.append([cell.strip() for cell in line.strip("| ").split(" | ")])
            continue
        if rows:
            widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(len(rows[0]))]
            out += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows if row[0] != "---"]
            rows = []
        out.append(line)
    return "\n".join(out).rstrip()


def tabulate(figures: Figures) -> str:
    """The report that is printed."""
    words = REPORT.template + (HARD_REPORT.template if figures["hard"]["slices"] else "")
    return aligned(fill(words, figures))


def main(words: Sequence[str] | None = None) -> int:
    """Entry of ``python -m coverslip.training.card``: write a model's card again after its template changed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help=f"folder with {METRICS} and {TEMPLATE}")
    renew(parser.parse_args(words).folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
