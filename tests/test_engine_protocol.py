"""A type checker holds every engine against the protocol; what engines return: each one's tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow
"""These tests run mypy."""

ENGINES = """
from coverslip.engine import Engine
from coverslip.scheme.reference import ReferenceEngine
from coverslip_edge.engine import LiteRtEngine
from coverslip_graph.engine import TensorFlowEngine
from coverslip_serving.tf_serving import TfServingEngine
from coverslip_serving.watched_engine import WatchedEngine


def engines(
    reference: ReferenceEngine,
    litert: LiteRtEngine,
    tensorflow: TensorFlowEngine,
    tf_serving: TfServingEngine,
    watched: WatchedEngine,
) -> list[Engine]:
    return [reference, litert, tensorflow, tf_serving, watched]
"""

WORKERS = """
from coverslip_serving.process_workers import ProcessWorkers
from coverslip_serving.workers import ThreadWorkers, Workers


def workers(threads: ThreadWorkers, processes: ProcessWorkers) -> list[Workers]:
    return [threads, processes]
"""

BROKEN = """
from coverslip.engine import Embedded, EmbedRequest, Engine, Measured
from coverslip.scheme.reference import ReferenceEngine


class Broken(ReferenceEngine):
    segment: None = None  # type: ignore[assignment]


def engines(broken: Broken) -> list[Engine]:
    return [broken]
"""


def check_types(program, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(program)
    words = [sys.executable, "-m", "mypy", "--follow-imports=silent", str(path)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("program", [ENGINES, WORKERS], ids=["engines", "workers"])
def test_every_implementation_keeps_its_protocol(program, tmp_path):
    done = check_types(program, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_engine_that_breaks_the_protocol_is_noticed(tmp_path):
    done = check_types(BROKEN, tmp_path)
    assert done.returncode == 1 and '"Broken"' in done.stdout and "segment" in done.stdout
