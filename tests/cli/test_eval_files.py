"""`segcli eval` without a model: what predict wrote scores as the model does; two evaluations are compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from segcli.cli import app
from tests.data.layouts import save
from tests.evaluation.scored import write_scored
from tests.fakes import FakeLoaded

Segcli = Callable[..., Result]


@pytest.fixture
def segcli(fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Segcli:
    """Run segcli in a folder with annotated photos in data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segcli.evaluation.pictures.EvalPictures", Silent)
    write_scored(tmp_path / "data")
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


class Silent:
    """In the place of the pictures, which have tests of their own."""

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def see(self, evaluated: object) -> None:
        pass

    def finish(self, folder: Path | None) -> None:
        pass


@pytest.mark.parametrize(
    ("task", "save"),
    [("panoptic", "png,json"), ("panoptic", "coco-panoptic"), ("instance", "coco"), ("semantic", "png")],
)
def test_what_predict_wrote_scores_as_the_model(task: str, save: str, segcli: Segcli) -> None:
    photos = "data/images" if Path("data/images").is_dir() else "data"
    assert segcli("predict", photos, "-t", task, "-s", save, "-o", "found", "-r").exit_code == 0
    own = json.loads(segcli("eval", "data", "-t", task, "--json", "-q").stdout)
    found = segcli("eval", "data", "-p", "found", "-t", task, "--json", "-q")
    assert found.exit_code == 0, found.output
    theirs = json.loads(found.stdout)
    assert (theirs["summary"], theirs["per_class"]) == (own["summary"], own["per_class"])
    assert (theirs["model"], theirs["predictions"]) == (None, "found")


def test_masks_in_black_and_white_for_data_of_the_kind(segcli: Segcli) -> None:
    for number in range(3):
        for file, light in ((f"bw/images/{number}.png", 0), (f"bw/masks/{number}.png", 255), (f"ids/{number}.png", 1)):
            pixels = np.zeros((24, 32), dtype=np.uint8)
            pixels[4:12, 5 : 20 + number] = light
            save(Path(file), pixels)
    Path("bw/dataset.toml").write_text("binary = true\n")
    for predictions in ("bw/masks", "ids"):
        found = segcli("eval", "bw", "-p", predictions, "--split", "all", "--json", "-q")
        assert json.loads(found.stdout)["value"] == 1, found.output


def test_other_predictions_under_the_same_name_are_not_taken_up(segcli: Segcli) -> None:
    assert segcli("predict", "data", "-t", "instance", "-s", "coco", "-o", "found", "-r").exit_code == 0
    file = Path("found/predictions.json")
    assert segcli("eval", "data", "-p", file, "-o", "out").exit_code == 0
    assert segcli("eval", "data", "-p", file, "-o", "out", "--skip-existing").exit_code == 0
    file.write_text(file.read_text() + "\n")
    again = segcli("eval", "data", "-p", file, "-o", "out", "--skip-existing")
    assert (again.exit_code, "started with another state of the predictions" in again.stderr) == (2, True)


def test_an_evaluation_is_read_as_it_was_counted(segcli: Segcli) -> None:
    """With its max_dets, which the comparison says where it differs."""
    assert segcli("eval", "data", "-t", "instance", "--max-dets", 7, "-o", "few").exit_code == 0
    again = segcli("eval", "data", "-p", "few", "-t", "instance", "-o", "again")
    assert "max_dets 7, as few was evaluated" in again.stderr
    assert json.loads(Path("again/metrics.json").read_text())["protocol"]["max_dets"] == 7
    assert segcli("eval", "data", "-p", "few", "-t", "instance", "-o", "other", "--max-dets", 9).exit_code == 0
    assert "A counts 7 instances of a class and image, B 9" in segcli("eval", "--compare", "few", "other").stderr
    refused = segcli("eval", "data", "-t", "instance", "-o", "few", "--model", "nowhere")
    assert "few/metrics.json exists already" in refused.stderr


def test_two_evaluations_compared(segcli: Segcli) -> None:
    """The model against its own predictions, once as they are and once with an image missing."""
    segcli("predict", "data/images", "-t", "panoptic", "-s", "png,json", "-o", "found")
    for out, change in (("a", None), ("b", "remove")):
        if change:
            first = min(Path("found").glob("*.json"))
            first.unlink()
            first.with_suffix(".png").unlink()
        assert segcli("eval", "data", "-p", "found", "-o", out, "-q").exit_code == 0
    result = segcli("eval", "--compare", "a", "b")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith(
        "No verdict on whether B is better than A (5 images, at least 10 are needed): PQ"
    )
    assert "0 images are better, 1 worse" in result.stdout
    document = json.loads(segcli("eval", "--compare", "a", "b", "--json").stdout)
    assert document["bootstrap"]["resamples"] == 1000
    assert [row["name"] for row in document["per_class"]] == ["red", "green", "dark"]
    same = segcli("eval", "--compare", "a", "a")
    assert "No verdict on whether B is better" in same.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval"], 2, "the data folder is missing"),
        (
            ["eval", "data", "-p", "results.json", "-m", "fake"],
            2,
            "existing predictions; leave out --model",
        ),
        (["eval", "data", "--compare", "a", "b"], 2, "--compare takes two folders that eval --out wrote"),
        (["eval", "--compare", "a", "b"], 2, "a: holds no evaluation"),
        (["eval", "data", "-p", "nowhere"], 2, "nowhere: no such file or folder"),
        (["eval", "data", "-p", "cut.json"], 1, "cut.json: not valid JSON, line 1, column 18: unterminated string"),
        (["eval", "data", "-p", "nan.json"], 1, "nan.json: entry 1 (image 1): score is nan; expected a number"),
        (["eval", "data", "-p", "strange.json"], 2, "strange.json: a prediction of image 99, which data does not have"),
        (
            ["eval", "data", "-p", "strange.json", "-t", "panoptic"],
            2,
            "COCO results can be scored for --task instance or detect, not panoptic",
        ),
    ],
)
def test_bad_input(arguments: list[str], code: int, message: str, segcli: Segcli) -> None:
    row = {"image_id": 1, "category_id": 3, "segmentation": {"size": [1, 1], "counts": [1]}, "score": 0.5}
    Path("cut.json").write_text('[{"image_id": 1, "ca')
    Path("nan.json").write_text(json.dumps([row | {"score": float("nan")}]))
    Path("strange.json").write_text(json.dumps([row | {"image_id": 99}]))
    result = segcli(*arguments)
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("segcli: error")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.output
