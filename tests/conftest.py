"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine must not fail a property: no time limit per example.
settings.register_profile("segcli", deadline=None)
settings.load_profile("segcli")

# Read when torch is first imported. Threads sleep while they wait, as in segcli/__main__.py; and the workers of
# pytest-xdist, which share the cores, have one thread each.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real data and a real checkpoint kept beside the repository; tests that need them skip without."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED
