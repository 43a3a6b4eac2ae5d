"""`segcli viz overlays` and `viz curves` as a user meets them: every source, every kind of result, every mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from segcli.cli import app
from tests.cli.conftest import Predict, photo
from tests.evaluation.scored import write_scored

Viz = Callable[..., Result]
TINTED = 30  # of 255, at least, where a segment is drawn


@pytest.fixture
def viz(predict: Predict) -> Viz:
    """Run `segcli viz` in the empty folder that `predict` works in."""
    return lambda *arguments: CliRunner().invoke(app, ["viz", *map(str, arguments)])


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def drawn(path: str, original: str = "a.png") -> np.ndarray:
    """Which pixels are not the photo's -> bool [H, W]."""
    before = pixels(original)
    return (np.abs(pixels(path)[: len(before)] - before) > TINTED).any(axis=2)


def dataset(root: Path, names: tuple[str, ...] = ("a",)) -> Path:
    """The same photos with their truth: red (3) left, green (7) right, the foot void."""
    for split in ("train", "val"):
        for name in names:
            photo(root / split / "images" / f"{name}.png")
            labels = np.full((48, 64), 255, dtype=np.uint8)
            labels[:32, :32], labels[:32, 32:] = 3, 7
            (root / split / "labels").mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(root / split / "labels" / f"{name}.png")
    classes = "".join(f'[[classes]]\nid = {i}\nname = "{n}"\n' for i, n in ((3, "red"), (7, "green")))
    (root / "dataset.toml").write_text('format = "semantic-png"\n' + classes)
    return root


@pytest.mark.parametrize(
    ("task", "kinds"),
    [
        ("panoptic", "png,json"),
        ("panoptic", "coco-panoptic"),
        ("panoptic", "coco"),
        ("panoptic", "masks"),
        ("instance", "json"),
        ("instance", "coco"),
        ("instance", "masks"),
        ("semantic", "png,json"),
        ("semantic", "masks"),
    ],
)
def test_every_kind_of_result_is_drawn_without_a_model(
    predict: Predict, viz: Viz, task: str, kinds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo("a.png")
    assert predict("a.png", "--task", task, "--save", kinds).exit_code == 0
    monkeypatch.delattr("segcli.weights.checkpoint.load_model")
    answer = viz("overlays", "--no-labels")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines() == [str(Path("segcli-viz/a.overlay.jpg"))]
    changed = drawn("segcli-viz/a.overlay.jpg")
    assert changed[4:28, 4:28].mean() > 0.9  # red
    assert changed[4:28, 36:60].mean() > 0.9  # green
    first = Path("segcli-viz/a.overlay.jpg").read_bytes()
    assert viz("overlays", "--no-labels", "--overwrite").exit_code == 0
    assert Path("segcli-viz/a.overlay.jpg").read_bytes() == first


def test_photos_are_predicted_first_and_keep_their_tree(viz: Viz) -> None:
    for name in ("in/a.png", "in/sub/a.png"):
        photo(name)
    answer = viz("overlays", "in", "--recursive", "--model", "fake", "--classes", "Red", "--out", "o")
    assert answer.exit_code == 0, answer.output
    changed = drawn("o/sub/a.overlay.jpg", "in/sub/a.png")
    assert changed[:28, :30].any()
    assert not changed[:28, 36:].any()


def test_a_dataset_shows_its_truth(viz: Viz) -> None:
    dataset(Path("data"), ("a", "b", "c"))
    answer = viz("overlays", "data", "--split", "train", "--limit", 2, "--no-labels")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.split() == [str(Path(f"segcli-viz/{name}.truth.jpg")) for name in "ab"]
    assert "semantic" in answer.stderr
    assert not drawn("segcli-viz/a.truth.jpg", "data/train/images/a.png")[36:].any()


@pytest.mark.parametrize("how", ["predictions", "photo", "all"])
def test_truth_beside_prediction_beside_errors(predict: Predict, viz: Viz, how: str) -> None:
    data = dataset(Path("data"))
    source = {"predictions": ["segcli-out"], "photo": [data / "val/images/a.png", "--model", "fake"]}
    if how == "predictions":
        assert predict(data / "val/images/a.png", "--task", "semantic").exit_code == 0
    given = source.get(how, ["--model", "fake"])
    answer = viz("overlays", *given, "--truth", data)
    assert answer.exit_code == 0, answer.output
    picture = pixels("segcli-viz/a.compare.jpg")
    assert picture.shape[1] == 3 * 64 + 2 * 8
    errors = picture[:48, 2 * 72 :]
    green, dark = errors[10, 10], errors[44, 10]
    assert green[1] > green[0]  # right
    assert dark.max() < 80  # void


def test_data_without_anything_to_train_on_is_shown(viz: Viz, tmp_path: Path) -> None:
    data = write_scored(tmp_path / "data", 2)
    assert viz("overlays", str(data), "--out", str(tmp_path / "out")).exit_code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_truth_is_found_in_the_split_that_holds_the_predictions(predict: Predict, viz: Viz) -> None:
    data = dataset(Path("data"), ("a", "b"))
    for name in ("a", "b"):
        (data / f"train/images/{name}.png").rename(data / f"train/images/t{name}.png")
        (data / f"train/labels/{name}.png").rename(data / f"train/labels/t{name}.png")
    assert predict(data / "val/images/b.png", "--task", "semantic").exit_code == 0
    answer = viz("overlays", "segcli-out", "--truth", data)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.split() == [str(Path("segcli-viz/b.compare.jpg"))]
    answer = viz("overlays", "segcli-out", "--truth", data, "--split", "train")
    assert answer.exit_code == 2
    assert "choose theirs with --split" in answer.stderr


def test_the_split_is_named_and_an_image_without_its_mask_stops_no_other(viz: Viz) -> None:
    data = dataset(Path("data"), ("a", "b", "c"))
    (data / "train/labels/b.png").unlink()
    answer = viz("overlays", "data")
    assert answer.exit_code == 0, answer.output
    assert "showing the split val, 3 of 6 images; for the others use --split train" in answer.stderr
    answer = viz("overlays", "data", "--split", "train", "--out", "train")
    assert answer.exit_code == 1
    assert f"{data / 'train/labels/b.png'}: no such file" in answer.stderr
    assert answer.stdout.split() == [str(Path(f"train/{name}.truth.jpg")) for name in "ac"]
    shutil.rmtree(data / "train")
    (data / "val").rename(data / "all")
    for part in ("images", "labels"):
        (data / "all" / part).rename(data / part)
    said = viz("overlays", "data", "--out", "held-out").stderr
    assert "are held out for it" in said
    assert "of 3 images; for the others use --split train" in said


def test_sheets(viz: Viz) -> None:
    dataset(Path("data"), tuple("abcde"))
    answer = viz("overlays", "data", "--grid", 3)
    assert answer.stdout.split() == [str(Path("segcli-viz/grid.truth.jpg"))]
    height, width, _ = pixels("segcli-viz/grid.truth.jpg").shape
    assert width == 3 * 64 + 2 * 8
    assert 2 * (48 + 10) < height < 2 * (48 + 60)


def test_boxes_scores_and_least_scores(predict: Predict, viz: Viz) -> None:
    photo("a.png")
    predict("a.png", "--task", "instance")
    plain = ["overlays", "--no-labels", "--no-outlines", "--alpha", 0]
    assert viz(*plain, "--out", "plain").exit_code == 0
    assert not drawn("plain/a.overlay.jpg").any()
    assert viz(*plain, "--boxes", "--out", "boxes").exit_code == 0
    assert 0 < drawn("boxes/a.overlay.jpg").mean() < 0.4
    assert viz("overlays", "--color-by", "score", "--out", "scores").exit_code == 0
    assert pixels("scores/a.overlay.jpg").shape[0] > 48  # the scale below
    assert viz("overlays", "--threshold", 1, "--out", "none").exit_code == 0
    assert not drawn("none/a.overlay.jpg").any()


def test_predictions_of_classes_that_the_data_lacks_are_drawn_too(predict: Predict, viz: Viz) -> None:
    """The data knows red alone; green is predicted where its truth says red."""
    data = dataset(Path("data"))
    toml = data / "dataset.toml"
    toml.write_text('format = "semantic-png"\n[[classes]]\nid = 3\nname = "red"\n')
    for file in data.rglob("labels/*.png"):
        labels = pixels(file)
        Image.fromarray(np.where(labels == 7, 3, labels).astype(np.uint8)).save(file)
    assert predict(data / "val/images/a.png", "--task", "semantic").exit_code == 0
    for extra in ([], ["--model", "fake"]):
        source = [data / "val/images/a.png"] if extra else ["segcli-out"]
        answer = viz("overlays", *source, "--truth", data, "--no-labels", "--out", f"o{len(extra)}", *extra)
        assert answer.exit_code == 0, answer.output
        assert "does not have 2 of the predicted classes, which are drawn anyway: green, dark" in answer.stderr
        picture = pixels(next(Path(f"o{len(extra)}").rglob("*.jpg")))
        blue_of_missed, orange_of_wrong_class = np.array([0, 114, 178]), np.array([213, 94, 0])
        here = picture[4:28, 2 * (64 + 8) + 36 : 2 * (64 + 8) + 60].reshape(-1, 3).mean(0)
        assert np.abs(here - orange_of_wrong_class).sum() < np.abs(here - blue_of_missed).sum()


# --------------------------------------------------------------------------------------------------------- bad input


def test_photos_that_moved_are_found_or_asked_for(predict: Predict, viz: Viz) -> None:
    photo("in/a.png")
    photo("in/b.png")
    predict("in")
    Path("there").mkdir()
    shutil.move("in/a.png", "there/a.png")
    shutil.move("segcli-out", "results")
    answer = viz("overlays")  # among the folders here
    assert answer.exit_code == 0
    assert "results: the newest results of segcli predict here" in answer.stderr
    Path("in/b.png").unlink()
    answer = viz("overlays", "--overwrite")
    assert answer.exit_code == 1
    assert (
        "b.png: its photo is not where it was, nor here; give the folder of the photos with --photos" in answer.stderr
    )
    assert answer.stdout.split() == [str(Path("segcli-viz/a.overlay.jpg"))]
    photo("small/a.png", (20, 30))
    answer = viz("overlays", "--photos", "small", "--overwrite")
    assert answer.exit_code == 1
    assert "30×20" in answer.stderr
    photo("elsewhere/a.png", (47, 64))
    assert "a.png: its photo could be elsewhere" in viz("overlays", "results", "--overwrite").stderr


def test_mistakes_are_one_line(predict: Predict, viz: Viz, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(code: int, text: str, *arguments: Any) -> None:
        answer = viz("overlays", *arguments)
        assert (answer.exit_code, answer.stdout) == (code, "")
        assert answer.stderr.count("\n") == 1
        assert text in answer.stderr

    monkeypatch.delattr("segcli.weights.checkpoint.load_model")
    refused(2, "there are no results of segcli predict here")
    refused(2, "nothere: no such file or folder", "nothere")
    Path("empty").mkdir()
    refused(2, "no images in this folder", "empty")
    monkeypatch.undo()


def test_mistakes_with_results(predict: Predict, viz: Viz) -> None:
    photo("a.png")
    photo("z.png")
    predict("a.png")
    predict("z.png", "--task", "semantic", "--out", "semantic")
    data = dataset(Path("data"))
    for code, text, arguments in (
        (2, "did you mean green?", ["segcli-out", "--classes", "gren"]),
        (2, "leave out --model", ["segcli-out", "--model", "fake"]),
        (2, "semantic results have no scores", ["semantic", "--color-by", "score"]),
        (2, "truth has no scores", ["data", "--color-by", "score"]),
        (2, "no 'test' split", ["data", "--split", "test"]),
        (2, "both hold ground truth", ["data", "--truth", "data"]),
        (1, "no image of this name", ["z.png", "--truth", data, "--task", "semantic", "--model", "fake"]),
        (2, "data does not have", ["semantic", "--truth", data]),
        (2, "--task instance needs annotations that are not there", ["data", "--task", "instance"]),
        (2, "--photos nope: no such folder", ["segcli-out", "--photos", "nope"]),
    ):
        answer = viz("overlays", *arguments)
        assert answer.exit_code == code, answer.output
        assert text in answer.stderr
        assert "Traceback" not in answer.output
    shutil.copy("semantic/z.json", "segcli-out/z.json")
    answer = viz("overlays", "segcli-out")
    assert answer.exit_code == 1
    assert "give a folder that holds only one task" in answer.stderr
    shutil.rmtree("semantic")
    assert viz("overlays", "z.png", "--model", "fake").exit_code == 0
    answer = viz("overlays", "z.png", "--model", "fake")
    assert answer.exit_code == 2
    assert "exists already: replace it with --overwrite" in answer.stderr


# ------------------------------------------------------------------------------------------------------------ curves


def run_folder(path: Path, steps: int = 30) -> Path:
    path.mkdir(parents=True)
    with (path / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            record = {
                "kind": "train",
                "step": step,
                "loss": None if step == 4 else 9 / step,
                "loss/mask": 1.0,
                "lr": 1e-4,
            }
            file.write(json.dumps(record) + "\n")
        file.write(json.dumps({"kind": "validation", "step": steps, "metric": "PQ", "value": 0.5}) + "\n")
        file.write('{"kind": "train", "st')  # being written
    return path


def test_curves(viz: Viz) -> None:
    runs = [run_folder(Path("runs") / name) for name in ("one", "two")]
    answer = viz("curves", *runs)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.split() == [str(Path("segcli-viz") / name) for name in ("curves.png", "curves.svg")]
    assert viz("curves", *runs).exit_code == 2
    text = viz("curves", runs[0] / "metrics.jsonl", "--term")
    assert text.exit_code == 0
    assert "one: best PQ 50.0 % at step 30" in text.stdout
    for title in ("loss (weighted sum)", "mask loss (last layer)", "learning rate", "PQ on validation (%)"):
        assert title in text.stdout
    assert "\x1b" not in text.stdout


def test_curves_of_what_is_no_run(viz: Viz) -> None:
    Path("empty").mkdir()
    Path("other.jsonl").write_text('{"a": 1}\n')
    Path("begun.jsonl").write_text("")
    for source, code, text in (
        ("nothere", 2, "no such folder"),
        ("empty", 2, "not a training run"),
        ("other.jsonl", 1, "line 1: not a line of segcli train"),
        ("begun.jsonl", 1, "no step in it yet"),
    ):
        answer = viz("curves", source)
        assert (answer.exit_code, answer.stdout) == (code, "")
        assert text in answer.stderr
