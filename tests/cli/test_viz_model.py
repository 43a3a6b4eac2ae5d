"""The views of a model from the command line: what they write and print, and a line for everything that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.models.mask2former import build as build_mask2former
from tests.cli.conftest import photo
from tests.fakes import FakeLoaded
from tests.inspection.views.test_views import TINY

Viz = Callable[..., Result]


@pytest.fixture
def viz(fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Viz:
    """Run `segcli viz` in a folder with a photo and, of the same photo, a dataset in classes 3 (red) and 7 (green)."""
    monkeypatch.chdir(tmp_path)
    photo("photo.png")
    for split in ("train", "val"):
        photo(f"data/{split}/images/{split}.png")
        labels = np.full((48, 64), 255, dtype=np.uint8)
        labels[:32, :32], labels[:32, 32:] = 3, 7
        Path(f"data/{split}/labels").mkdir(parents=True)
        Image.fromarray(labels).save(f"data/{split}/labels/{split}.png")
    classes = "".join(f'[[classes]]\nid = {i}\nname = "{n}"\n' for i, n in ((3, "red"), (7, "green")))
    Path("data/dataset.toml").write_text('format = "semantic-png"\n' + classes)
    return lambda *arguments: CliRunner().invoke(app, ["viz", *map(str, arguments)])


def network(fake: FakeLoaded) -> None:
    """From now on the model is a small Mask2Former."""
    torch.manual_seed(0)
    fake.model = build_mask2former(TINY).eval()


def refused(result: Result, code: int, *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.startswith("segcli: error: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines
    assert not Path("segcli-viz").exists()


def test_attention(viz: Viz, fake: FakeLoaded) -> None:
    network(fake)
    result = viz("attention", "photo.png", "--query", 1, "--query", 4, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [strip["query"] for strip in record["queries"]] == [1, 4]
    assert [layer["stride"] for layer in record["queries"][0]["layers"]] == [32, 16, 8, 32]
    assert len(record["queries"][0]["predictions"]) == 5
    picture = Path(record["picture"])
    first = picture.read_bytes()
    assert Image.open(picture).format == "PNG"
    assert viz("attention", "photo.png", "--query", 1, "--query", 4).exit_code == 2  # it is there already
    again = viz("attention", "photo.png", "--query", 1, "--query", 4, "--overwrite")
    assert again.stdout == f"{picture}\n"
    assert picture.read_bytes() == first


def test_features(viz: Viz, fake: FakeLoaded) -> None:
    network(fake)
    assert viz("features", "photo.png", "--at", "10,20", "--out", "o").stdout == f"{Path('o/photo.features.png')}\n"
    refused(viz("features", "photo.png", "--at", "10"), 2, "--at 10", "320,200")
    refused(viz("features", "photo.png", "--at", "64,20"), 2, "--at 64,20", "64×48")


def test_queries_of_photos_and_of_data(viz: Viz) -> None:
    result = viz("queries", "photo.png", "photo.png", "data/val/images")
    assert result.exit_code == 0, result.output
    assert "never used in 2 images: 3" in result.stdout
    record = json.loads(viz("queries", "data", "--json").stdout)
    assert record["picture"] == str(Path("segcli-viz/data.queries.png"))
    assert record["images"] == 1
    assert record["queries"][0] == {"query": 0, "used": 1, "classes": {"red": 1}}
    assert record["dead"] == [3]


def test_matching(viz: Viz) -> None:
    result = viz("matching", "data/val/images/val.png", "--truth", "data", "--task", "semantic", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    pairs = {pair["category_name"]: pair for pair in record["pairs"]}
    assert {name: pair["query"] for name, pair in pairs.items()} == {"red": 0, "green": 1}
    assert pairs["red"]["iou"] > 0.9
    assert set(pairs["red"]["cost"]) == {"class", "mask", "dice"}


def test_what_cannot_be_drawn(viz: Viz, fake: FakeLoaded) -> None:
    Path("broken.png").write_bytes(b"\x89PNG\r\n")
    Path("nothing").mkdir()
    refused(viz("attention", "photo.png"), 2, "fake", "no masked attention")
    refused(viz("attention", "missing.png"), 2, "missing.png")
    refused(viz("attention", "data"), 2, "data: a folder")
    refused(viz("attention", "broken.png"), 1, "broken.png")
    refused(viz("queries", "nothing"), 2, "nothing")
    refused(viz("queries", "broken.png"), 1, "broken.png")
    refused(viz("queries", "data", "--split", "test"), 2, "'test'", "train, val")
    refused(viz("matching", "photo.png", "--truth", "data"), 1, "photo.png", "no image of this name", "train.png")
    refused(viz("matching", "photo.png", "--truth", "nothing"), 2, "nothing")
    photo("other/val.png", (20, 20))
    refused(viz("matching", "other/val.png", "--truth", "data"), 1, "val.png")
    network(fake)
    refused(viz("attention", "photo.png", "--query", 5), 2, "--query 5", "0 to 4")
    fake.model.head.classifier.bias.data.fill_(float("nan"))  # type: ignore[union-attr]
    refused(viz("attention", "photo.png"), 3, "NaN")


def test_one_bad_photo_does_not_stop_the_others(viz: Viz) -> None:
    Path("broken.png").write_bytes(b"no picture")
    result = viz("queries", "photo.png", "broken.png")
    assert result.exit_code == 1
    assert "broken.png" in result.stderr
    assert Path("segcli-viz/photo.queries.png").is_file()
