"""Fixtures for every folder of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import ROOT

SHARED = ROOT / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real slices beside the project; tests that need them are skipped where they are not."""
    if not SHARED.is_dir():
        pytest.skip("the real slices (../shared/data) are not here")
    return SHARED.resolve()
