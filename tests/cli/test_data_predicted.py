"""`segcli data stats` of what `segcli predict` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from segcli.cli import app
from tests.cli.conftest import Predict, photo


def stats(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "stats", *arguments])


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_predictions_are_counted_like_data(predict: Predict, task: str) -> None:
    photo("in/a.png")
    photo("in/b.png", (96, 64))
    assert predict("in", "--task", task, "--save", "png,json").exit_code == 0
    answer = stats("segcli-out", "--json", "--out", "charts")
    assert answer.exit_code == 0, answer.output
    (split,) = json.loads(answer.stdout)["splits"]
    assert (split["images"], split["unusable"], split["height"]["most"]) == (2, 0, 96)
    records = [json.loads(Path(f"segcli-out/{stem}.json").read_text()) for stem in "ab"]
    counted = {row["name"]: row for row in split["classes"]}
    for name in {segment["category_name"] for record in records for segment in record["segments"]}:
        own = [s for record in records for s in record["segments"] if s["category_name"] == name]
        assert counted[name]["pixel_share"] == pytest.approx(sum(s["area"] for s in own) / (64 * (48 + 96)))
        if task == "instance":
            assert counted[name]["objects"] == len(own)
    assert Path("charts/classes.png").is_file()
    Path("segcli-out/a.json").write_text("{")
    assert stats("segcli-out").exit_code == 1  # a damaged record is named


def test_predictions_without_the_sizes_of_their_images_say_what_to_do(predict: Predict) -> None:
    photo("in/a.png")
    assert predict("in", "--task", "instance", "--save", "coco").exit_code == 0
    answer = stats("segcli-out")
    assert answer.exit_code == 2
    assert "--save json" in answer.stderr
