"""Names in annotation files: of images that lie elsewhere, and of classes with signs that no screen takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import InputError, UsageError
from tests.data.layouts import THINGS, coco_instance, labelme, save, scene, scenes, things_only, yolo


def edit(file: Path, change: Callable[[Any], object]) -> None:
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))


def outside(folder: Path) -> str:
    """An image beside the dataset's folder, which nothing within is named like."""
    return str(save(folder / "elsewhere" / "other.png", scene(0).image))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("some", [1, 4])
def test_a_coco_name_out_of_the_folder_is_not_read_until_its_folder_is_named(
    tmp_path: Path, absolute: bool, some: int
) -> None:
    root = coco_instance(tmp_path / "data", things_only({"train": scenes()["train"]}), THINGS)
    path = outside(tmp_path)

    def rename(raw: Any) -> None:
        for number, image in enumerate(raw["images"][:some]):
            save(tmp_path / "elsewhere" / f"other{number}.png", scene(0).image)
            image["file_name"] = (str(Path(path).parent) if absolute else "../../elsewhere") + f"/other{number}.png"

    edit(root / "annotations/instances_train2017.json", rename)
    if some == 4:
        with pytest.raises(UsageError, match=r"which lead out of .*images = .* in dataset\.toml"):
            detect(root, training=False)
    else:
        info = detect(root, training=False)
        assert any("1 name leads out of" in note and "dataset.toml" in note for note in info.notes)
        with pytest.raises(InputError, match="no such file"):
            open_split(info, "train")[0]
    if some == 4:
        (root / "dataset.toml").write_text(
            '[train]\nimages = "../elsewhere"\nannotations = "annotations/instances_train2017.json"\n'
        )
        info = detect(root, training=False)
        assert open_split(info, "train")[0].image.shape == scene(0).image.shape
        assert not any("out of" in note for note in info.notes)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_labelme_path_out_of_the_folder(tmp_path: Path, absolute: bool) -> None:
    root = labelme(tmp_path / "data", things_only(scenes()), THINGS)
    path = outside(tmp_path) if absolute else "../../elsewhere/other.png"
    outside(tmp_path)
    edit(root / "train/shot0.json", lambda raw: raw.update(imagePath=path))
    info = detect(root, training=False)
    assert [note for note in info.notes if "1 name leads out of" in note and "[train] images" in note]
    with pytest.raises(InputError, match="no such file"):
        open_split(info, "train")[0]
    (root / "dataset.toml").write_text('[train]\nimages = "../elsewhere"\n')
    info = detect(root, training=False)
    assert open_split(info, "train")[0].image.shape == scene(0).image.shape
    assert not any("out of" in note for note in info.notes)


@pytest.mark.parametrize("path", [None, 5, ""])
def test_a_labelme_file_without_a_path_is_of_the_image_of_its_name(tmp_path: Path, path: object) -> None:
    root = labelme(tmp_path, things_only(scenes()), THINGS)
    edit(root / "train/shot0.json", lambda raw: raw.update(imagePath=path))
    assert open_split(detect(root), "train")[0].image.shape == scene(0).image.shape


@pytest.mark.parametrize(
    ("name", "read"),
    [("a\nb", "a b"), ("a\x1b[31m", "a [31m"), ("\ud800", "\\ud800"), ("a\udce9", "a\\xe9"), ("a\u2028\tb", "a b")],
)
def test_names_of_classes_are_one_line_of_text(tmp_path: Path, name: str, read: str) -> None:
    splits = things_only(scenes())
    coco = coco_instance(tmp_path / "coco", splits, THINGS)
    for split in splits:
        edit(coco / f"annotations/instances_{split}2017.json", lambda raw: raw["categories"][0].update(name=name))
    drawn = labelme(tmp_path / "labelme", splits, THINGS)
    for file in drawn.rglob("*.json"):
        edit(file, lambda raw: [s.update(label=name) for s in raw["shapes"] if s["label"] == "disc"])
    lines = yolo(tmp_path / "yolo", splits, THINGS)
    text = (lines / "data.yaml").read_text().replace("disc", json.dumps(name))
    (lines / "data.yaml").write_text(text)
    for root in (coco, drawn, lines):
        info = detect(root)
        assert sorted(info.labels.names) == sorted(["box", read])
        sample = open_split(info, "train")[1]
        assert len(sample.labels) == len(splits["train"][1].ids)
