"""Augmented pictures and their targets as Model Garden's Mask R-CNN task wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from official.vision.configs import maskrcnn
from official.vision.ops import anchor, box_ops

from coverslip.errors import RecordsMissingError
from coverslip_graph.preprocess import SIDE, prepare
from coverslip_training.augment import Source, augment
from coverslip_training.records import BODY, Slice, bounds, from_example

SMALLEST = 100
"""Body pixels that a picture must show."""


def sampling_weights(sources: Sequence[Source], patients: Sequence[str]) -> NDArray[np.float64]:
    """Probability of each slice: each patient counts as the square root of its slices; MR is 40 %
    of all.
    """
    _, index, counts = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / np.sqrt(counts[index])
    resonance = np.array([source.modality == "MR" for source in sources])
    shares = (
        {True: 0.4, False: 0.6} if 0 < resonance.sum() < resonance.size else {True: 1.0, False: 1.0}
    )
    for kind, share in shares.items():
        if (resonance == kind).any():
            weights[resonance == kind] *= share / weights[resonance == kind].sum()
    return np.asarray(weights / weights.sum(), np.float64)


class Pictures:
    """An endless, numbered series of augmented pictures: number k is the same in every run with the
    same seed.
    """

    def __init__(self, sources: Sequence[Source], patients: Sequence[str], seed: int) -> None:
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
            if body.sum() >= SMALLEST:
                break
        frame = np.zeros((SIDE, SIDE), np.float32)
        frame[: label.shape[0], : label.shape[1]] = label
        return pixels, frame, np.array([bounds(body)], np.float32)


def targets(
    config: maskrcnn.MaskRCNN,
    parser: maskrcnn.Parser,
    pixels: tf.Tensor,
    label: tf.Tensor,
    box: tf.Tensor,
) -> tuple[tf.Tensor, dict[str, Any]]:
    """Network input float32 [256, 256, 3] and the labels of Model Garden's `maskrcnn_input.Parser`.

    They differ from the parser's in one thing: ``gt_masks`` is the whole frame [1, 256, 256], not a
    crop (see `MaskTargets`).
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


def numbers(first_step: int, batch: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """The endless series of the pictures, int64 [], that one of a strategy's input pipelines makes.

    Step k of n replicas takes the pictures from k n b on, b for each replica, whatever machine a
    replica is on: one machine and several see the same pictures, and a run that was interrupted
    goes on with those it would have seen.

    Parameters
    ----------
    first_step : int
    batch : int
        Pictures for each replica and step (b).
    context : tf.distribute.InputContext
    """
    everyone = batch * context.num_replicas_in_sync
    here = everyone // context.num_input_pipelines
    start = context.input_pipeline_id * here
    return tf.data.Dataset.counter(first_step * here).map(
        lambda k: k // here * everyone + start + k % here
    )


def make_dataset(
    pictures: Pictures,
    config: maskrcnn.MaskRCNN,
    parser: maskrcnn.Parser,
    series: tf.data.Dataset,
    batch: int,
) -> tf.data.Dataset:
    """Batches of the pictures with these numbers (int64 [])."""

    def draw(number: tf.Tensor) -> tuple[tf.Tensor, dict[str, Any]]:
        pixels, label, box = tf.numpy_function(
            pictures, [number], (tf.int32, tf.float32, tf.float32)
        )
        pixels.set_shape([None, None])
        return targets(
            config,
            parser,
            pixels,
            tf.ensure_shape(label, [SIDE, SIDE]),
            tf.ensure_shape(box, [1, 4]),
        )

    return (
        series.map(draw, num_parallel_calls=2, deterministic=True)
        .batch(batch, drop_remainder=True)
        .prefetch(4)
    )


def find_files(pattern: str) -> list[str]:
    """Files that a pattern matches, sorted.

    Raises
    ------
    RecordsMissingError
        There are none.
    """
    found = sorted(tf.io.gfile.glob(pattern))
    if not found:
        raise RecordsMissingError(
            f"no records match {pattern}; make them with coverslip train data"
        )
    return found


def read_files(pattern: str) -> list[Slice]:
    """All slices in the records that a pattern matches; raises RecordsMissingError as `find_files`
    does.
    """
    return [
        from_example(raw)
        for raw in tf.data.TFRecordDataset(find_files(pattern)).as_numpy_iterator()
    ]
