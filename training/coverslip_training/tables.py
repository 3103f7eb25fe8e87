"""Formats the figures of an evaluation as Markdown, for the report and for the model card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from coverslip_training.figures import BRIGHT_FROM, DARK_TO, OUTLINERS, Figures
from coverslip_training.measures import MARGINS


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def groups_of(figures: Figures, kinds: Sequence[str]) -> list[Figures]:
    """Select the groups of some kinds: modality, anatomy or scanner."""
    return [group for group in figures["groups"] if group["kind"] in kinds]


def counts(numbers: Mapping[str, int]) -> str:
    """Format numbers by name, as in ``3 no-body, 1 no-carriers``."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items()) or "0"


def _group_cells(group: Figures) -> list[object]:
    return [group["name"], f"{group['slices']} / {group['patients']}"]


def outline_table(figures: Figures, kinds: Sequence[str]) -> str:
    """Overlap and rim distances, for the network's outline and the classical one."""
    head = [
        "",
        "slices / patients",
        "outline",
        "IoU mean",
        "5th percentile",
        "worst",
        "rims apart, px: mean",
        "95th percentile",
        "Hausdorff mean / worst",
        "signed",
    ]
    rows = []
    for group in groups_of(figures, kinds):
        for outliner in OUTLINERS:
            iou, rim = group[outliner]["iou"], group[outliner]["rim_px"]
            rows.append(
                [
                    *_group_cells(group),
                    outliner,
                    f"{iou['mean']:.4f}",
                    f"{iou['p5']:.4f}",
                    f"{iou['worst']:.4f}",
                    f"{rim['mean']:.2f}",
                    f"{rim['p95']:.2f}",
                    f"{rim['hausdorff_mean']:.1f} / {rim['hausdorff_worst']:.1f}",
                    f"{rim['signed']:+.2f}",
                ]
            )
    return table(head, rows)


def carrier_table(figures: Figures, kinds: Sequence[str]) -> str:
    """Body that margin and gate leave unprotected, and background that may carry."""
    head = [
        "",
        "slices / patients",
        "outline",
        "margin that covers all labelled body, px: median / 95th percentile / worst",
        "body pixels missed after the margin (slices)",
        "of them in possible carriers (slices)",
        "background that may carry",
    ]
    rows = []
    for group in groups_of(figures, kinds):
        for outliner in OUTLINERS:
            needed = group[outliner]["margin_needed_px"]
            at = group[outliner]["by_margin"][str(figures["margin_px"])]
            rows.append(
                [
                    *_group_cells(group),
                    outliner,
                    f"{needed['median']} / {needed['p95']} / {needed['worst']}",
                    *_margin_cells(at),
                ]
            )
    return table(head, rows)


def _margin_cells(at: Figures) -> list[object]:
    return [
        f"{at['body_pixels_missed']} ({at['slices_missed']})",
        f"{at['body_pixels_in_carriers']} ({at['slices_in_carriers']})",
        f"{at['background_found']:.3f}",
    ]


def margin_table(figures: Figures) -> str:
    """The network's figures at every margin, by modality."""
    groups = [group for group in groups_of(figures, ["modality"]) if "," not in group["name"]]
    head = [
        "margin, px",
        *(
            f"{group['name']} {column}"
            for group in groups
            for column in ("missed", "after gate", "background")
        ),
    ]
    rows = []
    for margin in map(str, MARGINS):
        cells: list[object] = [margin]
        for group in groups:
            cells += _margin_cells(group["network"]["by_margin"][margin])
        rows.append(cells)
    return table(head, rows)


def stability_table(figures: Figures, kinds: Sequence[str], key: str = "embedded") -> str:
    """Changes from cover to stego image; ``key`` is ``embedded`` or ``embedded_robust``."""
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
    for group in groups_of(figures, kinds):
        at = group[key]
        shares = [
            f"{at[f'{share}_mean']:.2%} / {at[f'{share}_worst']:.2%}"
            for share in ("carriers_moved", "carriers_moved_by_outline")
        ]
        rows.append(
            [
                *_group_cells(group),
                f"{at['ncc_mean']:.5f}",
                f"{at['ncc_worst']:.5f}",
                at["slices_below_0.999"],
                *shares,
                counts(at["refused"]),
                at["body_pixels_altered"],
            ]
        )
    return table(head, rows)


def unlabelled_table(figures: Figures) -> str:
    """Counts over the slices without a label."""
    head = ["outline", "refused", f"altered below {DARK_TO} only", f"up to {BRIGHT_FROM}", "above"]
    rows = []
    for outliner in OUTLINERS:
        at = figures["hard"][outliner]
        rows.append([outliner, counts(at["refused"]), at["dark"], at["grey"], at["bright"]])
    return table(head, rows)


def unlabelled_rows(figures: Figures, everything: bool = False) -> str:
    """The slices without a label, one by one.

    Parameters
    ----------
    figures : dict
    everything : bool
        All slices, not only those on which a pixel that is not dark was altered.
    """

    def is_notable(row: Figures) -> bool:
        values = [row[outliner] for outliner in OUTLINERS]
        return any(not isinstance(value, str) and value >= DARK_TO for value in values)

    def cell(value: str | float) -> str:
        return value if isinstance(value, str) else f"{value:.2f}"

    rows = [row for row in figures["hard"]["rows"] if everything or is_notable(row)]
    cells = [
        [row["name"], row["why"], *(cell(row[outliner]) for outliner in OUTLINERS)] for row in rows
    ]
    return table(["slice", "why it is hard", *OUTLINERS], cells)


def comparison_lines(figures: Figures) -> str:
    """Count the slices on which only one of the two outlines misses body, in sentences."""
    lines = []
    for key, failure in (
        ("missed_after_margin", "body outside the margin"),
        ("in_carriers", "body in possible carriers, after margin and gate"),
    ):
        at = figures["comparison"][key]
        lines.append(
            f"- {failure}: with the classical outline alone on {len(at['classical_only'])} slices "
            f"({counts(at['classical_only_where'])}), with the network's alone on "
            f"{len(at['network_only'])} ({counts(at['network_only_where'])}), with both on "
            f"{len(at['both'])}"
        )
    return "\n".join(lines)


def worst_table(figures: Figures, count: int) -> str:
    """The worst slices."""
    head = ["slice", "of", "IoU", "margin needed, px", "body pixels in possible carriers"]
    rows = [
        [
            worst["name"],
            worst["of"],
            f"{worst['iou']:.4f}",
            worst["margin_needed_px"],
            worst["body_pixels_in_carriers"],
        ]
        for worst in figures["worst"][:count]
    ]
    return table(head, rows)
