"""`segcli data` as its user meets it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from segcli.cli import app
from segcli.cli.screens.data_screen import show_training
from segcli.console import Console
from segcli.data.cache import VARIABLE
from segcli.data.checking.scan import scan
from segcli.data.detect import detect
from segcli.types import Label, LabelSet, Task
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scenes, things_only

Data = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Ten training images of 25 objects, two for validation; all sound."""
    splits = things_only(scenes(train=30))
    for split in splits.values():
        for number, shot in enumerate(split):
            shot.ids = [(1, 7)[(number + i) % 2] for i in range(len(shot.ids))]
    return layouts.coco_instance(tmp_path / "coco", splits, THINGS)


def break_area(coco: Path) -> None:
    file = coco / "annotations/instances_train2017.json"
    raw = json.loads(file.read_text())
    raw["annotations"][0]["area"] = 1
    layouts.save_json(file, raw)


def test_sound_data_passes_and_faults_are_found(data: Data, coco: Path) -> None:
    answer = data("check", coco, "--strict")
    assert answer.exit_code == 0, answer.output
    assert "no problems found" in answer.stdout
    break_area(coco)
    assert data("check", coco).exit_code == 0
    answer = data("check", coco, "--strict")
    assert answer.exit_code == 1
    assert "area 1 in the file" in answer.stdout
    answer = data("check", coco, "--json", "--strict")
    assert answer.exit_code == 1
    report = json.loads(answer.stdout)
    assert report["counts"] == {"area": 1}
    assert report["findings"][0]["file"].endswith("shot0.png")
    assert data("check", coco, "--quiet").output == ""


def refusing(monkeypatch: pytest.MonkeyPatch, method: str, file: Path) -> None:
    """Let a method of Path be refused for one file; the tests may run as root, who may do everything."""
    real = getattr(Path, method)

    def refused(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, method, refused)


@pytest.mark.parametrize("method", ["open", "exists"])
def test_a_refusal_names_the_file(data: Data, coco: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading annotations has words of its own; whatever has none is told by the name that the system gives."""
    file = coco / "annotations/instances_train2017.json" if method == "open" else Path("out")
    refusing(monkeypatch, method, file)
    answer = data("stats", coco) if method == "open" else data("split", coco, "out")
    assert answer.exit_code == 1
    line = answer.stderr.splitlines()[-1]
    assert line.startswith(f"segcli: error: {file}: ")
    assert "Permission denied" in line
    assert "permissions" in line


def test_a_cleaned_copy(data: Data, coco: Path) -> None:
    break_area(coco)
    (coco / "train2017/shot1.png").write_bytes(b"")
    answer = data("check", coco, "--fix", "clean", "--queries", "1")
    assert answer.exit_code == 0, answer.output
    assert "left as it is, for you to judge" in answer.stderr
    answer = data("check", "clean", "--strict")
    assert answer.exit_code == 0, answer.output
    assert len(detect("clean").splits["train"]) == 29
    answer = data("check", coco, "--fix", "clean")
    assert (answer.exit_code, answer.stderr.count("\n")) == (2, 1)
    assert "exists already" in answer.stderr


def test_convert_says_what_is_lost(data: Data, tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path / "data", scenes(), LABELS)
    answer = data("convert", "data", "out", "--to", "coco")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == "out: 4 train, 2 val images\n"
    assert "pixels of unknown truth become background: " in answer.stderr
    assert "6 images as hard links" in answer.stderr
    assert data("convert", "data", "quiet", "--to", "voc", "--quiet").output == ""
    (tmp_path / "data/images/shot1.png").write_bytes(b"")
    answer = data("convert", "data", "rest", "--to", "coco")
    assert (answer.exit_code, answer.stdout) == (1, "rest: 3 train, 2 val images\n")
    assert "left out: " in answer.stderr


def test_stats_and_charts(data: Data, tmp_path: Path) -> None:
    ghost = Label(99, "ghost", isthing=True)
    layouts.coco_panoptic(tmp_path / "data", scenes(), LabelSet((*LABELS, ghost)))
    answer = data("stats", "data", "--json", "--out", "charts")
    assert answer.exit_code == 0, answer.output
    report = json.loads(answer.stdout)
    assert [of_split["images"] for of_split in report["splits"]] == [4, 2]
    assert sorted(path.name for path in Path("charts").iterdir()) == [
        "areas.png", "classes.png", "objects.png", "sizes.png",
    ]  # fmt: skip
    printed = data("stats", "data").stdout
    assert "disc" in printed
    assert "in no image: ghost (--json lists all)" in printed


def test_split_by_group(data: Data, tmp_path: Path) -> None:
    splits = scenes(train=12)
    for number, shot in enumerate(splits["train"]):
        shot.name = f"day{number // 3}_{number}"
    layouts.coco_panoptic(tmp_path / "data", {"train": splits["train"]}, LABELS)
    answer = data("split", "data", "out", "--val", "0.3", "--group", "^day.")
    assert answer.exit_code == 0, answer.output
    days = [{r.image.name[:4] for r in records} for records in detect("out").splits.values()]
    assert not days[0] & days[1]
    assert "groups: " in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere"], "nowhere: no such folder"),
        (["check", "empty"], "no dataset recognised"),
        (["convert", "semantic", "out", "--to", "yolo"], "do not separate objects"),
        (["convert", "semantic", "semantic/out", "--to", "voc"], "inside the dataset"),
        (["convert", "semantic", "empty/file", "--to", "voc"], "exists already"),
        (["convert", "semantic", "out", "--to", "voc", "--images", "nowhere"], "--images nowhere: no such folder"),
        (["convert", "semantic", "out", "--to", "voc", "--images", ".", "--format", "voc"], "give one"),
        (["split", "semantic", "out", "--val", "1.5"], "leave nothing to train on"),
        (["split", "semantic", "out", "--group", "["], "not a regular expression"),
        (["split", "semantic", "out", "--group", "x(y)"], "does not match 6 of 6"),
        (["stats", "semantic", "--task", "instance"], "--task instance"),
        (["check", "broken"], "not valid JSON"),
    ],
)
def test_bad_input_is_one_line(data: Data, tmp_path: Path, arguments: list[str], words: str) -> None:
    layouts.semantic(tmp_path / "semantic", scenes())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file").write_text("")
    layouts.coco_instance(tmp_path / "broken", things_only(scenes()), THINGS)
    file = tmp_path / "broken/annotations/instances_train2017.json"
    file.write_bytes(file.read_bytes()[:-100])
    answer = data(*arguments)
    assert answer.exit_code == 2
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("segcli: error: ")
    assert words in last
    assert not Path("out").exists()


def test_charts_that_cannot_be_written(data: Data, tmp_path: Path) -> None:
    layouts.semantic(tmp_path / "semantic", scenes())
    (tmp_path / "charts").write_text("")
    answer = data("stats", "semantic", "--out", "charts")
    assert answer.exit_code == 1
    assert "charts cannot be written" in answer.stderr


def test_unknown_format_is_refused_by_the_command_line(data: Data, tmp_path: Path) -> None:
    assert data("convert", tmp_path, "out", "--to", "pascal").exit_code == 2
    assert np.all([name in data("convert", "--help").stdout for name in ("coco", "yolo", "voc")])


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_the_table_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    info = detect(layouts.coco_panoptic(tmp_path / "data", scenes(train=2), LABELS), task=task)
    train = scan(info).train
    show_training(Console(), info, train)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[0].startswith(f"for training: 2 images, {train.objects} ")
    assert "crowd" not in lines[0]
    sky = next(line for line in lines if line.startswith("sky")).split()
    assert sky[:5] == ["sky", "90", "stuff", "2", "-"]
    assert float(sky[5].strip("%")) == pytest.approx(20)
    show_training(Console(), info, replace(train, classes=train.classes * 7, crowds=7))
    err = capsys.readouterr().err
    assert "; 7 crowd regions are not used for training" in err
    assert f"more (segcli data stats {info.root})" in err
    show_training(Console(quiet=True), info, train)
    assert capsys.readouterr() == ("", "")


def test_overlaps_and_rare_classes_are_remarks(data: Data, coco: Path) -> None:
    """Objects may overlap in instance annotations: check says so, and --strict passes over it."""
    file = coco / "annotations/instances_train2017.json"
    raw = json.loads(file.read_text())
    first = raw["annotations"][0]
    square = [2, 2, 30, 2, 30, 30, 2, 30]
    for shape in (square, [v + 3 for v in square]):
        row = {"image_id": first["image_id"], "category_id": first["category_id"], "segmentation": [shape]}
        raw["annotations"].append(row | {"id": 1000 + shape[0], "iscrowd": 0})
    layouts.save_json(file, raw)
    answer = data("check", coco, "--strict")
    assert answer.exit_code == 0, answer.output
    assert "overlap" in answer.stdout
    assert "nothing: a remark" in answer.stdout
