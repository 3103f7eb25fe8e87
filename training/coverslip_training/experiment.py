"""The experiments: Model Garden configurations with their tasks, and how a configuration is put
together.

A name, ``console`` or ``paper_resnet101``, stands for a configuration registered with Model Garden
as ``coverslip_<name>``; its numbers are in ``configs/<name>.yaml``. Files and single values given
later win.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray
from official.core import config_definitions, exp_factory, task_factory
from official.modeling import hyperparams
from official.vision.configs import maskrcnn
from official.vision.ops import mask_ops, preprocess_ops
from official.vision.tasks.maskrcnn import MaskRCNNTask
from yaml import YAMLError

from coverslip.errors import CheckpointError, ExperimentError
from coverslip.picture import grey
from coverslip_graph.network import Network, build_model, model_config, write_weights
from coverslip_graph.regions import HatAligner
from coverslip_training.augment import make_source
from coverslip_training.inputs import Pictures, find_files, make_dataset, numbers, read_files

CONFIGS = Path(__file__).with_name("configs")
EXPERIMENTS = ("console", "paper_resnet101")
DEFAULT = "console"

Outline = Callable[[NDArray[np.int32]], NDArray[np.uint8]]
"""Stored values [H, W] to a body mask [H, W], 1 = body."""


@dataclasses.dataclass
class BodyTaskConfig(maskrcnn.MaskRCNNTask):
    """Model Garden's task, and what both experiments have beside it.

    Attributes
    ----------
    heads_steps : int
        First steps that leave the backbone as it is and train everything else: pyramid, region
        proposals and the three branches.
    train_batch_norm : bool
        False: batch normalisation keeps its statistics, scale and offset.
    """

    heads_steps: int = 0
    train_batch_norm: bool = True


@dataclasses.dataclass
class ConsoleTaskConfig(BodyTaskConfig):
    """The released network's task."""


@dataclasses.dataclass
class PaperTaskConfig(BodyTaskConfig):
    """The paper's task."""


def packaged(name: str) -> Path:
    """The file that an experiment's numbers are in."""
    return CONFIGS / f"{name}.yaml"


def sections(config: hyperparams.Config) -> set[str]:
    """Keys, with dots, of all that a configuration holds which is a configuration itself."""
    nested = {
        key: value for key, value in vars(config).items() if isinstance(value, hyperparams.Config)
    }
    return set(nested) | {
        f"{key}.{below}" for key, value in nested.items() for below in sections(value)
    }


def override(config: config_definitions.ExperimentConfig, change: str) -> None:
    """Change a configuration in place.

    Parameters
    ----------
    config : ExperimentConfig
    change : str
        Path of a YAML file, or ``key.of.value=value``.

    Raises
    ------
    ExperimentError
        There is no such file, it is not YAML, or it names what the configuration does not have.
    """
    before = sections(config)
    try:
        hyperparams.override_params_dict(config, change, is_strict=True)
    except tf.errors.OpError:
        raise ExperimentError(
            f"{change} is neither a YAML file that can be read nor key=value"
        ) from None
    except KeyError as error:
        raise ExperimentError(f"{change}: {error.args[0]}") from None
    except (YAMLError, TypeError, ValueError, AttributeError) as error:
        raise ExperimentError(f"{change} does not fit the configuration: {error}") from None
    lost = sorted(before - sections(config))
    if lost:
        raise ExperimentError(
            f"{change} does not fit the configuration: {lost[0]} has values of its own, as in "
            f"{lost[0]}.key=value"
        )


@exp_factory.register_config_factory("coverslip_console")
def console() -> config_definitions.ExperimentConfig:
    """The released network: `model_config` and ``configs/console.yaml``."""
    config = config_definitions.ExperimentConfig(task=ConsoleTaskConfig(model=model_config()))
    override(config, str(packaged("console")))
    return config


@exp_factory.register_config_factory("coverslip_paper_resnet101")
def paper_resnet101() -> config_definitions.ExperimentConfig:
    """Saidi et al. 2024, Table 1: ``configs/paper_resnet101.yaml``."""
    config = config_definitions.ExperimentConfig(task=PaperTaskConfig())
    override(config, str(packaged("paper_resnet101")))
    return config


def load_experiment(
    name: str = DEFAULT, changes: Sequence[str] = ()
) -> config_definitions.ExperimentConfig:
    """An experiment's configuration.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    changes : sequence of str
        See `override`; a later one wins.

    Raises
    ------
    ExperimentError
        There is no such experiment, or a change does not fit it.
    """
    if name not in EXPERIMENTS:
        raise ExperimentError(
            f"there is no experiment {name!r}; one of {', '.join(EXPERIMENTS)} was expected"
        )
    config = exp_factory.get_exp_config(f"coverslip_{name}")
    for change in changes:
        override(config, change)
    trainer = config.trainer
    counts = {
        key: getattr(trainer, key)
        for key in ("train_steps", "steps_per_loop", "checkpoint_interval")
    }
    counts["global_batch_size"] = config.task.train_data.global_batch_size
    for key, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ExperimentError(f"{key} is {value}; a whole number of 1 or more was expected")
    cosine = trainer.optimizer_config.learning_rate.cosine
    if trainer.optimizer_config.learning_rate.type == "cosine" and not cosine.decay_steps:
        cosine.decay_steps = max(1, trainer.train_steps - cosine.offset)
    return config


def task_config() -> ConsoleTaskConfig:
    """The released network's task, as configured."""
    return cast(ConsoleTaskConfig, load_experiment().task)


class MaskTargets(tf_keras.layers.Layer):
    """Mask targets cut from the whole frame.

    Model Garden's `MaskSampler` cuts them from a crop of the ground truth, half a cell off and with
    a dark border: body that the frame cuts would not reach the frame's edge. This one takes the
    same regions and samples where the paste will put the cells.
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
        """Foreground regions [B, K, 4], their classes [B, K] and masks [B, K, cells, cells] (share
        of body, 0 to 1).

        ``gt_masks`` is float32 [B, 1, 256, 256]: the one instance of each picture.
        """
        foreground = tf.cast(candidate_gt_classes > 0, tf.int32)
        chosen = tf.math.top_k(foreground, k=self._count).indices
        rois = tf.ensure_shape(
            tf.gather(candidate_rois, chosen, batch_dims=1), [None, self._count, 4]
        )
        classes = tf.gather(candidate_gt_classes, chosen, batch_dims=1)
        return rois, classes, self._cut({"0": gt_masks[:, 0, :, :, tf.newaxis]}, rois)[..., 0]


def find_checkpoint(given: str) -> str:
    """The checkpoint that a path means: itself, or the last one in a folder.

    Raises
    ------
    CheckpointError
        There is none.
    """
    found = tf.train.latest_checkpoint(given) if tf.io.gfile.isdir(given) else given
    if not found or not tf.io.gfile.exists(f"{found}.index"):
        raise CheckpointError(
            f"there is no checkpoint {given}: the path of a TensorFlow checkpoint without its "
            ".index, or a folder with "
            "checkpoints, was expected in task.init_checkpoint"
        )
    return str(found)


class BodyTask(MaskRCNNTask):
    """What both experiments' tasks share; losses and training step are Model Garden's own."""

    first_step = 0
    """Step that the inputs begin with: a run that was interrupted goes on."""

    def freeze(self, model: tf_keras.Model) -> tf_keras.Model:
        """Leave out of the training what the configuration says."""
        if self.task_config.freeze_backbone:
            model.backbone.trainable = False
        if not self.task_config.train_batch_norm:
            for layer in model.submodules:
                if isinstance(layer, tf_keras.layers.BatchNormalization):
                    layer.trainable = False
        return model

    def initialize(self, model: tf_keras.Model) -> None:
        """Load the modules that the configuration names from its checkpoint, if it names one.

        Raises
        ------
        CheckpointError
            It is not there, or does not hold these modules in these shapes.
        """
        if not self.task_config.init_checkpoint:
            return
        path, names = (
            find_checkpoint(self.task_config.init_checkpoint),
            self.task_config.init_checkpoint_modules,
        )
        items = dict(model.checkpoint_items)
        wanted = (
            list(items) if names == "all" else [names] if isinstance(names, str) else list(names)
        )
        unknown = [name for name in wanted if name not in items]
        if unknown:
            raise ExperimentError(
                f"task.init_checkpoint_modules names {unknown[0]}; all, or some of "
                f"{', '.join(items)}, was expected"
            )
        try:
            status = tf.train.Checkpoint(**{name: items[name] for name in wanted}).read(path)
            status.expect_partial().assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError):
            raise CheckpointError(
                f"{path} does not hold {', '.join(wanted)} of this network: take a checkpoint of "
                "the same architecture, or "
                "name only what it holds in task.init_checkpoint_modules"
            ) from None

    @abc.abstractmethod
    def outline(self, model: tf_keras.Model) -> Outline:
        """What outlines the body with the model's variables as they are when it is called."""

    def release(self, arrays: Sequence[NDArray[np.float32]], out: Path) -> None:
        """Write what is released from a model's variables, in the model's order; nothing, unless a
        task has something.
        """


@task_factory.register_task_cls(ConsoleTaskConfig)
class ConsoleTask(BodyTask):
    """The product's model, trained on its own augmented pictures."""

    def build_model(self) -> tf_keras.Model:
        """The model of `coverslip_graph.network`, ready to train."""
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
        """Endless batches of augmented pictures, from `first_step` on; raises
        RecordsMissingError.
        """
        items = read_files(params.input_path)
        context = input_context or tf.distribute.InputContext()
        batch = context.get_per_replica_batch_size(params.global_batch_size)
        pictures = Pictures(
            [make_source(item) for item in items],
            [item.patient for item in items],
            params.seed or 0,
        )
        series = numbers(self.first_step, batch, context)
        return make_dataset(pictures, self.task_config.model, params.parser, series, batch)

    def outline(self, model: tf_keras.Model) -> Outline:
        """The graph's own way, from stored values to the mask."""
        segment = tf.function(
            Network(model).segment, input_signature=[tf.TensorSpec([1, None, None], tf.int32)]
        )
        return lambda pixels: (
            local(segment, tf.constant(pixels[np.newaxis], tf.int32)).mask[0].numpy()
        )

    def release(self, arrays: Sequence[NDArray[np.float32]], out: Path) -> None:
        """Write ``weights.npz``, which `Network.load` reads."""
        part = out / "weights.part.npz"
        write_weights(part, arrays)
        part.replace(out / "weights.npz")


@task_factory.register_task_cls(PaperTaskConfig)
class PaperTask(BodyTask):
    """Model Garden's model and input pipeline as they are."""

    def build_model(self) -> tf_keras.Model:
        """Model Garden's Mask R-CNN."""
        return self.freeze(super().build_model())

    def build_inputs(
        self,
        params: maskrcnn.DataConfig,
        input_context: tf.distribute.InputContext | None = None,
        **_: Any,
    ) -> tf.data.Dataset:
        """Model Garden's input pipeline on the records; raises RecordsMissingError."""
        find_files(params.input_path)
        return super().build_inputs(params, input_context)

    def outline(self, model: tf_keras.Model) -> Outline:
        """The best detection's mask, pasted by Model Garden."""
        side = self.task_config.model.input_size[:2]
        forward = tf.function(
            lambda images, shapes: model(images, image_shape=shapes, training=False)
        )

        def outline(pixels: NDArray[np.int32]) -> NDArray[np.uint8]:
            image = preprocess_ops.normalize_image(
                tf.repeat(grey(pixels)[..., np.newaxis], 3, axis=-1)
            )
            image, info = preprocess_ops.resize_and_crop_image(image, side, padded_size=side)
            found = local(forward, image[tf.newaxis], info[tf.newaxis, 1])
            if not int(found["num_detections"][0]):
                return np.zeros(pixels.shape, np.uint8)
            box = (found["detection_boxes"][0, :1] / tf.tile(info[2:3], [1, 2])).numpy()
            corner = np.concatenate(
                [box[:, 1::-1], box[:, 3:1:-1] - box[:, 1::-1]], axis=1
            )  # x, y, width, height
            masks = found["detection_masks"][0, :1].numpy()
            return np.asarray(
                mask_ops.paste_instance_masks(masks, corner, *pixels.shape)[0], np.uint8
            )

        return outline


def local(function: Callable[..., Any], *arguments: tf.Tensor) -> Any:
    """A function's result on this machine's first replica, under the strategy that holds the
    variables.
    """
    strategy = tf.distribute.get_strategy()
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0],
        strategy.run(function, args=arguments),
    )


def losses_by_part(logs: Mapping[str, float]) -> dict[str, float]:
    """The loss of Eq. 1 by its parts, each without its weight: class, box and mask, then the
    proposals' two, and what is decayed.

    Parameters
    ----------
    logs : mapping
        Of Model Garden's task.
    """
    return {
        "total": logs["total_loss"],
        "class": logs["frcnn_cls_loss"],
        "box": logs["frcnn_box_loss"],
        "mask": logs["mask_loss"],
        "rpn_class": logs["rpn_score_loss"],
        "rpn_box": logs["rpn_box_loss"],
        "decay": logs["total_loss"] - logs["model_loss"],
    }
