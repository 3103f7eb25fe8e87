"""The experiments as registered with Model Garden, Table 1, and what is refused before training."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.paths import ROOT

tf = pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")

from official.core import config_definitions, exp_factory, task_factory  # noqa: E402
from official.modeling import optimization  # noqa: E402

from coverslip_training.errors import (  # noqa: E402
    CheckpointError,
    ExperimentError,
    RecordsMissingError,
)
from coverslip_training.experiment import (  # noqa: E402
    EXPERIMENTS,
    load_experiment,
    task_config,
)
from coverslip_training.inputs import find_files, image_numbers  # noqa: E402
from coverslip_training.tasks import ConsoleTask, PaperTask, find_checkpoint  # noqa: E402
from coverslip_training.train import Phase, add_arguments, make_strategy, phases, run  # noqa: E402

TABLE_1 = {
    "task.model.backbone.resnet.model_id": 101,
    "task.model.decoder.type": "fpn",
    "task.train_data.global_batch_size": 4,
    "task.model.detection_head.fc_dims": 1024,
    "trainer.optimizer_config.optimizer.type": "sgd",
    "trainer.optimizer_config.optimizer.sgd.momentum": 0.9,
    "trainer.optimizer_config.learning_rate.constant.learning_rate": 0.001,
    "trainer.optimizer_config.warmup.type": None,
    "trainer.optimizer_config.ema": None,
    "task.train_data.parser.rpn_batch_size_per_im": 256,
    "trainer.steps_per_loop": 10,
    "trainer.validation_steps": 50,
    "task.losses.l2_weight_decay": 0.0001,
    "task.heads_steps": 8 * 10,
    "trainer.train_steps": 28 * 10,
}


def value_at(config: config_definitions.ExperimentConfig, key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def test_the_papers_experiment_is_table_1() -> None:
    config = load_experiment("paper_resnet101")
    assert {key: value_at(config, key) for key in TABLE_1} == TABLE_1
    assert phases(config) == [Phase(True, 80), Phase(False, 280)]
    weights = config.task.losses
    assert weights.frcnn_class_weight == weights.frcnn_box_weight == weights.mask_weight == 1


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_model_gardens(name: str) -> None:
    assert (files("coverslip_training") / "configs" / f"{name}.yaml").is_file()
    config = exp_factory.get_exp_config(f"coverslip_{name}")
    task = {"console": ConsoleTask, "paper_resnet101": PaperTask}[name]
    assert isinstance(task_factory.get_task(config.task), task)


def test_the_released_networks_rate_warms_up_and_ends_at_zero() -> None:
    config = load_experiment(changes=["trainer.train_steps=1000"]).trainer.optimizer_config
    rate = optimization.OptimizerFactory(config).build_learning_rate()
    assert np.allclose(
        [rate(step) for step in (0, 75, 150, 575, 1000)],
        [1e-5, 7.55e-4, 1.5e-3, 7.5e-4, 0],
        atol=1e-6,
    )


def test_later_values_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("trainer:\n  train_steps: 50\n  max_to_keep: 7\n")
    config = load_experiment(
        "console", [str(file), "trainer.train_steps=60", "task.train_data.global_batch_size=2"]
    )
    assert (
        config.trainer.train_steps,
        config.trainer.max_to_keep,
        config.task.train_data.global_batch_size,
    ) == (60, 7, 2)
    assert load_experiment().trainer.train_steps != 60 and task_config().losses.mask_weight == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer.steps=5", "steps"),
        ("no-such-file.yaml", "neither a YAML file"),
        ("trainer.train_steps=0", "1 or more"),
        ("trainer.train_steps=many", "1 or more"),
        ("trainer=fast", "does not fit"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(change: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        load_experiment("console", [change])


def test_a_wrong_name_strategy_or_path_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="one of console, paper_resnet101"):
        load_experiment("paper")
    with pytest.raises(ExperimentError, match="one_device, mirrored"):
        make_strategy(config_definitions.RuntimeConfig(distribution_strategy="all_of_them"))
    with pytest.raises(RecordsMissingError, match="coverslip train data"):
        find_files(str(tmp_path / "train-*.tfrecord"))
    for wrong in (tmp_path, tmp_path / "coco"):
        with pytest.raises(CheckpointError, match=r"without its \.index"):
            find_checkpoint(str(wrong))


def test_heads_come_first_and_end_where_the_training_does() -> None:
    assert phases(load_experiment()) == [Phase(False, 9500)]
    assert phases(load_experiment("paper_resnet101", ["trainer.train_steps=30"])) == [
        Phase(True, 30)
    ]


@pytest.mark.parametrize(("pipelines", "replicas"), [(1, 1), (1, 2), (2, 2), (2, 4)])
def test_machines_share_the_same_images(pipelines: int, replicas: int) -> None:
    batch, first = 8 // replicas, 3
    seen: list[int] = []
    for number in range(pipelines):
        context = tf.distribute.InputContext(pipelines, number, replicas)
        share = 8 // pipelines
        series = (
            image_numbers(first, batch, context).take(2 * share).batch(share).as_numpy_iterator()
        )
        assert [step.tolist() for step in series] == [
            [(first + k) * 8 + number * share + j for j in range(share)] for k in range(2)
        ]
        seen += range(number * share, (number + 1) * share)
    assert seen == list(range(8))


def fit_commands() -> list[list[str]]:
    page = (ROOT / "docs" / "training.md").read_text()
    commands = [
        line.split()[4:] for line in page.splitlines() if line.startswith("$ coverslip train fit ")
    ]
    assert commands, "the training page has no fit command"
    return commands


@pytest.mark.parametrize("words", fit_commands(), ids=lambda words: words[-1])
def test_the_commands_of_the_training_page_are_accepted(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the records, which do not exist."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("trainer: {max_to_keep: 3}\n")
    Path("coco").mkdir()
    Path("coco/ckpt-22500.index").touch()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(RecordsMissingError, match=r"records/train-\*\.tfrecord"):
        run(parser.parse_args(words))
