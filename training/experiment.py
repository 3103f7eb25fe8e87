"""The released network's experiment: Model Garden's Mask R-CNN task, with our model and exact mask targets."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
import tf_keras
from coverslip.graph.network import build_model, model_config
from coverslip.graph.regions import HatAligner
from official.vision.configs import maskrcnn
from official.vision.tasks.maskrcnn import MaskRCNNTask


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes
    ----------
    steps, batch : int
    rate : float
        Peak learning rate of AdamW; linear warm-up, then a cosine down to 0.
    warmup : int
        Steps.
    decay : float
        Decoupled weight decay.
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the running average of the weights, which is what is released.
    every : int
        Steps between checkpoints.
    threads : int
    seed : int
    """

    steps: int = 3700
    batch: int = 8
    rate: float = 1.5e-3
    warmup: int = 150
    decay: float = 0.01
    clip: float = 10.0
    average: float = 0.996
    every: int = 200
    threads: int = 2
    seed: int = 1


def task_config() -> maskrcnn.MaskRCNNTask:
    """The task: the released model, mask loss weighted up because the rim is what counts."""
    return maskrcnn.MaskRCNNTask(
        model=model_config(),
        losses=maskrcnn.Losses(mask_weight=3.0),
        train_data=maskrcnn.DataConfig(is_training=True, parser=maskrcnn.Parser(rpn_batch_size_per_im=64)),
    )


class MaskTargets(tf_keras.layers.Layer):
    """Mask targets cut from the whole frame.

    Model Garden's `MaskSampler` cuts them from a crop of the ground truth, half a cell off and with a dark border: body that the frame
    cuts would not reach the frame's edge. This one takes the same regions and samples where the paste will put the cells.
    """

    def __init__(self, cells: int, count: int) -> None:
        super().__init__(name="mask_targets")
        self._count = count
        self._cut = HatAligner(cells, 0)

    def call(
        self,
        candidate_rois: tf.Tensor,
        candidate_gt_boxes: tf.Tensor,  # noqa: ARG002 - MaskSampler's signature
        candidate_gt_classes: tf.Tensor,
        candidate_gt_indices: tf.Tensor,  # noqa: ARG002 - MaskSampler's signature
        gt_masks: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Foreground regions [B, K, 4], their classes [B, K] and masks [B, K, cells, cells] (share of body, 0 to 1).

        ``gt_masks`` is float32 [B, 1, 256, 256]: the one instance of each picture.
        """
        foreground = tf.cast(candidate_gt_classes > 0, tf.int32)
        chosen = tf.math.top_k(foreground, k=self._count).indices
        rois = tf.ensure_shape(tf.gather(candidate_rois, chosen, batch_dims=1), [None, self._count, 4])
        classes = tf.gather(candidate_gt_classes, chosen, batch_dims=1)
        return rois, classes, self._cut({"0": gt_masks[:, 0, :, :, tf.newaxis]}, rois)[..., 0]


class BodyTask(MaskRCNNTask):
    """Model Garden's task with the product's model; losses and training step are Model Garden's own."""

    def build_model(self) -> tf_keras.Model:
        """The model of `coverslip.graph.network`, ready to train."""
        config = self.task_config.model
        model = build_model(config)
        cells = config.mask_roi_aligner.crop_size * config.mask_head.upsample_factor
        model.mask_sampler = MaskTargets(cells, config.mask_sampler.num_sampled_masks)
        return model


class WarmCosine(tf_keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak rate, then half a cosine to 0 at the last step."""

    def __init__(self, rate: float, warmup: int, steps: int) -> None:
        super().__init__()
        self._rate, self._warmup, self._steps = rate, warmup, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate at a step, float32 []."""
        step = tf.cast(step, tf.float32)
        part = tf.clip_by_value((step - self._warmup) / max(1, self._steps - self._warmup), 0.0, 1.0)
        cosine = 0.5 * (1.0 + tf.cos(3.14159265 * part))
        return self._rate * tf.minimum(1.0, (step + 1.0) / max(1, self._warmup)) * cosine

    def get_config(self) -> dict[str, float]:
        """The schedule's arguments."""
        return {"rate": self._rate, "warmup": self._warmup, "steps": self._steps}


def make_optimizer(config: TrainConfig) -> tf_keras.optimizers.Optimizer:
    """AdamW under `WarmCosine`."""
    schedule = WarmCosine(config.rate, config.warmup, config.steps)
    return tf_keras.optimizers.AdamW(schedule, weight_decay=config.decay, global_clipnorm=config.clip)
