"""Training steps, the same start for the same seed, and going on after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("official.vision")

from coverslip.graph.network import Network  # noqa: E402
from coverslip.training.experiment import TrainConfig, WarmCosine  # noqa: E402
from coverslip.training.records import to_example  # noqa: E402
from coverslip.training.train import Trainer, train  # noqa: E402

from tests.training.slices import make_slice  # noqa: E402

CONFIG = TrainConfig(steps=3, batch=2, every=2, warmup=1)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    with tf.io.TFRecordWriter(str(tmp_path / "train-00000-of-00001.tfrecord")) as writer:
        for k in range(4):
            item = make_slice(f"{k}.dcm", f"P{k}", "MR" if k % 2 else "CT", seed=k)
            writer.write(to_example(item).SerializeToString())
    return tmp_path


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    rate = WarmCosine(0.1, 10, 100)
    assert np.allclose([rate(0), rate(9), rate(10), rate(55), rate(100)], [0.01, 0.1, 0.1, 0.05, 0.0], atol=1e-6)


@pytest.mark.slow
def test_training_goes_on_after_a_kill(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def save_and_die(trainer: Trainer) -> None:
        save(trainer)
        raise KeyboardInterrupt

    save = Trainer.save
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train(records, tmp_path / "run", CONFIG)
    killed = Trainer(CONFIG, tmp_path / "run")
    assert int(killed.step) == 2 and int(killed.optimizer.iterations) == 2
    weights = train(records, tmp_path / "run", CONFIG)
    assert "step 3/3" in capsys.readouterr().out
    assert Network.load(weights).segment(tf.zeros([1, 64, 64], tf.int32)).mask.shape == (1, 64, 64)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_first_losses(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = TrainConfig(steps=1, batch=2, warmup=1)
    lines = []
    for run in ("first", "second"):
        train(records, tmp_path / run, config)
        lines.append(capsys.readouterr().out.split("total")[1].split())
    first, second = ([float(word) for word in line if word[0].isdigit()] for line in lines)
    assert np.allclose(first, second, atol=2e-3) and all(value > 0 for value in first)
