"""Importing the package costs next to nothing; the core and the console need no TensorFlow."""

from __future__ import annotations

import subprocess
import sys

MOST_SECONDS = 0.3
"""CPU time that importing the package may take."""

MEASURE = """
import sys, time
before, start = set(sys.modules), time.process_time()
import coverslip
seconds = time.process_time() - start
print(seconds, *{name.split(".")[0] for name in set(sys.modules) - before})
"""


def in_a_new_process(code: str) -> list[str]:
    """The words that Python prints when it runs some code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_coverslip_loads_nothing_but_the_standard_library() -> None:
    _, *loaded = in_a_new_process(MEASURE)
    assert set(loaded) - sys.stdlib_module_names == {"coverslip"}


def test_importing_coverslip_takes_under_0_3_s() -> None:
    # CPU time, which other processes do not add to; of five, since caches are cold at first.
    seconds = min(float(in_a_new_process(MEASURE)[0]) for _ in range(5))
    assert seconds < MOST_SECONDS


def test_the_core_and_the_console_need_no_tensorflow() -> None:
    code = (
        "import sys, coverslip.pipeline, coverslip.cli.embed, coverslip_edge.engine;"
        "print(*sys.modules)"
    )
    loaded = set(in_a_new_process(code))
    assert {"coverslip.pipeline", "coverslip_edge.engine"} <= loaded
    assert not {"tensorflow", "tf_keras", "grpc"} & loaded
