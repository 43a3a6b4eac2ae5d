"""`segcli eval` in this process, on a network that sees colours: what is printed, written and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.types import Label, LabelSet
from tests.evaluation.scored import write_scored
from tests.fakes import LABELS, FakeLoaded

Eval = Callable[..., Result]


class Drawer:
    """In the place of the pictures, which take longest and have tests of their own."""

    def __init__(self, task: str, labels: LabelSet, **protocol: Any) -> None:
        self.task, self.seen = task, 0

    def see(self, evaluated: Any) -> None:
        self.seen += 1

    def finish(self, folder: Path) -> None:
        (folder / "drawn").write_text(f"{self.task} {self.seen}")


@pytest.fixture
def evaluate(fake: FakeLoaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Eval:
    """Run `segcli eval` in a folder with annotated photos in data/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segcli.evaluation.pictures.EvalPictures", Drawer)
    write_scored(tmp_path / "data")
    return lambda *arguments: CliRunner().invoke(app, ["eval", *map(str, arguments)])


def test_a_table_for_people(evaluate: Eval) -> None:
    result = evaluate("data", "--model", "fake")
    assert result.exit_code == 0, result.output
    headline, head, *_ = result.stdout.splitlines()
    assert headline.startswith("PQ ")
    assert "5 images of val" in headline
    assert head.split() == ["%", "PQ", "SQ", "RQ"]
    for words in ("all", "things", "stuff", "false positives", "green", "score > 0.8, overlap ≥ 0.8, mask ≥ 0.5"):
        assert words in result.stdout
    assert "COCO panoptic: panoptic_val.json; 5 val images; 3 classes (2 things, 1 stuff)" in result.stderr
    assert "5 of 5 images: PQ" in result.stderr or "1 of 5 images: PQ" in result.stderr


def test_all_tasks_with_files(evaluate: Eval) -> None:
    result = evaluate("data", "-m", "fake", "--task", "all", "--out", "out")
    assert [line.split()[0] for line in result.stdout.splitlines() if "images of val" in line] == ["PQ", "AP", "mIoU"]
    assert "mIoU mmseg" in result.stdout
    for task, metric in (("panoptic", "PQ"), ("instance", "AP"), ("semantic", "mIoU")):
        document = json.loads(Path("out", task, "metrics.json").read_text())
        assert (document["kind"], document["task"], document["metric"]) == ("segcli eval", task, metric)
        assert document["value"] == document["summary"][metric]
        assert document["model"]["name"] == "fake"
        assert document["data"] | {"root": ""} == {"root": "", "format": "coco-panoptic", "split": "val", "images": 5}
        assert document["protocol"]["size"]["short"] == 64
        assert document["versions"]["hotcoco"]
        rows = Path("out", task, "per_class.csv").read_text().splitlines()
        assert rows[0].startswith("id,name,isthing,")
        assert len(rows) == 1 + len(document["per_class"])
        assert len(Path("out", task, "per_image.jsonl").read_text().splitlines()) == 5
        assert Path("out", task, "drawn").read_text() == f"{task} 5"


def test_json_alone_is_printed(evaluate: Eval) -> None:
    document = json.loads(evaluate("data", "-m", "fake", "--json", "--images", 2).stdout)
    assert (document["metric"], document["data"]["images"]) == ("PQ", 2)
    documents = json.loads(evaluate("data", "-m", "fake", "--json", "--task", "all", "--explain").stdout)
    assert list(documents) == ["panoptic", "instance", "semantic"]
    assert documents["semantic"]["explain"]["sentence"]


def test_quiet_says_nothing(evaluate: Eval) -> None:
    result = evaluate("data", "-m", "fake", "-q", "--out", "out")
    assert (result.exit_code, result.output) == (0, "")
    assert Path("out/metrics.json").is_file()


def test_another_size_than_the_checkpoints(evaluate: Eval) -> None:
    smaller = evaluate("data", "-m", "fake", "--short-side", 32, "-o", "out", "--images", 2)
    assert "short side 32" in smaller.stdout
    assert json.loads(Path("out/metrics.json").read_text())["protocol"]["size"]["short"] == 32
    assert "started with another" in evaluate("data", "-m", "fake", "-o", "out", "--skip-existing").stderr
    tiled = json.loads(evaluate("data", "-m", "fake", "--tile", 64, "--task", "instance", "--json").stdout)
    assert (tiled["protocol"]["size"]["tile"], tiled["protocol"]["max_dets"]) == (64, 500)


def test_what_holds_it_back_is_said(evaluate: Eval) -> None:
    result = evaluate("data", "-m", "fake", "--explain", "--out", "out")
    assert "every missed object was found" in result.stdout
    assert json.loads(Path("out/explain.json").read_text())["task"] == "panoptic"


def test_classes_by_name_are_said_aloud(evaluate: Eval, fake: FakeLoaded) -> None:
    moved = LabelSet(tuple(Label(label.id + 100, label.name, label.isthing) for label in LABELS))
    plain = json.loads(evaluate("data", "-m", "fake", "--json").stdout)["summary"]
    write_scored(Path("moved"), labels=moved)
    result = evaluate("moved", "-m", "fake", "--json")
    assert "classes are matched by name, as the ids differ (red is 3 in the model, 103 in the data)" in result.stderr
    assert json.loads(result.stdout)["summary"] == plain


def test_more_objects_than_count(evaluate: Eval) -> None:
    write_scored(Path("many"), 1)
    truth = json.loads(Path("many/panoptic_val.json").read_text())
    for segment in truth["annotations"][0]["segments_info"]:
        segment["category_id"] = 3
    Path("many/panoptic_val.json").write_text(json.dumps(truth))
    result = evaluate("many", "-m", "fake", "--task", "instance", "--max-dets", 3)
    assert "images with more objects of a class than the 3 instances that count: 1; --max-dets" in result.stderr


def test_go_on_and_begin_anew(evaluate: Eval) -> None:
    assert evaluate("data", "-m", "fake", "-o", "out", "--images", 2).exit_code == 0
    refused = evaluate("data", "-m", "fake", "-o", "out")
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert evaluate("data", "-m", "fake", "-o", "out", "--skip-existing").exit_code == 0
    assert json.loads(Path("out/metrics.json").read_text())["data"]["images"] == 5
    assert evaluate("data", "-m", "fake", "-o", "out", "--overwrite", "--images", 1).exit_code == 0
    assert len(list(Path("out/predictions").glob("*.png"))) == 1


# ----------------------------------------------------------------------------------------------------------- bad input


def broken_photo(fake: FakeLoaded) -> None:
    Path("data/images/photo 2.png").write_bytes(b"")


def other_classes(fake: FakeLoaded) -> None:
    write_scored(Path("other"), 1, LabelSet(tuple(Label(x.id + 100, f"my {x.name}", x.isthing) for x in LABELS)))


def damaged_network(fake: FakeLoaded) -> None:
    with torch.no_grad():
        next(fake.model.parameters()).fill_(float("nan"))


def another_model(fake: FakeLoaded) -> None:
    CliRunner().invoke(app, ["eval", "data", "-m", "fake", "-o", "out", "--images", "1"])
    with torch.no_grad():
        next(fake.model.parameters()).fill_(5.0)


def cut_short(fake: FakeLoaded) -> None:
    text = Path("data/panoptic_val.json").read_text()
    Path("data/panoptic_val.json").write_text(text[: len(text) // 2])


BAD: dict[str, tuple[Any, tuple[str, ...], int, str]] = {
    "no folder": (None, ("nowhere",), 2, "nowhere: no such folder"),
    "no data": (None, (), 2, "the data folder is missing"),
    "no such split": (None, ("data", "--split", "test"), 2, "no 'test' split; there are val"),
    "tta of panoptic": (None, ("data", "--tta"), 2, "--tta averages the scores of semantic segmentation"),
    "tiles of nothing": (None, ("data", "--tile", "20"), 2, "tiles need at least 64 pixels"),
    "max-dets of semantic": (None, ("data", "--task", "semantic", "--max-dets", "9"), 2, "--max-dets limits instances"),
    "nothing to go on with": (None, ("data", "--skip-existing"), 2, "add --out"),
    "both": (None, ("data", "-o", "out", "--overwrite", "--skip-existing"), 2, "contradict each other"),
    "a file for --out": (None, ("data", "-o", "data/panoptic_val.json"), 1, "is a file, not a folder"),
    "a broken photo": (broken_photo, ("data",), 1, "left out: data/images/photo 2.png"),
    "a damaged network": (damaged_network, ("data",), 3, "the network predicts NaN or infinity"),
    "another model": (
        another_model,
        ("data", "-o", "out", "--skip-existing"),
        2,
        "with another model, weights",
    ),
    "other classes": (other_classes, ("other",), 2, "no class in common, neither by id nor by name"),
    "truth cut short": (cut_short, ("data",), 2, "panoptic_val.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_line(case: str, evaluate: Eval, fake: FakeLoaded) -> None:
    prepare, arguments, code, message = BAD[case]
    if prepare:
        prepare(fake)
    result = evaluate(*arguments, "-m", "fake", "-q")
    lines = [line for line in result.stderr.splitlines() if line.startswith("segcli: error: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    assert message in lines[0]
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output


def test_a_model_that_does_not_do_the_task(evaluate: Eval, fake: FakeLoaded, monkeypatch: pytest.MonkeyPatch) -> None:
    only = fake.with_tasks("semantic")
    monkeypatch.setattr("segcli.weights.checkpoint.load_model", lambda *args, **options: only)
    assert evaluate("data", "-m", "fake").stdout.startswith("mIoU ")  # the first task that both do
    result = evaluate("data", "-m", "fake", "--task", "panoptic")
    assert result.exit_code == 2
    assert "--task panoptic: this checkpoint is for semantic" in result.stderr
    averaged = evaluate("data", "-m", "fake", "--tta", "--images", 1)
    assert "measured with mean of short sides 32, 48, 64, 80, 96, 112 and their mirror images" in averaged.stdout
