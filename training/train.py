"""Train the released network: ``python -m coverslip.training.train --data DIR --out DIR --steps N``.

It goes on from the last checkpoint in the output folder, and a finished run writes ``weights.npz`` (the running average) there, as
does every checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
import tf_keras
from coverslip.graph.network import write_weights
from coverslip.training.augment import make_source
from coverslip.training.experiment import BodyTask, TrainConfig, make_optimizer, task_config
from coverslip.training.inputs import Pictures, make_dataset
from coverslip.training.records import make_records, read_records

PARTS = ("total_loss", "rpn_score_loss", "rpn_box_loss", "frcnn_cls_loss", "frcnn_box_loss", "mask_loss")


class Trainer:
    """Model, optimiser and running average, with checkpoints."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        tf_keras.utils.set_random_seed(config.seed)
        self.config = config
        self.out = out
        self.task = BodyTask(task_config())
        self.model = self.task.build_model()
        self.optimizer = make_optimizer(config)
        self.optimizer.build(self.model.trainable_variables)
        self.average = [tf.Variable(v, trainable=False) for v in self.model.variables]
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.means = [tf_keras.metrics.Mean(name) for name in PARTS]
        checkpoint = tf.train.Checkpoint(
            variables=list(self.model.variables),
            optimizer=self.optimizer,
            average=self.average,
            step=self.step,
        )
        self.manager = tf.train.CheckpointManager(checkpoint, str(out / "checkpoints"), max_to_keep=2)
        if self.manager.latest_checkpoint:
            checkpoint.restore(self.manager.latest_checkpoint).assert_existing_objects_matched()

    @tf.function
    def train_step(self, images: tf.Tensor, labels: Mapping[str, tf.Tensor]) -> None:
        """One step of Model Garden's task, then of the running average."""
        self.task.train_step((images, labels), self.model, self.optimizer, self.means)
        self.step.assign_add(1)
        count = tf.cast(self.step, tf.float32)
        keep = tf.minimum(self.config.average, (1.0 + count) / (10.0 + count))
        for mean, variable in zip(self.average, self.model.variables, strict=True):
            mean.assign_add((1.0 - keep) * (variable - mean))

    def save(self) -> None:
        """Write a checkpoint and the averaged weights."""
        self.manager.save(checkpoint_number=int(self.step))
        write_weights(self.out / "weights.npz", [variable.numpy() for variable in self.average])

    def losses(self) -> dict[str, float]:
        """Mean of each loss since the last call."""
        values = {metric.name: float(metric.result()) for metric in self.means}
        for metric in self.means:
            metric.reset_state()
        return values


def report(step: int, config: TrainConfig, seconds: float, losses: Mapping[str, float]) -> None:
    """One line of progress with the time left."""
    left = seconds * (config.steps - step) / 60
    parts = "  ".join(f"{name.removesuffix('_loss')} {value:.4f}" for name, value in losses.items())
    print(f"step {step}/{config.steps}  {seconds:.2f} s/step  {left:.0f} min left  {parts}", flush=True)


def train(records: Path, out: Path, config: TrainConfig) -> Path:
    """Train on the ``train`` records, from the last checkpoint in ``out`` if there is one.

    Returns
    -------
    Path
        The averaged weights, which `Network.load` reads.

    Raises
    ------
    FileNotFoundError
        There are no records.
    ValueError
        A loss is no longer finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    items = read_records(records, "train")
    pictures = Pictures([make_source(item) for item in items], [item.patient for item in items], config.seed)
    trainer = Trainer(config, out)
    task = trainer.task.task_config
    first = int(trainer.step)
    began, begun_at = time.monotonic(), first
    numbers = range(first * config.batch, config.steps * config.batch)
    for images, labels in make_dataset(pictures, task.model, task.train_data.parser, numbers, config.batch):
        trainer.train_step(images, labels)
        step = int(trainer.step)
        if step % 20 == 0 or step == config.steps:
            losses = trainer.losses()
            report(step, config, (time.monotonic() - began) / (step - begun_at), losses)
            began, begun_at = time.monotonic(), step
            if not all(abs(value) < 1e6 for value in losses.values()):
                raise ValueError(f"the loss is no longer finite at step {step}; lower the learning rate")
        if step % config.every == 0 or step == config.steps:
            trainer.save()
    return out / "weights.npz"


def main() -> None:
    """Entry of ``python -m coverslip.training.train``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with slices.csv, slices/ and labels/")
    parser.add_argument("--out", type=Path, required=True, help="folder for records, checkpoints and weights")
    for field in dataclasses.fields(TrainConfig):
        kind = float if isinstance(field.default, float) else int
        parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    arguments = vars(parser.parse_args())
    data, out = arguments.pop("data"), arguments.pop("out")
    config = TrainConfig(**arguments)
    tf.config.threading.set_intra_op_parallelism_threads(config.threads)
    tf.config.threading.set_inter_op_parallelism_threads(config.threads)
    if not list((out / "records").glob("train-*.tfrecord")):
        print(make_records(data, out / "records"))
    print(train(out / "records", out, config))


if __name__ == "__main__":
    main()
