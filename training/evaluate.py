"""Measure a network on labelled slices: ``python -m coverslip.training.evaluate --data DIR --weights FILE [--out FILE.json]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from coverslip.graph.network import Network
from coverslip.training.records import Slice, read_slices
from numpy.typing import NDArray
from scipy import ndimage

from coverslip.scheme.carriers import allowed_blocks

MARGINS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24)
"""Safety margins tried, pixels."""

STABILITY_MARGIN = 8
STABILITY_STEP = 16.0
"""What the mask must withstand: every allowed block changed as an embedding with this step (grey levels) changes it."""

REFERENCE_SIDE = 512

Segment = Callable[[NDArray[np.int32]], NDArray[np.uint8]]
"""Pixels int32 [1, H, W] to mask uint8 [1, H, W]."""


@dataclass(frozen=True)
class Measured:
    """One slice.

    Attributes
    ----------
    name, patient, modality : str
    iou : float
        Intersection over union with the label.
    needed : int
        Smallest margin, pixels, that leaves no body pixel outside the dilated mask; the longer side when there is no mask.
    missed : tuple of int
        Body pixels outside the mask dilated by each of `MARGINS` pixels.
    missed_scaled : tuple of int
        The same with each margin scaled by (longer side) / 512.
    carriers : tuple of int
        Body pixels in blocks that could carry, after margin and intensity gate.
    found : tuple of float
        Share of the blocks without body that margin and gate leave.
    ncc : float
        Normalised cross-correlation of the mask with that of the image after an embedding.
    """

    name: str
    patient: str
    modality: str
    iou: float
    needed: int
    missed: tuple[int, ...]
    missed_scaled: tuple[int, ...]
    carriers: tuple[int, ...]
    found: tuple[float, ...]
    ncc: float


def intersection_over_union(mask: NDArray[np.uint8], label: NDArray[np.uint8]) -> float:
    """IoU of two masks of 0 and 1; 1 when both are empty."""
    union = np.count_nonzero(mask | label)
    return float(np.count_nonzero(mask & label) / union) if union else 1.0


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Normalised cross-correlation as the paper's Eq. 11 has it: sum(a b) / sqrt(sum(a^2) sum(b^2)); 1 when both are empty."""
    norm = np.sqrt(float(first.sum()) * float(second.sum()))
    return float(np.count_nonzero(first & second) / norm) if norm else float(first.sum() == second.sum())


def distance_to(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Distance of each pixel from the mask, pixels, as a square dilation counts it; the longer side when the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, max(mask.shape), np.int64)
    return np.asarray(ndimage.distance_transform_cdt(mask == 0, metric="chessboard"), np.int64)


def blocks_to_pixels(blocks: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Blocks [H // 4, W // 4] as pixels [H, W]; edges that are no full block are False."""
    pixels = np.zeros(shape, bool)
    grown = blocks.repeat(4, axis=0).repeat(4, axis=1)
    pixels[: grown.shape[0], : grown.shape[1]] = grown
    return pixels


def possible_carriers(item: Slice, mask: NDArray[np.uint8], margin: int) -> NDArray[np.bool_]:
    """Pixels of the blocks that margin and gate allow, bool [H, W]; padding is taken for any other pixel."""
    legal = (int(item.pixels.min()), int(item.pixels.max()))
    return blocks_to_pixels(
        allowed_blocks(item.pixels, mask, legal, legal[0] - 1, margin),
        (item.pixels.shape[0], item.pixels.shape[1]),
    )


def measure(item: Slice, segment: Segment) -> Measured:
    """Everything in `Measured` for one slice."""
    mask = segment(item.pixels[np.newaxis])[0]
    away = distance_to(mask)[item.label == 1]
    scale = max(item.label.shape) / REFERENCE_SIDE
    free = ndimage.minimum_filter(1 - item.label, size=4)
    allowed = [possible_carriers(item, mask, margin) for margin in MARGINS]
    rng = np.random.default_rng(0)
    change = np.rint(rng.uniform(-STABILITY_STEP / 2, STABILITY_STEP / 2, item.pixels.shape)).astype(np.int32)
    touched = allowed[MARGINS.index(STABILITY_MARGIN)]
    again = segment(np.where(touched, item.pixels + change, item.pixels)[np.newaxis])[0]
    return Measured(
        name=item.name,
        patient=item.patient,
        modality=item.modality,
        iou=intersection_over_union(mask, item.label),
        needed=int(away.max(initial=0)),
        missed=tuple(int(np.count_nonzero(away > margin)) for margin in MARGINS),
        missed_scaled=tuple(int(np.count_nonzero(away > margin * scale)) for margin in MARGINS),
        carriers=tuple(int(np.count_nonzero(blocks & (item.label == 1))) for blocks in allowed),
        found=tuple(float(np.count_nonzero(blocks & (free == 1)) / max(1, free.sum())) for blocks in allowed),
        ncc=correlation(mask, again),
    )


def summarise(slices: Sequence[Measured]) -> dict[str, Any]:
    """Figures over slices of one kind."""
    ious = np.array([item.iou for item in slices])
    columns = {
        "body_pixels_missed": [item.missed for item in slices],
        "body_pixels_missed_margin_at_512": [item.missed_scaled for item in slices],
        "body_pixels_in_carriers": [item.carriers for item in slices],
    }
    by_margin: dict[str, Any] = {}
    for name, rows in columns.items():
        table = np.array(rows)
        by_margin[name] = {
            str(margin): {
                "total": int(column.sum()),
                "worst": int(column.max()),
                "slices": int((column > 0).sum()),
            }
            for margin, column in zip(MARGINS, table.T, strict=True)
        }
    found = np.array([item.found for item in slices])
    return {
        "slices": len(slices),
        "patients": len({item.patient for item in slices}),
        "iou": {
            "mean": round(float(ious.mean()), 4),
            "p5": round(float(np.percentile(ious, 5)), 4),
            "worst": round(float(ious.min()), 4),
        },
        "margin_needed": {
            "median": int(np.median([item.needed for item in slices])),
            "p95": int(np.percentile([item.needed for item in slices], 95)),
            "worst": max(item.needed for item in slices),
        },
        "mask_ncc_after_embedding": {
            "mean": round(float(np.mean([item.ncc for item in slices])), 5),
            "worst": round(min(item.ncc for item in slices), 5),
        },
        "free_blocks_found": {str(margin): round(float(share), 4) for margin, share in zip(MARGINS, found.mean(axis=0), strict=True)},
        **by_margin,
    }


def tabulate(name: str, summary: dict[str, Any]) -> str:
    """A summary as text."""
    iou, needed, ncc = summary["iou"], summary["margin_needed"], summary["mask_ncc_after_embedding"]
    lines = [
        f"{name}: {summary['slices']} slices of {summary['patients']} patients",
        f"  IoU mean {iou['mean']:.4f}, 5th percentile {iou['p5']:.4f}, worst {iou['worst']:.4f}",
        f"  margin that covers all body: median {needed['median']}, 95th percentile {needed['p95']}, worst {needed['worst']} px",
        f"  mask NCC after embedding: mean {ncc['mean']:.5f}, worst {ncc['worst']:.5f}",
        "  margin px    missed/worst/slices   at 512: missed/worst/slices   in carriers/worst/slices   free found",
    ]
    for margin in map(str, MARGINS):
        cells = [
            "/".join(str(summary[column][margin][key]) for key in ("total", "worst", "slices"))
            for column in (
                "body_pixels_missed",
                "body_pixels_missed_margin_at_512",
                "body_pixels_in_carriers",
            )
        ]
        share = summary["free_blocks_found"][margin]
        lines.append(f"  {margin:>9}{cells[0]:>23}{cells[1]:>30}{cells[2]:>27}{share:>13.3f}")
    return "\n".join(lines)


def network_segment(network: Network) -> Segment:
    """A network as a function of numpy arrays."""
    traced = tf.function(network.segment, input_signature=[tf.TensorSpec([None, None, None], tf.int32)])

    def segment(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
        mask: NDArray[np.uint8] = traced(tf.constant(pixels)).mask.numpy()
        return mask

    return segment


def evaluate(segment: Segment, items: Iterable[Slice]) -> tuple[dict[str, Any], list[Measured]]:
    """Figures by modality and, under ``slices``, of the eight worst; with them every slice's."""
    slices = [measure(item, segment) for item in items]
    kinds = sorted({item.modality for item in slices})
    figures: dict[str, Any] = {kind: summarise([item for item in slices if item.modality == kind]) for kind in kinds}
    worst = sorted(slices, key=lambda item: -item.needed)[:8]
    figures["worst"] = [
        {
            "name": item.name,
            "modality": item.modality,
            "iou": round(item.iou, 4),
            "margin_needed": item.needed,
        }
        for item in worst
    ]
    return figures, slices


def main() -> None:
    """Entry of ``python -m coverslip.training.evaluate``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    network = Network.load(arguments.weights)
    figures, _ = evaluate(network_segment(network), read_slices(arguments.data, arguments.split))
    figures["split"] = arguments.split
    for kind in (key for key in figures if isinstance(figures[key], dict)):
        print(tabulate(kind, figures[kind]))
    for item in figures["worst"]:
        print(f"  {item['name']} {item['modality']}  IoU {item['iou']:.4f}  margin needed {item['margin_needed']} px")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
