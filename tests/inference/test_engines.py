"""The recipes of docs/scale.md for engines that bring their own parallelism, run by them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segcli
from tests.fakes import FakeLoaded

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = ("astronaut.jpg", "chelsea.png")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is made at once, for what stays in this process."""
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *_: FakeLoaded())


@pytest.fixture
def expected() -> dict[str, list[Any]]:
    """What the predictor itself answers, by the picture's width."""
    found = segcli.Predictor("everyday", "panoptic", threads=1)({"image": [str(DOCS / name) for name in PICTURES]})
    assert found["error"] == [None, None]
    return dict(zip(found["width"], found["segments"], strict=True))


@pytest.mark.usefixtures("quick")
def test_datasets_map(expected: dict[str, list[Any]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    column = [str(DOCS / name) for name in PICTURES]
    dataset = datasets.Dataset.from_dict({"image": column, "key": [1, 2]}).cast_column("image", datasets.Image())
    predictor = segcli.Predictor("everyday", "panoptic", threads=1)
    found = dataset.map(predictor, batched=True, batch_size=8, remove_columns=["image"])
    assert found["key"][:] == [1, 2]
    assert {row["width"]: row["segments"] for row in found} == expected
    found.to_parquet(str(tmp_path / "found.parquet"))


@pytest.mark.slow
def test_datasets_map_in_processes(expected: dict[str, list[Any]]) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"image": [str(DOCS / name) for name in PICTURES]})
    dataset = dataset.cast_column("image", datasets.Image())
    predictor = segcli.Predictor("everyday", "panoptic", threads=1)
    found = dataset.map(predictor, batched=True, batch_size=8, remove_columns=["image"], num_proc=2)
    assert {row["width"]: row["segments"] for row in found} == expected


@pytest.mark.slow
def test_ray_data(expected: dict[str, list[Any]], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in PICTURES:
        shutil.copy(DOCS / name, photos)
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": str(DOCS.parent)}})
    try:
        found = ray.data.read_images(str(photos)).map_batches(
            segcli.Predictor,
            fn_constructor_args=("everyday", "panoptic"),
            fn_constructor_kwargs={"threads": 1},
            batch_size=8,
            concurrency=1,
        )
        found.write_parquet(str(tmp_path / "results"))
    finally:
        ray.shutdown()
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(tmp_path / "results").to_pylist()
    assert {row["width"]: _plain(row["segments"]) for row in rows} == expected


def _plain(value: Any) -> Any:
    """Arrow's values as JSON has them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.usefixtures("quick")
def test_spark_batches(expected: dict[str, list[Any]]) -> None:
    """What Spark's predict_batch_udf hands over, without Spark: an object array of bytes, in batches."""
    predictor = segcli.Predictor("everyday", "panoptic", threads=1)

    def call(images: np.ndarray) -> list[str]:
        return [json.dumps(rows) for rows in predictor({"image": images})["segments"]]

    column = np.array([(DOCS / name).read_bytes() for name in PICTURES], dtype=object)
    widths = [Image.open(DOCS / name).width for name in PICTURES]
    assert dict(zip(widths, map(json.loads, call(column)), strict=True)) == expected
