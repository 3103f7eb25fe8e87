"""Measured slices as figures by modality, anatomy and scanner, and the figures as tables; the same
for a screen and for the model card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coverslip.scheme.profiles import DEFAULT
from coverslip_training.measures import MARGINS, PRODUCT_MARGIN, Outlined
from coverslip_training.outcomes import Altered, Lasting

PAPER_IOU = 0.9146
"""Mean IoU that Saidi et al. 2024 report, on their own slices."""

LEAVES_OUT = "labels that leave out visible body"

LEFT_OUT = {
    f"slices/{number:04d}.dcm": "dark sinuses and the skull around them are not in the label"
    for number in range(668, 676)
}
"""Slices of the shared data whose labels leave out body that anyone can see: there IoU measures the
label. They are reported with and without, and nothing else depends on this table."""

BRIGHT = (0.2, 0.5)
"""Bounds between dark, grey and bright among altered pixels; shares of the way from the darkest
pixel to the 98th percentile.
"""

OUTLINERS = ("network", "classical")


@dataclass(frozen=True)
class Row:
    """Everything that was measured on a labelled slice; ``lasting`` is under the default profile,
    ``robust`` under the one of that name.
    """

    name: str
    patient: str
    modality: str
    anatomy: str
    scanner: str
    network: Outlined
    classical: Outlined
    lasting: Lasting
    robust: Lasting | None = None


@dataclass(frozen=True)
class HardRow:
    """Everything that was measured on a slice without a label."""

    name: str
    modality: str
    why: str
    network: Altered
    classical: Altered


def outlined_figures(outlines: Sequence[Outlined]) -> dict[str, Any]:
    """Means and extremes over some outlines of one kind."""
    ious = np.array([o.iou for o in outlines])
    distances = [o.distances for o in outlines]
    needed = np.array([o.needed for o in outlines])
    missed, carriers = (
        np.array([o.missed for o in outlines]),
        np.array([o.carriers for o in outlines]),
    )
    found = np.array([o.found for o in outlines])
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
        "nothing_outlined": sum(o.empty for o in outlines),
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
                "background_found": round(float(found[:, i].mean()), 4),
            }
            for i, margin in enumerate(MARGINS)
        },
    }


def lasting_figures(lasting: Sequence[Lasting]) -> dict[str, Any]:
    """How outlines and carriers withstood the embedding."""
    ncc, moved = np.array([one.ncc for one in lasting]), np.array([one.moved for one in lasting])
    outline = np.array([one.moved_by_outline for one in lasting])
    return {
        "ncc_mean": round(float(ncc.mean()), 5),
        "ncc_worst": round(float(ncc.min()), 5),
        "slices_below_0.999": int((ncc < 0.999).sum()),
        "carriers_moved_mean": round(float(moved.mean()), 5),
        "carriers_moved_worst": round(float(moved.max()), 5),
        "carriers_moved_by_outline_mean": round(float(outline.mean()), 5),
        "carriers_moved_by_outline_worst": round(float(outline.max()), 5),
        "refused": dict(sorted(Counter(one.refused for one in lasting if one.refused).items())),
        "body_pixels_altered": sum(one.body_altered for one in lasting),
    }


def group(kind: str, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Figures of the slices of one modality, anatomy or scanner."""
    return {
        "kind": kind,
        "name": name,
        "slices": len(rows),
        "patients": len({row.patient for row in rows}),
        "network": outlined_figures([row.network for row in rows]),
        "classical": outlined_figures([row.classical for row in rows]),
        "embedded": lasting_figures([row.lasting for row in rows]),
        **(
            {"embedded_robust": lasting_figures(robust)}
            if (robust := [row.robust for row in rows if row.robust is not None])
            else {}
        ),
    }


def groups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Figures by modality (with and without `LEFT_OUT`), anatomy and scanner."""
    kinds: dict[str, Callable[[Row], str]] = {
        "modality": lambda row: row.modality,
        "anatomy": lambda row: f"{row.modality} {row.anatomy}",
        "scanner": lambda row: f"{row.modality} {row.scanner}",
    }
    found = []
    for kind, of in kinds.items():
        for name in sorted({of(row) for row in rows}):
            members = [row for row in rows if of(row) == name]
            found.append(group(kind, name, members))
            rest = [row for row in members if row.name not in LEFT_OUT]
            if kind == "modality" and 0 < len(rest) < len(members):
                found.append(
                    group(
                        kind, f"{name}, without the {len(members) - len(rest)} {LEAVES_OUT}", rest
                    )
                )
    return found


def comparison(rows: Sequence[Row]) -> dict[str, Any]:
    """Where one of the two outlines lets body through that the other keeps."""

    def sides(count: Callable[[Outlined], int]) -> dict[str, Any]:
        network, classical = (
            {row.name for row in rows if count(getattr(row, side))} for side in OUTLINERS
        )
        where = {row.name: f"{row.modality} {row.anatomy}" for row in rows}
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
        "missed_after_margin": sides(lambda o: o.missed[at]),
        "in_carriers": sides(lambda o: o.carriers[at]),
    }


def hard_figures(rows: Sequence[HardRow]) -> dict[str, Any]:
    """Counts of what happened on slices without a label, and the slices one by one."""
    found: dict[str, Any] = {"slices": len(rows)}
    for side in OUTLINERS:
        altered: list[Altered] = [getattr(row, side) for row in rows]
        shares = [one.brightest for one in altered if not one.refused]
        found[side] = {
            "refused": dict(sorted(Counter(one.refused for one in altered if one.refused).items())),
            "dark": sum(share < BRIGHT[0] for share in shares),
            "grey": sum(BRIGHT[0] <= share < BRIGHT[1] for share in shares),
            "bright": sum(share >= BRIGHT[1] for share in shares),
        }
    found["rows"] = [
        {
            "name": row.name,
            "modality": row.modality,
            "why": row.why,
            **{
                side: getattr(row, side).refused or round(getattr(row, side).brightest, 3)
                for side in OUTLINERS
            },
        }
        for row in rows
    ]
    return found


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Rows in order of what is worst about the network's outline: body that may carry, then the
    margin needed, then IoU.
    """
    return sorted(
        rows, key=lambda row: (-row.network.in_carriers, -row.network.needed, row.network.iou)
    )


def summarise(rows: Sequence[Row], hard: Sequence[HardRow], worst: int) -> dict[str, Any]:
    """All figures of an evaluation, ready for JSON."""
    return {
        "margin_px": PRODUCT_MARGIN,
        "step": DEFAULT.step,
        "paper_iou": PAPER_IOU,
        "labels_that_leave_out_visible_body": sorted(
            row.name for row in rows if row.name in LEFT_OUT
        ),
        "groups": groups(rows),
        "comparison": comparison(rows),
        "hard": hard_figures(hard),
        "worst": [
            {
                "name": row.name,
                "of": f"{row.modality} {row.anatomy}",
                "iou": round(row.network.iou, 4),
                "margin_needed_px": row.network.needed,
                "body_pixels_in_carriers": row.network.in_carriers,
            }
            for row in worst_first(rows)[:worst]
        ],
    }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def of_kinds(figures: dict[str, Any], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The groups of some kinds."""
    return [one for one in figures["groups"] if one["kind"] in kinds]


def _counted(one: dict[str, Any]) -> list[object]:
    return [one["name"], f"{one['slices']} / {one['patients']}"]


def outline_table(figures: dict[str, Any], kinds: Sequence[str]) -> str:
    """Overlap and distances, the classical outline beside the network's."""
    head = [
        "",
        "slices / patients",
        "outline",
        "IoU mean",
        "5th percentile",
        "worst",
        "rims apart, px: mean",
        "95th percentile",
    ]
    head += ["Hausdorff mean / worst", "signed"]
    rows = []
    for one in of_kinds(figures, kinds):
        for side in OUTLINERS:
            iou, rim = one[side]["iou"], one[side]["rim_px"]
            values = [f"{iou['mean']:.4f}", f"{iou['p5']:.4f}", f"{iou['worst']:.4f}"]
            values += [
                f"{rim['mean']:.2f}",
                f"{rim['p95']:.2f}",
                f"{rim['hausdorff_mean']:.1f} / {rim['hausdorff_worst']:.1f}",
            ]
            rows.append([*_counted(one), side, *values, f"{rim['signed']:+.2f}"])
    return table(head, rows)


def outcome_table(figures: dict[str, Any], kinds: Sequence[str]) -> str:
    """What matters: body behind margin and gate, and background that is left to work with."""
    head = [
        "",
        "slices / patients",
        "outline",
        "margin that covers all labelled body, px: median / 95th percentile / worst",
        "body pixels missed after the margin (slices)",
        "of them in possible carriers (slices)",
        "background found",
    ]
    rows = []
    for one in of_kinds(figures, kinds):
        for side in OUTLINERS:
            needed, at = (
                one[side]["margin_needed_px"],
                one[side]["by_margin"][str(figures["margin_px"])],
            )
            rows.append(
                [
                    *_counted(one),
                    side,
                    f"{needed['median']} / {needed['p95']} / {needed['worst']}",
                    f"{at['body_pixels_missed']} ({at['slices_missed']})",
                    f"{at['body_pixels_in_carriers']} ({at['slices_in_carriers']})",
                    f"{at['background_found']:.3f}",
                ]
            )
    return table(head, rows)


def margin_table(figures: dict[str, Any]) -> str:
    """The network's figures at every margin, by modality."""
    kinds = [one for one in of_kinds(figures, ["modality"]) if "," not in one["name"]]
    head = [
        "margin, px",
        *(
            f"{one['name']} {what}"
            for one in kinds
            for what in ("missed", "after gate", "background found")
        ),
    ]
    rows = []
    for margin in map(str, MARGINS):
        cells: list[object] = [margin]
        for one in kinds:
            at = one["network"]["by_margin"][margin]
            cells += [
                f"{at['body_pixels_missed']} ({at['slices_missed']})",
                f"{at['body_pixels_in_carriers']} ({at['slices_in_carriers']})",
                f"{at['background_found']:.3f}",
            ]
        rows.append(cells)
    return table(head, rows)


def lasting_table(figures: dict[str, Any], kinds: Sequence[str], key: str = "embedded") -> str:
    """Cover against stego; ``key`` names the figures in each group, those of the default profile
    unless others are asked for.
    """
    head = [
        "",
        "slices / patients",
        "mask NCC mean",
        "worst",
        "slices below 0.999",
        "carrier blocks that differ, mean / worst",
        "by the outline alone",
        "refused",
        "labelled body pixels altered",
    ]
    rows = []
    for one in of_kinds(figures, kinds):
        at = one[key]
        values = [f"{at['ncc_mean']:.5f}", f"{at['ncc_worst']:.5f}", at["slices_below_0.999"]]
        shares = [
            f"{at[f'{what}_mean']:.2%} / {at[f'{what}_worst']:.2%}"
            for what in ("carriers_moved", "carriers_moved_by_outline")
        ]
        rows.append(
            [*_counted(one), *values, *shares, counts(at["refused"]), at["body_pixels_altered"]]
        )
    return table(head, rows)


def counts(numbers: dict[str, int]) -> str:
    """Numbers by name as text."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items()) or "0"


def hard_table(figures: dict[str, Any]) -> str:
    """Counts on the slices without a label."""
    head = ["outline", "refused", f"altered below {BRIGHT[0]} only", f"up to {BRIGHT[1]}", "above"]
    hard = figures["hard"]
    keys = ("dark", "grey", "bright")
    return table(
        head,
        [
            [side, counts(hard[side]["refused"]), *(hard[side][key] for key in keys)]
            for side in OUTLINERS
        ],
    )


def hard_rows(figures: dict[str, Any], everything: bool = False) -> str:
    """The slices without a label; only those on which one of the two altered something that is not
    dark, unless all are wanted.
    """

    def shown(value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.2f}"

    rows = figures["hard"]["rows"]
    if not everything:
        rows = [
            row
            for row in rows
            if any(not isinstance(row[side], str) and row[side] >= BRIGHT[0] for side in OUTLINERS)
        ]
    cells = [[row["name"], row["why"], *(shown(row[side]) for side in OUTLINERS)] for row in rows]
    return table(["slice", "why it is hard", *OUTLINERS], cells)


def comparison_lines(figures: dict[str, Any]) -> str:
    """Where one outline lets through what the other keeps, in sentences."""
    lines = []
    for key, what in (
        ("missed_after_margin", "body left outside the margin"),
        ("in_carriers", "body left in possible carriers, after margin and gate"),
    ):
        side = figures["comparison"][key]
        lines.append(
            f"- {what}: by the classical outline alone on {len(side['classical_only'])} slices "
            f"({counts(side['classical_only_where'])}), "
            f"by the network's alone on {len(side['network_only'])} "
            f"({counts(side['network_only_where'])}), by both on {len(side['both'])}"
        )
    return "\n".join(lines)


def worst_table(figures: dict[str, Any], count: int) -> str:
    """The worst slices."""
    head = ["slice", "of", "IoU", "margin needed, px", "body pixels in possible carriers"]
    rows = [
        [
            one["name"],
            one["of"],
            f"{one['iou']:.4f}",
            one["margin_needed_px"],
            one["body_pixels_in_carriers"],
        ]
        for one in figures["worst"][:count]
    ]
    return table(head, rows)
