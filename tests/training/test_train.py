"""Training: reproducible start, resuming after a kill, two workers, and the paper's two phases."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

tf = pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")

from official.core import config_definitions, task_factory  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from coverslip.cli import main  # noqa: E402
from coverslip_graph.network import Network  # noqa: E402
from coverslip_training.errors import CheckpointError, DivergedError  # noqa: E402
from coverslip_training.experiment import load_experiment  # noqa: E402
from coverslip_training.records import Slice, read_slices, to_example  # noqa: E402
from coverslip_training.train import Run, averaged, check_finite, fit, last_step, make_strategy  # noqa: E402
from tests.training.slices import make_slice  # noqa: E402

SHORT = [
    "task.train_data.global_batch_size=2",
    "trainer.checkpoint_interval=2",
    "trainer.optimizer_config.learning_rate.cosine.decay_steps=9",
]

EAGER = ["trainer.train_tf_function=false", "trainer.train_tf_while_loop=false"]
"""Steps that are not compiled: slower, but a few of them are done sooner."""

SPARE = [
    "task.model.input_size=[128,128,3]",
    "task.model.mask_sampler.num_sampled_masks=4",
    "task.model.roi_sampler.num_sampled_rois=16",
]
"""Overrides of values that are not in Table 1, to save most of the time."""


def write_records(folder: Path, split: str, items: list[Slice]) -> None:
    with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001.tfrecord")) as writer:
        for item in items:
            writer.write(to_example(item).SerializeToString())


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        write_records(
            tmp_path,
            split,
            [make_slice(f"{k}.dcm", f"P{k}", "MR" if k % 2 else "CT", seed=k) for k in range(4)],
        )
    return tmp_path


def configured(
    records: Path, changes: list[str], name: str = "console"
) -> config_definitions.ExperimentConfig:
    config = load_experiment(name, changes)
    config.task.train_data.input_path = str(records / "train-*.tfrecord")
    config.task.validation_data.input_path = str(records / "val-*.tfrecord")
    return config


def losses(output: str, step: int) -> list[float]:
    """The loss and its parts in the line of a step."""
    line = next(line for line in output.splitlines() if line.startswith(f"step {step}/"))
    return [
        float(number) for number in re.findall(r"(?:total|class|box|mask|decay) (-?[\d.]+)", line)
    ]


def test_a_loss_out_of_bounds_stops_the_training() -> None:
    check_finite({"total": 3.0}, 1, 1e6)
    for value in (float("nan"), float("inf"), 2e6):
        with pytest.raises(DivergedError, match="at step 7"):
            check_finite({"total": value}, 7, 1e6)


def test_missing_records_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "fit", "--records", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert "no records match" in capsys.readouterr().err


@pytest.mark.slow
def test_training_resumes_after_a_kill(
    records: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def save_and_die(run: Run) -> None:
        save(run)
        raise KeyboardInterrupt

    save, out = Run.save, tmp_path / "run"
    config = configured(records, [*SHORT, "trainer.train_steps=3"])
    uncompiled = configured(records, [*SHORT, *EAGER, "trainer.train_steps=3"])
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            fit(uncompiled, out)
    killed = capsys.readouterr().out
    assert last_step(out / "checkpoints") == 2
    with make_strategy(config.runtime).scope():
        run = Run(config, out)
        assert run.step == 2 and int(run.optimizer.iterations) == 2
        raw = run.model.variables[0].numpy()
        with averaged(run.optimizer):
            mean = run.model.variables[0].numpy()
        released = np.load(out / "weights.npz")["0000"]
        assert np.array_equal(mean.astype(np.float16), released) and not np.array_equal(
            raw.astype(np.float16), released
        )
    fit(config, out)
    output = capsys.readouterr().out
    assert "step 3/3" in output and "step 2/3" not in output and "min left" in output
    assert Network.load(out / "weights.npz").segment(
        tf.zeros([1, 64, 64], tf.int32)
    ).mask.shape == (1, 64, 64)

    board = EventAccumulator(str(out / "board")).Reload()
    assert {
        "loss/total",
        "loss/mask",
        "learning_rate",
        "steps_per_second",
        "masks",
        "masks/iou",
    } <= set(board.Tags()["tensors"])
    assert [event.step for event in board.Tensors("masks/iou")] == [3]
    assert [event.step for event in board.Tensors("masks")] == [3] and len(
        board.Tensors("masks")[0].tensor_proto.string_val
    ) == 2 + 4
    assert [event.step for event in board.Tensors("loss/total")] == [2, 3]

    (records / "val-00000-of-00001.tfrecord").unlink()
    fit(configured(records, [*SHORT, *EAGER, "trainer.train_steps=2"]), tmp_path / "again")
    again = losses(capsys.readouterr().out, 2)
    assert np.allclose(losses(killed, 2), again, rtol=1e-3, atol=2e-4) and again[0] > 0


@pytest.mark.slow
def test_two_workers_share_one_training(records: Path, tmp_path: Path) -> None:
    """Two processes on this machine, as on two machines: the same loss in both, one checkpoint."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    hosts = [f"127.0.0.1:{entry.getsockname()[1]}" for entry in sockets]
    for entry in sockets:
        entry.close()
    changes = [
        *SHORT,
        *EAGER,
        "trainer.train_steps=2",
        "runtime.distribution_strategy=multi_worker_mirrored",
    ]
    script = (
        "import sys, coverslip_training.board as board; from coverslip.cli import main; from "
        "rich.console import Console;"
        "board.Console = lambda quiet, **rest: Console(**rest); sys.exit(main(sys.argv[1:]))"
    )
    words = [
        "train",
        "fit",
        "--records",
        str(records),
        "--out",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    words += [word for change in changes for word in ("--override", change)]
    workers = []
    for index in range(2):
        role = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(role), "COLUMNS": "300"}
        command = [sys.executable, "-c", script, *words]
        pipe = subprocess.PIPE
        workers.append(
            subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
    try:
        outputs = [worker.communicate(timeout=400) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    first, second = (losses(output, 2) for output, _ in outputs)
    assert first == second and first[0] > 0
    assert last_step(tmp_path / "run" / "checkpoints") == 2
    assert [
        event.step
        for event in EventAccumulator(str(tmp_path / "run" / "board")).Reload().Tensors("masks")
    ] == [2]
    Network.load(tmp_path / "run" / "weights.npz")


def calibrated_backbone(config: config_definitions.ExperimentConfig, folder: Path) -> str:
    """Write a checkpoint of an untrained backbone; a pass over noise sets batch normalisation."""
    task = task_factory.get_task(config.task.replace(init_checkpoint=""))
    model = task.build_model()
    model.backbone.trainable = True
    for layer in model.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization) or "batch_norm" in layer.name:
            layer.trainable, layer.momentum = True, 0.0
    images = tf.random.stateless_normal([2, *config.task.model.input_size], [1, 2])
    model.decoder(model.backbone(images, training=True), training=True)
    return str(tf.train.Checkpoint(**model.checkpoint_items).write(str(folder / "coco")))


def backbone_of(checkpoint: str) -> dict[str, NDArray[np.float32]]:
    """The backbone's kernels in a checkpoint."""
    reader = tf.train.load_checkpoint(checkpoint)
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("backbone/")]
    return {
        name: reader.get_tensor(name)
        for name in names
        if name.endswith("/kernel/.ATTRIBUTES/VARIABLE_VALUE")
    }


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Path:
    slices = read_slices(shared_data, "train")
    write_records(tmp_path, "train", [next(slices) for _ in range(4)])
    return tmp_path


def assert_adds_up(line: list[float]) -> None:
    """Eq. 1 with the proposals' two parts and the decay: no weights, nothing left out."""
    total, *parts = line
    assert (
        len(parts) == 6
        and all(part > 0 for part in parts)
        and abs(total - sum(parts)) < 1e-3 * total + 1e-3
    )


@pytest.mark.slow
def test_the_papers_network_takes_a_step(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ResNet-101 and all of Table 1 on small real slices, without a checkpoint, nothing frozen."""
    changes = ["task.heads_steps=0", "trainer.train_steps=1", "task.train_batch_norm=true"]
    fit(configured(real, [*EAGER, *SPARE, *changes], "paper_resnet101"), tmp_path / "run")
    assert_adds_up(losses(capsys.readouterr().out, 1))


@pytest.mark.slow
def test_the_heads_come_first_and_then_everything(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The paper's two phases, a step of each, from a checkpoint as of COCO; ResNet-18 for speed."""
    changes = [
        "task.model.backbone.resnet.model_id=18",
        "task.heads_steps=1",
        "trainer.train_steps=2",
        "trainer.checkpoint_interval=1",
    ]
    config = configured(real, [*EAGER, *SPARE, *changes], "paper_resnet101")
    start = config.task.init_checkpoint = calibrated_backbone(config, tmp_path)
    fit(config, tmp_path / "run")
    output = capsys.readouterr().out
    for step in (1, 2):
        assert_adds_up(losses(output, step))
    given, heads, everything = (
        backbone_of(path)
        for path in (start, *(str(tmp_path / f"run/checkpoints/ckpt-{k}") for k in (1, 2)))
    )
    assert len(given) > 15
    assert all(np.array_equal(given[name], heads[name]) for name in given)
    assert not any(np.array_equal(heads[name], everything[name]) for name in given)


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    config = load_experiment(
        "paper_resnet101",
        ["task.model.backbone.resnet.model_id=18", "task.model.input_size=[64,64,3]"],
    )
    path = tf.train.Checkpoint(backbone=tf.train.Checkpoint(kernel=tf.Variable([1.0]))).write(
        str(tmp_path / "other")
    )
    task = task_factory.get_task(config.task.replace(init_checkpoint=str(path)))
    with pytest.raises(CheckpointError, match="does not hold backbone, decoder, rpn_head"):
        task.initialize(task.build_model())
