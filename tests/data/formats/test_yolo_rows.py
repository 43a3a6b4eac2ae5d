"""YOLO as other people's machines and tools write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.data.checking.check import check
from segcli.data.checking.scan import scan
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError

ROWS = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n1 0 0 0.1 0 0.1 0.1 0 0.1\n"


def yolo(root: Path, yaml: str | None = "train: images/train\nval: images/val\nnames: [box, disc]\n") -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            image = root / "images" / split / f"{split}{number}.png"
            label = root / "labels" / split / f"{split}{number}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 40, 3), 20 * number, np.uint8)).save(image)
            label.write_text(ROWS)
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images\\train\nval: images\\val\nnames: [box, disc]\n",
        "train: /content/data/images/train\nval: /content/data/images/val\nnames: {0: box, 1: disc}\n",
        "path: C:\\Users\\me\\data\ntrain: C:\\Users\\me\\data\\images\\train\nval: images\\val\nnames: [box, disc]\n",
        "path: ..\\elsewhere\ntrain: ../images/train\nval: ./images/val\nnames: [box, disc]\n",
    ],
)
def test_folders_of_another_machine_are_found(tmp_path: Path, yaml: str) -> None:
    info = detect(yolo(tmp_path, yaml))
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 4, "val": 2}
    assert [rle.area for rle in open_split(info, "train")[0].rles] == [400, 16]


@pytest.mark.parametrize("names", ["classes.txt", "obj.names"])
def test_without_a_yaml_file_the_list_of_names_tells(tmp_path: Path, names: str) -> None:
    (yolo(tmp_path, None) / names).write_text("box\ndisc\n")
    info = detect(tmp_path)
    assert (info.format, info.labels.names) == ("yolo-seg", ["box", "disc"])
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 4, "val": 2}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0 0.5 0.5 0.2 0.2", "a box (4 numbers)"),
        ("0 0.1 0.1 0.2 0.1 0.2", "5 coordinates"),
        ("9 0.1 0.1 0.2 0.1 0.2 0.2", "label 9 is not a class of this dataset (allowed: 0–1)"),
        ("0.5 0.1 0.1 0.2 0.1 0.2 0.2", "class 0.5 is not a whole number"),
        ("nan 0.1 0.1 0.2 0.1 0.2 0.2", "is not a whole number"),
        ("0 10 10 20 10 20 20", "coordinate 20 is outside of 0–1"),
        ("0 nan 0.1 0.2 0.1 0.2 0.2", "a coordinate is not a number"),
        ("box 0.1 0.1 0.2 0.1 0.2 0.2", "is not a class number and x y pairs"),
    ],
)
def test_one_bad_row_costs_one_row(tmp_path: Path, row: str, says: str) -> None:
    (yolo(tmp_path) / "labels/train/train0.txt").write_text(ROWS + row + "\n")
    info = detect(tmp_path)
    [finding] = check(info).of_kind("bad-row")
    assert says in finding.message
    assert "train0.txt:3" in finding.message
    report = scan(info)
    assert report.train.objects == 8
    assert says in report.left_out[0]


def test_boxes_are_rectangles_where_that_is_said(tmp_path: Path) -> None:
    (yolo(tmp_path) / "labels/train/train0.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    (tmp_path / "dataset.toml").write_text('boxes = "rectangles"\n')
    assert [rle.area for rle in open_split(detect(tmp_path), "train")[0].rles] == [20 * 10]


def test_what_reaches_a_little_out_is_cut_off(tmp_path: Path) -> None:
    (yolo(tmp_path) / "labels/train/train0.txt").write_text("0 -0.02 0 1.05 0 1.05 1.01 -0.02 1.01\n")
    info = detect(tmp_path)
    assert [rle.area for rle in open_split(info, "train")[0].rles] == [1600]
    assert not check(info).of_kind("off-image")


def test_a_dataset_of_boxes_is_refused_by_training(tmp_path: Path) -> None:
    for file in yolo(tmp_path).glob("labels/*/*.txt"):
        file.write_text("0 0.5 0.5 0.2 0.2\n1 0 0 0.1 0 0.1 0.1 0 0.1\n")
    with pytest.raises(UsageError, match=r"6 of 6 rows of class 'box' cannot be used, more than 50%.*a box"):
        scan(detect(tmp_path))


def test_names_that_grow_without_end_are_not_printed(tmp_path: Path) -> None:
    lists = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    lists += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(UsageError, match=r"names is a list of 9; expected the class names"):
        detect(yolo(tmp_path, lists + "names: *i\ntrain: images/train\n"))


def test_labels_that_count_from_one_are_refused(tmp_path: Path) -> None:
    """Read as they are, every object would have the next class's name, and the last class none."""
    for file in yolo(tmp_path).glob("labels/*/*.txt"):
        file.write_text(ROWS.replace("\n1", "\n2").replace("0 0.25", "1 0.25"))
    with pytest.raises(
        UsageError, match=r"names 2 classes, numbered from 0, but the label files use 1 to 2 and never 0"
    ):
        detect(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {1: box, 2: disc}\n")
    assert detect(tmp_path).labels.ids == [1, 2]
    yolo(tmp_path)
    (tmp_path / "labels/train/train0.txt").write_text("2 0 0 1 0 1 1\n")  # a typing error
    assert detect(tmp_path).labels.ids == [0, 1]
