"""Registers the experiments with Model Garden, and reads their configurations.

An experiment, ``console`` or ``paper_resnet101``, is registered as ``coverslip_<name>``; its values
are in ``configs/<name>.yaml``. Files and single values can override them; later ones win.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import tensorflow as tf
from official.core import config_definitions, exp_factory
from official.modeling import hyperparams
from official.vision.configs import maskrcnn
from yaml import YAMLError

from coverslip_graph.network import model_config
from coverslip_training.errors import ExperimentError

CONFIGS = Path(__file__).with_name("configs")
EXPERIMENTS = ("console", "paper_resnet101")
DEFAULT = "console"


@dataclasses.dataclass
class BodyTaskConfig(maskrcnn.MaskRCNNTask):
    """Configuration of Model Garden's task, with the options that both experiments add.

    Attributes
    ----------
    heads_steps : int
        Number of first steps that train everything but the backbone: pyramid, region proposals and
        the three branches.
    train_batch_norm : bool
        If False, batch normalisation keeps its statistics, scale and offset.
    """

    heads_steps: int = 0
    train_batch_norm: bool = True


@dataclasses.dataclass
class ConsoleTaskConfig(BodyTaskConfig):
    """Configuration of the released network's task."""


@dataclasses.dataclass
class PaperTaskConfig(BodyTaskConfig):
    """Configuration of the paper's task."""


def config_file(name: str) -> Path:
    """Path of an experiment's YAML file."""
    return CONFIGS / f"{name}.yaml"


def sections(config: hyperparams.Config) -> set[str]:
    """Dotted keys of all nested configurations."""
    nested = {
        key: value for key, value in vars(config).items() if isinstance(value, hyperparams.Config)
    }
    return set(nested) | {
        f"{key}.{inner}" for key, value in nested.items() for inner in sections(value)
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
        The file does not exist or is not YAML, or a key is not in the configuration.
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
    """Configure the released network: `model_config` and ``configs/console.yaml``."""
    config = config_definitions.ExperimentConfig(task=ConsoleTaskConfig(model=model_config()))
    override(config, str(config_file("console")))
    return config


@exp_factory.register_config_factory("coverslip_paper_resnet101")
def paper_resnet101() -> config_definitions.ExperimentConfig:
    """Configure Table 1 of Saidi et al. 2024: ``configs/paper_resnet101.yaml``."""
    config = config_definitions.ExperimentConfig(task=PaperTaskConfig())
    override(config, str(config_file("paper_resnet101")))
    return config


def load_experiment(
    name: str = DEFAULT, changes: Sequence[str] = ()
) -> config_definitions.ExperimentConfig:
    """Load the configuration of an experiment.

    Parameters
    ----------
    name : str
        One of `EXPERIMENTS`.
    changes : sequence of str
        See `override`; a later one wins.

    Raises
    ------
    ExperimentError
        The experiment does not exist, or a change does not fit it.
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
    """Load the configuration of the released network's task."""
    return cast(ConsoleTaskConfig, load_experiment().task)
