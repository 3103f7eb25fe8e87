"""The tasks of the experiments, registered with Model Garden: model, inputs and release."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from official.core import task_factory
from official.vision.configs import maskrcnn
from official.vision.ops import mask_ops, preprocess_ops
from official.vision.tasks.maskrcnn import MaskRCNNTask

from coverslip.picture import grey
from coverslip_graph.network import Network, build_model, write_weights
from coverslip_graph.regions import HatAligner
from coverslip_training.augment import make_source
from coverslip_training.errors import CheckpointError, ExperimentError
from coverslip_training.experiment import ConsoleTaskConfig, PaperTaskConfig
from coverslip_training.inputs import (
    NumberedImages,
    find_files,
    image_numbers,
    make_dataset,
    read_files,
)

Outline = Callable[[NDArray[np.int32]], NDArray[np.uint8]]
"""Outlines the body in stored values [H, W]; mask [H, W], 1 = body."""


class MaskTargets(tf_keras.layers.Layer):
    """Cuts mask targets from the whole frame.

    Model Garden's `MaskSampler` cuts them from a crop of the ground truth, half a cell off and with
    a dark border, so body that the frame cuts would not reach the frame's edge. This layer uses the
    same regions, but samples where the paste will put the cells.
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
        """Choose foreground regions and cut their masks.

        ``gt_masks`` is float32 [B, 1, 256, 256], the only instance of each image. The results are
        regions [B, K, 4], classes [B, K] and masks [B, K, cells, cells] (share of body, 0 to 1).
        """
        foreground = tf.cast(candidate_gt_classes > 0, tf.int32)
        chosen = tf.math.top_k(foreground, k=self._count).indices
        rois = tf.ensure_shape(
            tf.gather(candidate_rois, chosen, batch_dims=1), [None, self._count, 4]
        )
        classes = tf.gather(candidate_gt_classes, chosen, batch_dims=1)
        return rois, classes, self._cut({"0": gt_masks[:, 0, :, :, tf.newaxis]}, rois)[..., 0]


def find_checkpoint(given: str) -> str:
    """Find a checkpoint: the given one, or the last one in the given folder.

    Raises
    ------
    CheckpointError
        There is no checkpoint.
    """
    path = tf.train.latest_checkpoint(given) if tf.io.gfile.isdir(given) else given
    if not path or not tf.io.gfile.exists(f"{path}.index"):
        raise CheckpointError(
            f"there is no checkpoint {given}: the path of a TensorFlow checkpoint without its "
            ".index, or a folder with checkpoints, was expected in task.init_checkpoint"
        )
    return str(path)


class BodyTask(MaskRCNNTask):
    """Base of both experiments' tasks; losses and training step are Model Garden's own."""

    first_step = 0
    """Step at which the inputs start, so that an interrupted run resumes."""

    def freeze(self, model: tf_keras.Model) -> tf_keras.Model:
        """Freeze the layers that the configuration does not train."""
        if self.task_config.freeze_backbone:
            model.backbone.trainable = False
        if not self.task_config.train_batch_norm:
            for layer in model.submodules:
                if isinstance(layer, tf_keras.layers.BatchNormalization):
                    layer.trainable = False
        return model

    def initialize(self, model: tf_keras.Model) -> None:
        """Load modules from the checkpoint that the configuration names, if any.

        Raises
        ------
        CheckpointError
            The checkpoint does not exist, or does not hold these modules in these shapes.
        ExperimentError
            The configuration names a module that the network does not have.
        """
        if not self.task_config.init_checkpoint:
            return
        path = find_checkpoint(self.task_config.init_checkpoint)
        modules = dict(model.checkpoint_items)
        names = self.task_config.init_checkpoint_modules
        if names == "all":
            names = list(modules)
        elif isinstance(names, str):
            names = [names]
        unknown = [name for name in names if name not in modules]
        if unknown:
            raise ExperimentError(
                f"task.init_checkpoint_modules names {unknown[0]}; all, or some of "
                f"{', '.join(modules)}, was expected"
            )
        try:
            status = tf.train.Checkpoint(**{name: modules[name] for name in names}).read(path)
            status.expect_partial().assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError):
            raise CheckpointError(
                f"{path} does not hold {', '.join(names)} of this network: use a checkpoint of the "
                "same architecture, or name only what it holds in task.init_checkpoint_modules"
            ) from None

    @abc.abstractmethod
    def outline(self, model: tf_keras.Model) -> Outline:
        """Make a function that outlines the body with the model's current variables."""

    def release(self, arrays: Sequence[NDArray[np.float32]], out: Path) -> None:
        """Write the file to release from the model's variables, in its order; by default none."""


@task_factory.register_task_cls(ConsoleTaskConfig)
class ConsoleTask(BodyTask):
    """Trains the released network on the augmented images of this package."""

    def build_model(self) -> tf_keras.Model:
        """Build the model of `coverslip_graph.network`, ready to train."""
        config = self.task_config.model
        model = build_model(config)
        cells = config.mask_roi_aligner.crop_size * config.mask_head.upsample_factor
        model.mask_sampler = MaskTargets(cells, config.mask_sampler.num_sampled_masks)
        return self.freeze(model)

    def build_inputs(
        self,
        params: maskrcnn.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Make endless batches of augmented images from `first_step` on.

        Raises
        ------
        RecordsMissingError
            There are no records.
        """
        items = read_files(params.input_path)
        context = input_context or tf.distribute.InputContext()
        batch = context.get_per_replica_batch_size(params.global_batch_size)
        images = NumberedImages(
            [make_source(item) for item in items],
            [item.patient for item in items],
            params.seed or 0,
        )
        numbers = image_numbers(self.first_step, batch, context)
        return make_dataset(images, self.task_config.model, params.parser, numbers, batch)

    def outline(self, model: tf_keras.Model) -> Outline:
        """Outline as the graph does, from stored values."""
        segment = tf.function(
            Network(model).segment, input_signature=[tf.TensorSpec([1, None, None], tf.int32)]
        )
        return lambda pixels: (
            run_locally(segment, tf.constant(pixels[np.newaxis], tf.int32)).mask[0].numpy()
        )

    def release(self, arrays: Sequence[NDArray[np.float32]], out: Path) -> None:
        """Write ``weights.npz``, which `Network.load` reads."""
        part = out / "weights.part.npz"
        write_weights(part, arrays)
        part.replace(out / "weights.npz")


@task_factory.register_task_cls(PaperTaskConfig)
class PaperTask(BodyTask):
    """Trains Model Garden's model with Model Garden's input pipeline, both unchanged."""

    def build_model(self) -> tf_keras.Model:
        """Build Model Garden's Mask R-CNN."""
        return self.freeze(super().build_model())

    def build_inputs(
        self,
        params: maskrcnn.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Make Model Garden's input pipeline; raises RecordsMissingError without records."""
        find_files(params.input_path)
        return super().build_inputs(params, input_context)

    def outline(self, model: tf_keras.Model) -> Outline:
        """Outline with the best detection's mask, pasted by Model Garden."""
        side = self.task_config.model.input_size[:2]
        forward = tf.function(
            lambda images, shapes: model(images, image_shape=shapes, training=False)
        )

        def outline(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
            image = preprocess_ops.normalize_image(
                tf.repeat(grey(pixels)[..., np.newaxis], 3, axis=-1)
            )
            image, info = preprocess_ops.resize_and_crop_image(image, side, padded_size=side)
            detections = run_locally(forward, image[tf.newaxis], info[tf.newaxis, 1])
            if not int(detections["num_detections"][0]):
                return np.zeros(pixels.shape, np.uint8)
            box = (detections["detection_boxes"][0, :1] / tf.tile(info[2:3], [1, 2])).numpy()
            # x, y, width, height
            corner = np.concatenate([box[:, 1::-1], box[:, 3:1:-1] - box[:, 1::-1]], axis=1)
            masks = detections["detection_masks"][0, :1].numpy()
            return np.asarray(
                mask_ops.paste_instance_masks(masks, corner, *pixels.shape)[0], np.uint8
            )

        return outline


def run_locally(function: Callable[..., Any], *arguments: tf.Tensor) -> Any:
    """Run a function under the current strategy; return the result of the first local replica."""
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0],
        strategy.run(function, args=arguments),
    )
