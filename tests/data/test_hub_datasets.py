"""Datasets by their names on the Hub, from a server on this machine that answers as it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError
from tests.data import layouts
from tests.data.layouts import scenes
from tests.weights.fake_hub import FakeHub

COMMIT = "a" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    server = FakeHub()
    close_session()  # it is made once and would go on with the settings of another test
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    root = layouts.semantic(tmp_path / "data", scenes(2, 1))
    files = {f"part/{file.relative_to(root).as_posix()}": file.read_bytes() for file in root.rglob("*.png")}
    server.repos["datasets/someone/scenes"] = {COMMIT: files | {"README.md": b"---\nlicense: mit\n---\n"}}
    server.heads["datasets/someone/scenes"] = COMMIT
    yield server
    close_session()
    server.close()


@pytest.mark.parametrize(
    "name", ["hf://someone/scenes/part", f"hf:/someone/scenes@{COMMIT}/part", "hf://someone/scenes"]
)
def test_a_dataset_by_its_name(hub: FakeHub, name: str) -> None:
    info = detect(Path(name) if name.startswith("hf:/s") else name)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 2, "val": 1}
    assert open_split(info, "train")[0].image.shape == (40, 56, 3)


def test_a_dataset_in_the_cache_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    found = detect("hf://someone/scenes/part").found
    asked = len(hub.seen)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert detect("hf://someone/scenes/part").found == found
    assert len(hub.seen) == asked


@pytest.mark.parametrize(("name", "says"), [
    ("hf://someone/nothing", "no such dataset"),
    ("hf://someone", "expected hf://org/name"),
    ("hf://someone/scenes/../../x", "expected hf://org/name"),
    ("hf://someone/scenes/other", "no folder other"),
])  # fmt: skip
def test_names_that_mean_no_dataset(hub: FakeHub, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        detect(name)
