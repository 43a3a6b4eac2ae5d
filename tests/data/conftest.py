"""Every test has a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcli.data.cache import VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(VARIABLE, str(place))
    return place
