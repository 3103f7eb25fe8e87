"""Replacements for three Model Garden layers that TFLite converts badly or runs slowly.

They use built-in operations only and give the same results at inference for one class: `Proposals`
replaces ``MultilevelROIGenerator``, `Detections` replaces ``DetectionGenerator``, `HatAligner`
replaces ``MultilevelROIAligner`` on a single pyramid level. None has weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from official.vision.ops import box_ops


def overlap(box: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Intersection over union of one box [B, 1, 4] with each of boxes [B, N, 4]; float32 [B, N]."""
    low = tf.maximum(box[..., :2], boxes[..., :2])
    high = tf.minimum(box[..., 2:], boxes[..., 2:])
    common = tf.reduce_prod(tf.nn.relu(high - low), axis=-1)
    area = tf.reduce_prod(tf.nn.relu(boxes[..., 2:] - boxes[..., :2]), axis=-1)
    own = tf.reduce_prod(tf.nn.relu(box[..., 2:] - box[..., :2]), axis=-1)
    return common / tf.maximum(area + own - common, 1e-6)


def greedy(
    boxes: tf.Tensor, scores: tf.Tensor, count: int, threshold: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Exact greedy non-maximum suppression, unrolled because few boxes are needed.

    Parameters
    ----------
    boxes : float32 [B, N, 4]
    scores : float32 [B, N]
        At least 0.
    count : int
        Number of boxes to choose.
    threshold : float
        IoU with a chosen box above which a box is dropped.

    Returns
    -------
    boxes : float32 [B, count, 4]
    scores : float32 [B, count]
        0, beside a box already chosen or dropped, where none was left.
    """
    total = boxes.shape[1]
    chosen_boxes, chosen_scores = [], []
    for _ in range(count):
        best = tf.one_hot(tf.argmax(scores, axis=1, output_type=tf.int32), total)
        box = tf.matmul(best[:, tf.newaxis], boxes)
        chosen_boxes.append(box)
        chosen_scores.append(tf.nn.relu(tf.reduce_max(scores, axis=1, keepdims=True)))
        dropped = tf.maximum(best, tf.cast(overlap(box, boxes) > threshold, tf.float32))
        scores = scores * (1.0 - dropped) - dropped
    return tf.concat(chosen_boxes, axis=1), tf.concat(chosen_scores, axis=1)


class Proposals(tf_keras.layers.Layer):
    """Best regions of the proposal network over all levels; uses the original layer in training."""

    def __init__(
        self, original: tf_keras.layers.Layer, candidates: int, count: int, threshold: float
    ) -> None:
        super().__init__(name="proposals")
        self._original = original
        self._candidates = candidates
        self._count = count
        self._threshold = threshold

    def call(
        self,
        raw_boxes: Mapping[str, tf.Tensor],
        raw_scores: Mapping[str, tf.Tensor],
        anchor_boxes: Mapping[str, tf.Tensor],
        image_shape: tf.Tensor,
        training: bool | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Choose regions float32 [B, count, 4] in frame pixels, with scores float32 [B, count]."""
        if training:
            rois: tuple[tf.Tensor, tf.Tensor] = self._original(
                raw_boxes, raw_scores, anchor_boxes, image_shape, training
            )
            return rois
        levels = sorted(raw_scores)
        scores = tf.concat([flatten(raw_scores[level], 1)[..., 0] for level in levels], axis=1)
        deltas = tf.concat([flatten(raw_boxes[level], 4) for level in levels], axis=1)
        anchors = tf.concat([flatten(anchor_boxes[level], 4) for level in levels], axis=1)
        top = tf.math.top_k(scores, k=self._candidates)
        boxes = box_ops.decode_boxes(
            tf.gather(deltas, top.indices, batch_dims=1),
            tf.gather(anchors, top.indices, batch_dims=1),
        )
        boxes = box_ops.clip_boxes(boxes, image_shape[:, tf.newaxis])
        return greedy(boxes, tf.sigmoid(top.values), self._count, self._threshold)


def flatten(maps: tf.Tensor, depth: int) -> tf.Tensor:
    """Reshape [B, h, w, anchors * depth] to [B, h * w * anchors, depth]."""
    _, height, width, channels = maps.shape
    return tf.reshape(maps, [-1, height * width * channels // depth, depth])


class Detections(tf_keras.layers.Layer):
    """Best boxes of the single foreground class."""

    def __init__(self, count: int, threshold: float) -> None:
        super().__init__(name="detections")
        self._count = count
        self._threshold = threshold

    def call(
        self,
        raw_boxes: tf.Tensor,
        raw_scores: tf.Tensor,
        anchor_boxes: tf.Tensor,
        image_shape: tf.Tensor,
        regression_weights: Sequence[float] | None = None,
        bbox_per_class: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Choose boxes float32 [B, count, 4]; inputs and outputs are ``DetectionGenerator``'s."""
        if bbox_per_class:
            raise ValueError(
                "the detection head must share its boxes between classes (class_agnostic_bbox_pred)"
            )
        boxes = box_ops.decode_boxes(
            raw_boxes, anchor_boxes, weights=list(regression_weights or [1.0] * 4)
        )
        boxes = box_ops.clip_boxes(boxes, image_shape[:, tf.newaxis])
        best_boxes, best_scores = greedy(
            boxes, tf.nn.softmax(raw_scores)[..., 1], self._count, self._threshold
        )
        return {
            "detection_boxes": best_boxes,
            "detection_scores": best_scores,
            "detection_classes": tf.ones_like(best_scores, dtype=tf.int32),
            "num_detections": tf.reduce_sum(tf.cast(best_scores > 0.0, tf.int32), axis=1),
        }

    def get_config(self) -> dict[str, Any]:
        """Options that Model Garden's model reads from its generator."""
        return {"apply_nms": True}


class HatAligner(tf_keras.layers.Layer):
    """Bilinear crops of one pyramid level as two matrix products: no gathering, fast gradients."""

    def __init__(self, crop: int, level: int) -> None:
        super().__init__(name="hat_aligner")
        self._crop = crop
        self._level = level

    def call(self, features: Mapping[str, tf.Tensor], boxes: tf.Tensor) -> tf.Tensor:
        """Crop boxes float32 [B, K, 4], frame pixels, to float32 [B, K, crop, crop, C]."""
        level = features[str(self._level)]
        _, height, width, depth = level.shape
        count = boxes.shape[1]
        cells = boxes / 2.0**self._level
        rows = self._weights(cells[..., 0], cells[..., 2], height)
        columns = self._weights(cells[..., 1], cells[..., 3], width)
        tall = tf.matmul(
            tf.reshape(rows, [-1, count * self._crop, height]),
            tf.reshape(level, [-1, height, width * depth]),
        )
        tall = tf.reshape(tall, [-1, self._crop, width, depth])
        tall = tf.reshape(tf.transpose(tall, [0, 2, 1, 3]), [-1, width, self._crop * depth])
        crops = tf.matmul(tf.reshape(columns, [-1, self._crop, width]), tall)
        crops = tf.transpose(tf.reshape(crops, [-1, self._crop, self._crop, depth]), [0, 2, 1, 3])
        return tf.reshape(crops, [-1, count, self._crop, self._crop, depth])

    def _weights(self, low: tf.Tensor, high: tf.Tensor, size: int) -> tf.Tensor:
        """Hat weights float32 [B, K, crop, size] of even samples from low to high [B, K], cells."""
        steps = (tf.range(self._crop, dtype=tf.float32) + 0.5) / self._crop
        samples = low[..., tf.newaxis] + (high - low)[..., tf.newaxis] * steps - 0.5
        samples = tf.clip_by_value(samples, 0.0, size - 1.0)[..., tf.newaxis]
        return tf.nn.relu(1.0 - tf.abs(samples - tf.range(size, dtype=tf.float32)))
