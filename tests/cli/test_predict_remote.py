"""`segcli predict --out scheme://…`: what is there afterwards is what a folder of this machine would hold."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segcli.cli import app
from tests.cli.conftest import Predict, photo

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def url() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield f"memory://{name}/out"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


def there(url: str) -> dict[str, bytes]:
    system, root = fsspec.core.url_to_fs(url)
    found = system.find(root) if system.exists(root) else ()
    return {name[len(root) :].lstrip("/"): system.cat_file(name) for name in found}


def here(out: str) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(Path(out).rglob("*")) if path.is_file()}


KINDS = ("--save", "png,overlay,coco,coco-panoptic,jsonl", "--recursive")


def test_a_url_gets_what_a_folder_gets(predict: Predict, url: str) -> None:
    for name in ("a.png", "sub/b.png"):
        photo(Path("photos") / name)
    Path("photos/bad.png").write_bytes(b"no picture")
    assert predict("photos", "--out", "out", *KINDS).exit_code == 1
    done = predict("photos", "--out", url, *KINDS)
    assert done.exit_code == 1
    assert f"results in {url}" in done.stderr
    assert "segcli-out-" not in done.output
    assert there(url) == here("out")
    again = predict("photos/a.png", "--out", url, *KINDS)
    assert again.exit_code == 2
    assert again.stderr.startswith(f"segcli: error: {url}/") and "exists already" in again.stderr  # noqa: PT018


def test_an_interrupted_run_goes_on(predict: Predict, url: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        photo(Path("photos") / name)
    kinds = ("--save", "png,json,coco")
    predict("photos", "--out", "out", *kinds)
    predict("photos/a.png", "photos/b.png", "--out", url, *kinds)
    before = there(url)
    done = predict("photos", "--out", url, *kinds, "--skip-existing", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["path"] for line in lines if not line.get("skipped")] == ["photos/c.png"]
    assert lines[-1]["outputs"] == [f"{url}/c.png", f"{url}/c.json"]
    after = there(url)
    assert after.keys() == here("out").keys()
    assert after["predictions.json"] == here("out")["predictions.json"]
    assert {name: after[name] for name in before if name != "predictions.json"} == {
        name: data for name, data in before.items() if name != "predictions.json"
    }
    other = predict("photos", "--out", url, *kinds, "--skip-existing", "--threshold", "0.9")
    assert (other.exit_code, f"{url}/" in other.stderr, "another rule" in other.stderr) == (2, True, True)


def test_shards_are_joined_there(predict: Predict, url: str) -> None:
    for name in ("a.png", "b.png", "c.png"):
        photo(Path("photos") / name)
    predict("photos", "--out", "out", "--save", "coco,jsonl")
    for shard in ("0/2", "1/2", "1/2"):
        assert predict("photos", "--out", url, "--save", "coco,jsonl", "--shard", shard, "--overwrite").exit_code == 0
    assert sum("-of-" in name for name in there(url)) == 6
    merged = CliRunner().invoke(app, ["results", "merge", url])
    assert (merged.exit_code, f"2 shards joined: {url}/" in merged.stderr) == (0, True), merged.output
    assert there(url) == here("out")


def test_a_clip(predict: Predict, url: str) -> None:
    for number in range(3):
        photo(f"frames/{number}.png")
    assert predict("frames/%d.png", "--out", url, "--save", "json,png").exit_code == 0
    assert there(url).keys() == {"frames.jsonl", "frames.video.json", *(f"frames.ids/{n:06d}.png" for n in range(3))}


def test_a_place_that_cannot_be_written_to(predict: Predict) -> None:
    photo("a.png")
    done = predict("a.png", "--out", "nosuch://x/y")
    assert done.exit_code != 0
    assert done.stderr.startswith("segcli: error: nosuch://x/y: cannot be written to (")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["eval", "."], ["train", "."], ["export", "facade"], ["viz", "report", "."], ["viz", "overlays", "."]]
)
def test_other_commands_write_to_folders(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--out", "s3://bucket/x"])
    assert done.exit_code == 2
    assert "--out s3://bucket/x: only segcli predict writes to URLs" in done.stderr.replace("\n", " ")
