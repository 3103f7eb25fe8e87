"""``coverslip train fit``: train an experiment's network, resuming from the last checkpoint.

Model Garden's trainer takes the steps, under the distribution strategy that the configuration
names. With each checkpoint of the released network's experiment, ``weights.npz`` is written: the
running average of the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.common import distribute_utils
from official.core import base_trainer, config_definitions, task_factory
from official.modeling import optimization, performance

from coverslip_training.board import Board, ProgressLog, choose
from coverslip_training.errors import (
    CheckpointError,
    DivergedError,
    ExperimentError,
    RecordsMissingError,
)
from coverslip_training.experiment import DEFAULT, EXPERIMENTS, load_experiment
from coverslip_training.inputs import find_files, read_files
from coverslip_training.records import Slice, make_records
from coverslip_training.tasks import find_checkpoint

STEP = "global_step/.ATTRIBUTES/VARIABLE_VALUE"
"""Name of the step in a checkpoint."""


class Phase(NamedTuple):
    """A phase of the training.

    Attributes
    ----------
    heads_only : bool
        The backbone is not trained.
    until : int
        Last step.
    """

    heads_only: bool
    until: int


def phases(config: config_definitions.ExperimentConfig) -> list[Phase]:
    """List the phases: first the heads, if so configured, then everything."""
    steps, heads = config.trainer.train_steps, config.task.heads_steps
    first = Phase(True, min(heads, steps))
    second = Phase(config.task.freeze_backbone, steps)
    return [
        *([first] if first.until > 0 else []),
        *([second] if second.until > first.until else []),
    ]


def make_strategy(runtime: config_definitions.RuntimeConfig) -> tf.distribute.Strategy:
    """Make the distribution strategy that the configuration names.

    Raises
    ------
    ExperimentError
        The name is unknown, or the strategy is not available on this machine.
    """
    distribute_utils.configure_cluster(runtime.worker_hosts, runtime.task_index)
    try:
        return distribute_utils.get_distribution_strategy(
            distribution_strategy=runtime.distribution_strategy,
            all_reduce_alg=runtime.all_reduce_alg,
            num_gpus=runtime.num_gpus,
            num_packs=runtime.num_packs,
            tpu_address=runtime.tpu,
        )
    except ValueError as error:
        raise ExperimentError(
            f"runtime.distribution_strategy {runtime.distribution_strategy!r}: {error}; "
            "one_device, mirrored, multi_worker_mirrored or tpu was expected"
        ) from None


def last_step(checkpoints: Path) -> int:
    """Step of the last checkpoint in a folder; 0 if there is none.

    Raises
    ------
    CheckpointError
        The checkpoint was written by another program.
    """
    latest = tf.train.latest_checkpoint(str(checkpoints))
    if latest is None:
        return 0
    try:
        return int(tf.train.load_variable(latest, STEP))
    except (tf.errors.OpError, ValueError):
        raise CheckpointError(
            f"{latest} is not a checkpoint of this training: choose another folder for --out"
        ) from None


@contextlib.contextmanager
def averaged(optimizer: tf_keras.optimizers.Optimizer) -> Iterator[None]:
    """Replace the model's weights by their running average, if the optimizer keeps one."""
    if not isinstance(optimizer, optimization.ExponentialMovingAverage):
        yield
        return
    optimizer.swap_weights()
    try:
        yield
    finally:
        optimizer.swap_weights()


class Run:
    """One phase of a training: Model Garden's trainer, with checkpoints.

    Parameters
    ----------
    config : ExperimentConfig
    out : Path
        Folder for checkpoints, event files and weights, shared by all workers.
    heads_only : bool
    """

    def __init__(
        self, config: config_definitions.ExperimentConfig, out: Path, heads_only: bool = False
    ) -> None:
        checkpoints = out / "checkpoints"
        self.out = out
        self.strategy = tf.distribute.get_strategy()
        self.chief = self.strategy.extended.should_checkpoint
        self.task = task_factory.get_task(
            config.task.replace(freeze_backbone=heads_only), logging_dir=str(out)
        )
        self.task.first_step = last_step(checkpoints)
        self.model = self.task.build_model()
        self.optimizer = self.task.create_optimizer(config.trainer.optimizer_config, config.runtime)
        self.trainer = base_trainer.Trainer(
            config, self.task, self.model, self.optimizer, train=True, evaluate=False
        )
        self._outline = self.task.outline(self.model)
        self._restore(checkpoints)
        # Reading a variable may need all workers, so all of them save, but only the first one to
        # the output folder.
        folder = str(checkpoints) if self.chief else tempfile.mkdtemp()
        self.manager = tf.train.CheckpointManager(
            self.trainer.checkpoint, folder, config.trainer.max_to_keep if self.chief else 1
        )

    def _restore(self, checkpoints: Path) -> None:
        latest = tf.train.latest_checkpoint(str(checkpoints))
        if latest is None:
            self.trainer.initialize()
            return
        try:
            self.trainer.checkpoint.restore(latest).expect_partial()
        except ValueError:
            raise CheckpointError(
                f"{latest} holds the network of another experiment: choose another folder for --out"
            ) from None

    @property
    def step(self) -> int:
        """Number of steps taken."""
        return int(self.trainer.global_step.numpy())

    def save(self) -> None:
        """Write a checkpoint and the file to release."""
        self.manager.save(checkpoint_number=self.step)
        with averaged(self.optimizer):
            arrays = [variable.numpy() for variable in self.model.variables]
        if self.chief:
            self.task.release(arrays, self.out)

    def draw(self, board: Board) -> None:
        """Draw masks with the weights that would be released now."""
        with averaged(self.optimizer):
            board.images(self.step, self._outline)

    def take(self, count: int) -> dict[str, float]:
        """Take some steps; return the means of the trainer's logs."""
        logs = self.trainer.train(tf.constant(count))
        return {name: float(value) for name, value in logs.items()}


def losses_by_part(logs: Mapping[str, float]) -> dict[str, float]:
    """Split the loss of Eq. 1 into its parts, each without its weight.

    Class, box and mask, then the two of the region proposals, and the weight decay.

    Parameters
    ----------
    logs : mapping
        Logs of Model Garden's task.
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


def check_finite(losses: dict[str, float], step: int, bound: float) -> None:
    """Raise DivergedError if a loss is not finite or above the bound."""
    for name, value in losses.items():
        if not math.isfinite(value) or value > bound:
            raise DivergedError(
                f"the loss ({name}) is {value} at step {step}; lower the learning rate and start "
                "again from a checkpoint"
            )


def train_until(
    run: Run,
    until: int,
    config: config_definitions.ExperimentConfig,
    board: Board,
    progress: ProgressLog,
) -> None:
    """Train up to a step, and write a checkpoint at regular intervals and at the end."""
    loop, every = config.trainer.steps_per_loop, config.trainer.checkpoint_interval
    while (step := run.step) < until:
        logs = run.take(min(until - step, loop - step % loop, every - step % every))
        step, losses = run.step, losses_by_part(logs)
        speed = progress.advance(step, losses)
        check_finite(losses, step, config.trainer.loss_upper_bound)
        board.scalars(step, losses, logs["learning_rate"], speed)
        if step % every == 0 or step == until:
            run.save()
            run.draw(board)


def fit(config: config_definitions.ExperimentConfig, out: Path) -> None:
    """Train, resuming from the last checkpoint in ``out``.

    Raises
    ------
    ExperimentError, CheckpointError, RecordsMissingError
        A value, checkpoint or file of the configuration is missing or does not fit.
    DivergedError
        A loss is not finite.
    """
    if config.task.init_checkpoint:
        find_checkpoint(config.task.init_checkpoint)
    find_files(config.task.train_data.input_path)
    strategy = make_strategy(config.runtime)
    tf_keras.utils.set_random_seed(config.task.train_data.seed or 0)
    if config.runtime.mixed_precision_dtype:
        performance.set_mixed_precision_policy(config.runtime.mixed_precision_dtype)
    out.mkdir(parents=True, exist_ok=True)
    chief = strategy.extended.should_save_summary
    first = last_step(out / "checkpoints")
    progress = ProgressLog(config.trainer.train_steps, first, quiet=not chief)
    with strategy.scope(), progress.bar:
        board = Board(out / "board" if chief else None, slices_to_show(config))
        for phase in phases(config):
            if phase.until > last_step(out / "checkpoints"):
                train_until(
                    Run(config, out, phase.heads_only), phase.until, config, board, progress
                )


def slices_to_show(config: config_definitions.ExperimentConfig) -> list[Slice]:
    """Choose slices of the validation split to draw masks on; none if it has no records."""
    try:
        return choose(read_files(config.task.validation_data.input_path))
    except RecordsMissingError:
        return []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``coverslip train fit``."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="folder with train-*.tfrecord and val-*.tfrecord",
    )
    source.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with slices.csv, slices/ and labels/; records are written to OUT/records",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder for checkpoints, event files and weights",
    )
    parser.add_argument(
        "--experiment",
        default=DEFAULT,
        choices=EXPERIMENTS,
        help="experiment to train (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="YAML file with values to override; may be repeated",
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value to override, as in trainer.train_steps=100; may be repeated",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of threads of TensorFlow (default: the number of cores)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train to the last step; exit code 0."""
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    config = load_experiment(arguments.experiment, [*arguments.config, *arguments.override])
    records = arguments.records
    if arguments.data:
        records = arguments.out / "records"
        if not list(records.glob("train-*.tfrecord")):
            make_records(arguments.data, records)
    if records:
        config.task.train_data.input_path = str(records / "train-*.tfrecord")
        config.task.validation_data.input_path = str(records / "val-*.tfrecord")
    elif not config.task.train_data.input_path:
        raise RecordsMissingError("nothing to train on: give a folder with --records or --data")
    fit(config, arguments.out)
    return 0
