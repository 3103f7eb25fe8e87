"""``coverslip train fit``: train an experiment's network, from the last checkpoint in the output
folder if there is one.

Model Garden's trainer takes the steps, under the distribution strategy that the configuration
names. Every checkpoint of the released network's experiment comes with ``weights.npz``, the running
average of the weights.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras
from official.common import distribute_utils
from official.core import base_trainer, config_definitions, task_factory
from official.modeling import optimization, performance

from coverslip.errors import CheckpointError, DivergedError, ExperimentError, RecordsMissingError
from coverslip_training.board import Board, Progression, choose
from coverslip_training.experiment import (
    DEFAULT,
    EXPERIMENTS,
    find_checkpoint,
    load_experiment,
    losses_by_part,
)
from coverslip_training.inputs import find_files, read_files
from coverslip_training.records import make_records

STEP = "global_step/.ATTRIBUTES/VARIABLE_VALUE"


class Phase(NamedTuple):
    """A stretch of the training.

    Attributes
    ----------
    heads_only : bool
        The backbone stays as it is.
    until : int
        Step that it ends after.
    """

    heads_only: bool
    until: int


def phases(config: config_definitions.ExperimentConfig) -> list[Phase]:
    """The heads first, where the configuration says so, then everything."""
    steps, heads = config.trainer.train_steps, config.task.heads_steps
    found = [Phase(True, min(heads, steps)), Phase(config.task.freeze_backbone, steps)]
    return [
        phase
        for phase, before in zip(found, (0, found[0].until), strict=True)
        if phase.until > before
    ]


def make_strategy(runtime: config_definitions.RuntimeConfig) -> tf.distribute.Strategy:
    """Model Garden's distribution strategy.

    Raises
    ------
    ExperimentError
        There is none of that name, or it cannot be had here.
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
            "one_device, mirrored, "
            "multi_worker_mirrored or tpu was expected"
        ) from None


def last_step(checkpoints: Path) -> int:
    """Steps that the last checkpoint in a folder was taken after; 0 where there is none.

    Raises
    ------
    CheckpointError
        It is another program's.
    """
    latest = tf.train.latest_checkpoint(str(checkpoints))
    if latest is None:
        return 0
    try:
        return int(tf.train.load_variable(latest, STEP))
    except (tf.errors.OpError, ValueError):
        raise CheckpointError(
            f"{latest} is no checkpoint of this version's training: choose another folder for --out"
        ) from None


@contextlib.contextmanager
def averaged(optimizer: tf_keras.optimizers.Optimizer) -> Iterator[None]:
    """The model with its running average, where there is one, in place of its weights."""
    swap = (
        optimizer.swap_weights
        if isinstance(optimizer, optimization.ExponentialMovingAverage)
        else None
    )
    if swap:
        swap()
    try:
        yield
    finally:
        if swap:
            swap()


class Run:
    """One phase of a training: Model Garden's trainer, with checkpoints.

    Parameters
    ----------
    config : ExperimentConfig
    out : Path
        Folder for checkpoints, event files and weights; one that all workers share.
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
        # Reading a variable can need all workers, so all of them save; but one alone where it
        # counts.
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
                f"{latest} holds another experiment's network: choose another folder for --out"
            ) from None

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.trainer.global_step.numpy())

    def save(self) -> None:
        """Write a checkpoint, and what is released."""
        self.manager.save(checkpoint_number=self.step)
        with averaged(self.optimizer):
            arrays = [variable.numpy() for variable in self.model.variables]
        if self.chief:
            self.task.release(arrays, self.out)

    def show(self, board: Board) -> None:
        """Draw masks as the released network would find them now."""
        with averaged(self.optimizer):
            board.pictures(self.step, self._outline)

    def take(self, count: int) -> dict[str, float]:
        """Take some steps; the means of what Model Garden's trainer logs."""
        logs = self.trainer.train(tf.constant(count))
        return {name: float(value) for name, value in logs.items()}


def check_finite(losses: dict[str, float], step: int, bound: float) -> None:
    """Raise DivergedError for a loss that is not finite, or above the bound."""
    for name, value in losses.items():
        if not math.isfinite(value) or value > bound:
            raise DivergedError(
                f"the loss ({name}) is {value} at step {step}; lower the learning rate and start "
                "again from a checkpoint"
            )


def go_on(
    run: Run,
    until: int,
    config: config_definitions.ExperimentConfig,
    board: Board,
    progress: Progression,
) -> None:
    """Train to a step, with a checkpoint at its end."""
    loop, every = config.trainer.steps_per_loop, config.trainer.checkpoint_interval
    while (step := run.step) < until:
        logs = run.take(min(until - step, loop - step % loop, every - step % every))
        step, losses = run.step, losses_by_part(logs)
        speed = progress.advance(step, losses)
        check_finite(losses, step, config.trainer.loss_upper_bound)
        board.scalars(step, losses, logs["learning_rate"], speed)
        if step % every == 0 or step == until:
            run.save()
            run.show(board)


def fit(config: config_definitions.ExperimentConfig, out: Path) -> None:
    """Train, from the last checkpoint in ``out`` if there is one.

    Raises
    ------
    ExperimentError, CheckpointError, RecordsMissingError
        Something that the configuration names is not there, or not what was expected.
    DivergedError
        A loss is no longer finite.
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
    progress = Progression(config.trainer.train_steps, first, quiet=not chief)
    with strategy.scope(), progress.bar:
        board = Board(out / "board" if chief else None, shown(config))
        for phase in phases(config):
            if phase.until > last_step(out / "checkpoints"):
                go_on(Run(config, out, phase.heads_only), phase.until, config, board, progress)


def shown(config: config_definitions.ExperimentConfig) -> list[Any]:
    """Slices of the validation split to draw masks on; none where there are no records of it."""
    try:
        return choose(read_files(config.task.validation_data.input_path))
    except RecordsMissingError:
        return []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
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
        help="folder with slices.csv, slices/ and labels/; records go to OUT/records",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for checkpoints, event files and weights",
    )
    parser.add_argument(
        "--experiment",
        default=DEFAULT,
        choices=EXPERIMENTS,
        help="what to train (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="YAML with values of your own; may be repeated",
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value, as in trainer.train_steps=100; may be repeated",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of TensorFlow (default: as many as there are cores)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Train; exit code 0 when the last step was taken."""
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
        raise RecordsMissingError("nothing to train on: name a folder with --records or --data")
    fit(config, arguments.out)
    return 0
