"""Augmented images and targets."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")
pytest.importorskip("cv2")

from coverslip_graph.preprocess import SIDE  # noqa: E402
from coverslip_training.augment import CANVAS, SourceSlice, ct_as_mr, make_source, warp  # noqa: E402
from coverslip_training.experiment import task_config  # noqa: E402
from coverslip_training.inputs import NumberedImages, make_dataset, sampling_weights  # noqa: E402
from coverslip_training.tasks import MaskTargets  # noqa: E402
from tests.training.slices import make_slice  # noqa: E402


def sources() -> list[SourceSlice]:
    return [
        make_source(make_slice(f"{k}.dcm", f"P{k}", "MR" if k % 2 else "CT", seed=k))
        for k in range(4)
    ]


@pytest.fixture(scope="module")
def numbered() -> NumberedImages:
    return NumberedImages(sources(), ["P0", "P1", "P2", "P3"], seed=5)


def test_a_number_always_gives_the_same_image(numbered: NumberedImages) -> None:
    first, again, other = numbered(3), numbered(3), numbered(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_images_labels_and_boxes_fit_together(numbered: NumberedImages) -> None:
    for number in range(60):
        pixels, label, box = numbered(number)
        assert pixels.dtype == np.int32 and max(pixels.shape) == CANVAS
        assert label.shape == (SIDE, SIDE) and label.min() >= 0 and label.max() <= 1
        assert not label[pixels.shape[0] :].any() and not label[:, pixels.shape[1] :].any()
        top, left, bottom, right = box[0].astype(int)
        assert (label[top:bottom, left:right] >= 0.5).sum() == (label >= 0.5).sum() >= 100


def test_the_label_stays_on_the_body() -> None:
    source = sources()[0]
    for seed in range(20):
        pixels, label, _ = warp(np.random.default_rng(seed), source)
        bright = pixels > (source.air + source.tissue) / 2
        assert np.mean(bright == (label >= 0.5)) > 0.99


def test_ct_as_mr_keeps_the_body_brighter_than_the_air() -> None:
    source = sources()[0]
    for seed in range(20):
        signal = ct_as_mr(np.random.default_rng(seed), source.pixels, source.label, source)
        assert (
            signal.min() >= 0
            and signal[source.label == 1].mean() > signal[source.label == 0].mean()
        )


def test_padding_and_air_are_distinguished() -> None:
    item = make_slice("a.dcm", "P")
    item.pixels[:20] = -2000
    source = make_source(item)
    assert source.padding == -2000 and 0 <= source.air < 100


def test_sampling_gives_magnetic_resonance_its_share() -> None:
    weights = sampling_weights(sources(), ["P0", "P1", "P2", "P3"])
    assert np.isclose(weights.sum(), 1) and np.isclose(weights[1] + weights[3], 0.4)


@pytest.mark.slow
def test_targets_have_the_shapes_of_model_gardens_parser(numbered: NumberedImages) -> None:
    config = task_config()
    images, labels = next(
        iter(
            make_dataset(
                numbered, config.model, config.train_data.parser, tf.data.Dataset.range(2), 2
            )
        )
    )
    assert images.shape == (2, SIDE, SIDE, 3)
    assert labels["gt_masks"].shape == (2, 1, SIDE, SIDE) and labels["image_info"].shape == (
        2,
        4,
        2,
    )
    assert labels["rpn_score_targets"]["3"].shape == (2, 32, 32, 3)
    inner, outer = labels["gt_boxes"].numpy(), labels["gt_outer_boxes"].numpy()
    assert np.all(outer[..., :2] <= inner[..., :2]) and np.all(outer[..., 2:] >= inner[..., 2:])


def test_mask_targets_reach_the_edge_of_the_frame() -> None:
    masks = np.zeros((1, 1, SIDE, SIDE), np.float32)
    masks[..., :128, :] = 1
    roi = tf.constant([[[0.0, 0.0, 256.0, 256.0]]])
    classes, indices = tf.constant([[1]]), tf.constant([[0]])
    _, _, cut = MaskTargets(64, 1)(roi, roi, classes, indices, tf.constant(masks))
    wanted = np.zeros((64, 64))
    wanted[:32] = 1
    assert np.array_equal(cut[0, 0], wanted)
