"""What this process may use of the machine: its cores, as affinity and containers limit them."""

from __future__ import annotations

import os
from pathlib import Path

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Quota and period of a container's processor time, in microseconds (cgroup version 2)."""


def usable_cores(cpu_max: Path = _CPU_MAX) -> int:
    """Number of cores that this process may use, at least 1.

    Parameters
    ----------
    cpu_max : Path
        Where the container's limit stands, if there is one.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(min(cores, _quota(cpu_max, cores)), 1)


def _quota(cpu_max: Path, cores: int) -> int:
    """Whole cores that a container may use; ``cores`` without a limit."""
    try:
        quota, period = cpu_max.read_text().split()
        return cores if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return cores
