"""Without --model: the task's default if it can be had, else the small model that ships, which is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segcli.cli import app
from segcli.weights.download import Unreachable
from tests.cli.conftest import photo


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object) -> None:
        raise Unreachable("the Hub cannot be reached: no route to host")

    monkeypatch.setattr("segcli.weights.download.fetch", fetch)
    monkeypatch.setattr("segcli.weights.hub._from_cache", lambda place: None)
    monkeypatch.chdir(tmp_path)
    photo("a.png")


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_a_bundled_model_stands_in_and_both_outputs_say_so(task: str) -> None:
    result = CliRunner().invoke(app, ["predict", "a.png", "--task", task, "--json"])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stderr.splitlines() if "using everyday" in line]
    assert "no route to host" in line
    record = json.loads(result.stdout)
    assert record["model"] == "everyday"
    assert record["instead_of"].startswith("eomt-small-" if task == "panoptic" else "swin-tiny-")
    assert json.loads(Path("segcli-out/a.json").read_text(encoding="utf-8"))["instead_of"] == record["instead_of"]


def test_a_model_that_was_asked_for_is_never_replaced() -> None:
    result = CliRunner().invoke(app, ["predict", "a.png", "--model", "swin-tiny-coco-panoptic"])
    assert result.exit_code == 3
    assert "using everyday" not in result.stderr
    assert not Path("segcli-out").exists()


def test_what_ships_does_not_stand_in_for_a_task_it_does_not_do() -> None:
    result = CliRunner().invoke(app, ["predict", "a.png", "--task", "detect"])
    assert result.exit_code == 3
    assert "detr-resnet-50" in result.stderr
    assert "--task detect --model everyday" not in result.stderr
    assert "--task panoptic --model everyday" in result.stderr  # what could be done instead
