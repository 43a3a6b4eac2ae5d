"""Pictures of 16 bits are scaled in one way by training, its model, prediction and evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import segcli
from segcli.cli import app
from segcli.codecs.image import read_image
from segcli.data.detect import detect
from segcli.errors import SegcliWarning
from segcli.evaluation.dataset import for_model, open_tasks
from segcli.inference import pipeline
from segcli.weights.checkpoint import load_model
from tests.training.shapes import write_shapes
from tests.training.small_runs import open_tiny


def test_the_levels_of_all_pictures_are_the_model_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thermal picture uses a few hundred of 65,536 values, some darker, some lighter ones; together 600."""
    data = write_shapes(tmp_path / "data", images=4, side=64)
    for number, file in enumerate(sorted((data / "images").iterdir())):
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
        Image.fromarray(51_000 + 100 * number + grey).save(file)
    said: list[str] = []
    run = open_tiny(data, tmp_path / "run", {"schedule": {"steps": 1}, "validate": {"every": 1}}, say=said.append)
    assert any("51" in line and "is black" in line for line in said)
    list(run.train())

    loaded = load_model(str(tmp_path / "run" / "best"), device="cpu")
    assert loaded.spec.levels is not None
    low, high = loaded.spec.levels
    assert 51_000 <= low < 51_100
    assert 51_300 < high < 51_600
    file = data / "images" / "003.png"
    stored = np.asarray(Image.open(file)).astype(float)
    expected = ((stored - low) * 255 / (high - low) + 0.5).clip(0, 255).astype(np.uint8)
    assert expected.mean() > read_image(data / "images" / "000.png", levels=loaded.spec.levels).mean() + 40

    seen: list[np.ndarray] = []

    def watched(*args: object, **options: object) -> np.ndarray:
        seen.append(read_image(*args, **options))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(pipeline, "read_image", watched)
    arguments = ["predict", file, "-m", tmp_path / "run" / "best", "--device", "cpu", "--save", "none"]
    assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
    info = for_model(detect(data, training=False), loaded.spec, None)
    evaluated = next(
        sample for sample in open_tasks(info, "val", ["panoptic"])["panoptic"] if "003" in str(sample.file)
    )
    trained = run.material.train[3].image
    for image in (seen[0], evaluated.image, trained):
        assert (image == expected[..., None]).all()
    by_pillow = segcli.predict(loaded, Image.open(file), "panoptic")
    assert (by_pillow.id_map() == segcli.predict(loaded, file, "panoptic").id_map()).all()

    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "other.png")
    with pytest.warns(SegcliWarning, match="lie outside of those that the model was trained on"):
        assert np.ptp(read_image(tmp_path / "other.png", levels=loaded.spec.levels)) == 255
