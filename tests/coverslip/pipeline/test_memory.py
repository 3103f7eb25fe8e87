"""Memory follows a window of frames, not the instance."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

MEASURE = ROOT / "benchmarks" / "memory.py"
SIDE = 512
FEW, MANY = 20, 120


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    words = [
        "--frames",
        str(FEW),
        str(MANY),
        "--side",
        str(SIDE),
        "--folder",
        str(tmp_path),
        "--json",
        "--outline",
    ]
    done = subprocess.run(
        [sys.executable, MEASURE, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    few, many = (json.loads(line) for line in done.stdout.splitlines())
    assert few["carrying"] == FEW and many["carrying"] == MANY
    # Held as values of four bytes, cover and stego would take four times what is added.
    added = (MANY - FEW) * SIDE * SIDE * 2
    assert many["embed"] - few["embed"] < added / 2
    assert many["restore"] - few["restore"] < added / 2
