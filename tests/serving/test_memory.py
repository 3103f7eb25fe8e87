"""A gateway's memory follows a window of frames, not the instance."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

MEASURE = ROOT / "benchmarks" / "memory.py"
SIDE = 512
FEW, MANY = 16, 66


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="another process's peak is read from /proc"
)
def test_neither_side_holds_a_long_instance(tmp_path):
    words = [
        "--gateway",
        "--frames",
        str(FEW),
        str(MANY),
        "--side",
        str(SIDE),
        "--folder",
        str(tmp_path),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, MEASURE, *words], check=True, stdout=subprocess.PIPE, text=True
    )
    few, many = (json.loads(line) for line in done.stdout.splitlines())
    assert few["carrying"] == FEW and many["carrying"] == MANY
    # Held on the server, cover and stego would take eight times what is added, and the client would
    # hold both files.
    added = (MANY - FEW) * SIDE * SIDE * 2
    assert many["server"] - few["server"] < 2 * added
    assert many["client"] - few["client"] < added
