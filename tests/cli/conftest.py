"""The command in this process, on a network that sees colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.weights.hub import Default
from tests.fakes import FakeLoaded

Predict = Callable[..., Result]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLoaded:
    """What `--model` loads, whatever it says."""
    loaded = FakeLoaded()
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *args, **options: loaded)
    monkeypatch.setattr("segcli.weights.hub.locate_default", lambda *args: Default("fake"))
    return loaded


@pytest.fixture
def predict(fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Run `segcli predict` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **options: CliRunner().invoke(app, ["predict", *map(str, arguments)], **options)


def photo(path: Path | str, size: tuple[int, int] = (48, 64)) -> Path:
    """Red on the left, green on the right, dark at the foot."""
    height, width = size
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height * 2 // 3, : width // 2, 0] = 255
    pixels[: height * 2 // 3, width // 2 :, 1] = 255
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
