"""What an evaluation counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")

from coverslip.training.evaluate import MARGINS, correlation, distance_to, evaluate, intersection_over_union, measure

from tests.training.slices import make_slice

ITEM = make_slice("a.dcm", "P")


def shifted(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The label, 3 pixels too high."""
    return np.roll(ITEM.label, -3, axis=0)[np.newaxis].repeat(pixels.shape[0], axis=0)


def test_a_perfect_mask_needs_no_margin() -> None:
    measured = measure(ITEM, lambda pixels: ITEM.label[np.newaxis])
    assert measured.iou == 1.0 and measured.needed == 0 and measured.ncc == 1.0
    assert not any(measured.missed) and not any(measured.carriers)
    assert measured.found[0] > 0.9 and measured.found[-1] < measured.found[0]


def test_a_shifted_mask_needs_its_shift() -> None:
    measured = measure(ITEM, shifted)
    assert measured.needed == 3 and 0.8 < measured.iou < 1.0
    assert measured.missed[MARGINS.index(0)] == np.count_nonzero(ITEM.label & (1 - shifted(ITEM.pixels[None])[0]))
    assert measured.missed[MARGINS.index(2)] > 0 and measured.missed[MARGINS.index(3)] == 0


def test_the_gate_keeps_bright_body_that_the_mask_missed() -> None:
    assert not any(measure(ITEM, shifted).carriers)


def test_no_mask_is_counted_as_such() -> None:
    measured = measure(ITEM, lambda pixels: np.zeros((1, *ITEM.label.shape), np.uint8))
    assert measured.iou == 0.0 and measured.needed == 130 and measured.missed[-1] == ITEM.label.sum()


def test_distances_are_those_of_a_square_dilation() -> None:
    mask = np.zeros((5, 5), np.uint8)
    mask[1, 1] = 1
    assert distance_to(mask)[3, 3] == 2 and distance_to(mask)[1, 4] == 3


def test_summaries_add_up() -> None:
    figures, slices = evaluate(shifted, [ITEM, ITEM])
    assert figures["CT"]["slices"] == 2 and figures["CT"]["patients"] == 1
    assert figures["CT"]["body_pixels_missed"]["0"] == {
        "total": 2 * slices[0].missed[0],
        "worst": slices[0].missed[0],
        "slices": 2,
    }
    assert figures["worst"][0]["margin_needed"] == 3


def test_empty_masks() -> None:
    empty, full = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert intersection_over_union(empty, empty) == correlation(empty, empty) == 1.0
    assert intersection_over_union(empty, full) == correlation(empty, full) == 0.0
