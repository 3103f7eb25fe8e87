"""Makes augmented images and their targets for Model Garden's Mask R-CNN task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from official.vision.configs import maskrcnn
from official.vision.ops import anchor, box_ops

from coverslip_graph.preprocess import SIDE, prepare
from coverslip_training.augment import SourceSlice, augment
from coverslip_training.errors import RecordsMissingError
from coverslip_training.records import BODY, Slice, bounds, from_example

LEAST_BODY = 100
"""Least number of body pixels in an image."""

MR_SHARE = 0.4
"""Share of MR among the images, if the slices are both of MR and of other modalities."""


def sampling_weights(
    sources: Sequence[SourceSlice], patients: Sequence[str]
) -> NDArray[np.float64]:
    """Probability of each slice.

    A patient counts as the square root of the number of its slices; MR gets `MR_SHARE`.
    """
    _, index, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / np.sqrt(counts[index])
    is_mr = np.array([source.modality == "MR" for source in sources])
    if is_mr.any() and not is_mr.all():
        weights[is_mr] *= MR_SHARE / weights[is_mr].sum()
        weights[~is_mr] *= (1.0 - MR_SHARE) / weights[~is_mr].sum()
    return np.asarray(weights / weights.sum(), np.float64)


class NumberedImages:
    """Makes augmented images by number; the same seed and number always give the same image."""

    def __init__(self, sources: Sequence[SourceSlice], patients: Sequence[str], seed: int) -> None:
        self._sources = sources
        self._weights = sampling_weights(sources, patients)
        self._seed = seed

    def __call__(
        self, number: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Pixels int32 [h, w], label float32 [256, 256], box float32 [1, 4] (y1, x1, y2, x2)."""
        rng = np.random.default_rng([self._seed, int(number)])
        while True:
            pixels, label = augment(
                rng, self._sources[rng.choice(len(self._sources), p=self._weights)]
            )
            body = (label >= 0.5).astype(np.uint8)
            if body.sum() >= LEAST_BODY:
                break
        frame = np.zeros((SIDE, SIDE), np.float32)
        frame[: label.shape[0], : label.shape[1]] = label
        return pixels, frame, np.array([bounds(body)], np.float32)


def make_targets(
    config: maskrcnn.MaskRCNN,
    parser: maskrcnn.Parser,
    pixels: tf.Tensor,
    label: tf.Tensor,
    box: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, Any]]:
    """Make the network's input float32 [256, 256, 3] and the labels.

    They are those of Model Garden's `maskrcnn_input.Parser`, with one difference: ``gt_masks`` is
    the whole frame [1, 256, 256], not a crop (see `coverslip_training.tasks.MaskTargets`).
    """
    prepared = prepare(pixels[tf.newaxis])
    generator = anchor.build_anchor_generator(
        config.min_level,
        config.max_level,
        config.anchor.num_scales,
        config.anchor.aspect_ratios,
        config.anchor.anchor_size,
    )
    anchors = generator(image_size=(SIDE, SIDE))
    labeler = anchor.RpnAnchorLabeler(
        parser.rpn_match_threshold,
        parser.rpn_unmatched_threshold,
        parser.rpn_batch_size_per_im,
        parser.rpn_fg_fraction,
    )
    scores, boxes = labeler.label_anchors(anchors, box, tf.constant([[float(BODY)]]))
    info = tf.stack([prepared.shape, prepared.shape, tf.ones([2]), tf.zeros([2])])
    labels = {
        "anchor_boxes": anchors,
        "image_info": info,
        "rpn_score_targets": scores,
        "rpn_box_targets": boxes,
        "gt_boxes": box,
        "gt_classes": tf.constant([BODY], tf.int32),
        "gt_outer_boxes": box_ops.compute_outer_boxes(box, info[1], config.outer_boxes_scale),
        "gt_masks": label[tf.newaxis],
    }
    return prepared.image[0], labels


def image_numbers(
    first_step: int, batch: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """Make the endless series of image numbers, int64 [], of one of a strategy's input pipelines.

    Step k of n replicas uses the b n images from k b n on, b for each replica, on any machine. So
    one machine and several see the same images, and an interrupted run resumes with the images it
    would have seen.

    Parameters
    ----------
    first_step : int
    batch : int
        Images for each replica and step (b).
    context : tf.distribute.InputContext
    """
    of_all = batch * context.num_replicas_in_sync
    of_pipeline = of_all // context.num_input_pipelines
    start = context.input_pipeline_id * of_pipeline
    return tf.data.Dataset.counter(first_step * of_pipeline).map(
        lambda k: k // of_pipeline * of_all + start + k % of_pipeline
    )


def make_dataset(
    images: NumberedImages,
    config: maskrcnn.MaskRCNN,
    parser: maskrcnn.Parser,
    numbers: tf.data.Dataset,
    batch: int,
) -> tf.data.Dataset:
    """Make batches of the images with these numbers (int64 [])."""

    def draw(number: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
        pixels, label, box = tf.numpy_function(images, [number], (tf.int32, tf.float32, tf.float32))
        pixels.set_shape([None, None])
        return make_targets(
            config,
            parser,
            pixels,
            tf.ensure_shape(label, [SIDE, SIDE]),
            tf.ensure_shape(box, [1, 4]),
        )

    return (
        numbers.map(draw, num_parallel_calls=2, deterministic=True)
        .batch(batch, drop_remainder=True)
        .prefetch(4)
    )


def find_files(pattern: str) -> list[str]:
    """List the files that match a pattern, sorted.

    Raises
    ------
    RecordsMissingError
        No file matches.
    """
    files = sorted(tf.io.gfile.glob(pattern))
    if not files:
        raise RecordsMissingError(
            f"no records match {pattern}; make them with coverslip train data"
        )
    return files


def read_files(pattern: str) -> list[Slice]:
    """Read all slices of the records that match a pattern; raises RecordsMissingError if none."""
    return [
        from_example(raw)
        for raw in tf.data.TFRecordDataset(find_files(pattern)).as_numpy_iterator()
    ]
