"""Names of images that were written elsewhere: what they end in is found, and never the wrong file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.errors import UsageError
from tests.data import layouts
from tests.data.layouts import THINGS, scenes, things_only


def renamed(root: Path, form: str, *, folder: str = "images") -> Path:
    """COCO data whose images lie in images/ and are called what `form` says of their names."""
    layouts.coco_instance(root, things_only(scenes()), THINGS, place=lambda s: (f"{folder}/{s}", f"{s}.json"))
    for split in ("train", "val"):
        rename(root / f"{split}.json", [form.format(f"shot{i}", split=split) for i in (0, 1, 2, 3)])
    return root


def rename(file: Path, names: list[str]) -> None:
    raw = json.loads(file.read_text())
    for image, name in zip(raw["images"], names, strict=False):
        image["file_name"] = name if file.stem == "train" else name.replace("shot", "shot10")
    layouts.save_json(file, raw)


@pytest.mark.parametrize(
    "form",
    [
        "images\\{split}\\{}.png",
        "C:\\Users\\me\\images\\{}.png",
        "/home/me/p/{}.png",
        "../../media/upload/1/{}.png",
        "/data/local-files/?d=p%201/{split}/{}.png",
        "https://bucket.example/p/{}.png?token=a/b",
        "task_1/frames/{}.png",
        "{}.PNG",
    ],
)
@pytest.mark.parametrize("folder", ["images", "labels-studio"])  # a folder may speak of labels and hold the images
def test_names_of_another_machine(tmp_path: Path, form: str, folder: str) -> None:
    info = detect(renamed(tmp_path, form, folder=folder))
    for split in ("train", "val"):
        for shot, sample in zip(scenes()[split], open_split(info, split), strict=True):
            assert sample.file == tmp_path / folder / split / f"{shot.name}.png"


def test_one_image_of_another_name_among_others(tmp_path: Path) -> None:
    renamed(tmp_path, "{}.png")
    rename(tmp_path / "train.json", ["shot0.png", "shot1.PNG", "/mnt/shot2.png", "a/shot3.png"])
    info = detect(tmp_path)
    found = [record.image.place.relative_to(tmp_path / "images/train").as_posix() for record in info.splits["train"]]
    # A folder that is not there may hold another image of the name: only paths of another machine are cut.
    assert found == ["shot0.png", "shot1.png", "shot2.png", "a/shot3.png"]


def test_an_image_that_is_missing_is_not_taken_from_the_id_maps_or_from_another_split(tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path, scenes(), layouts.LABELS, inside=True)
    (tmp_path / "images/train/shot1.png").rename(tmp_path / "images/val/shot1.png")
    missing = [str(r.image) for r in detect(tmp_path).splits["train"] if not r.image.place.is_file()]
    assert missing == [str(tmp_path / "images/train/shot1.png")]


@pytest.mark.parametrize("prefix", ["", "/home/me/"])
def test_a_name_of_several_files_is_refused(tmp_path: Path, prefix: str) -> None:
    shots = {"train": things_only(scenes())["train"]}
    layouts.coco_instance(tmp_path, shots, THINGS, place=lambda split: ("s0", "train.json"))
    shutil.copytree(tmp_path / "s0", tmp_path / "s1")
    rename(tmp_path / "train.json", [f"{prefix}shot{i}.png" for i in range(4)])
    with pytest.raises(UsageError) as caught:
        detect(tmp_path)
    for part in ("shot0.png could be 2 files", "s0/shot0.png", "s1/shot0.png", "write its folder before the name"):
        assert part in str(caught.value)
    (tmp_path / "dataset.toml").write_text('[train]\nimages = "s1"\nannotations = "train.json"\n')
    assert {r.image.place.parent.name for r in detect(tmp_path).splits["train"]} == {"s1"}


@pytest.mark.parametrize("line", ["./images/{}", "images/{}", "data/images/{}", "../{}", "C:\\yolo\\images\\{}"])
def test_lists_of_images_may_be_relative_to_any_folder(tmp_path: Path, line: str) -> None:
    root = layouts.yolo(tmp_path / "data", things_only(scenes()), THINGS)
    (root / "data.yaml").write_text("path: .\nnames: [disc, box]\ntrain: lists/train.txt\nval: images/val\n")
    (root / "lists").mkdir()
    prefix = "images/" if line.startswith("..") else ""
    lines = [line.format(f"{prefix}train/shot{i}.png") for i in (0, 1, 2, 9)]
    (root / "lists" / "train.txt").write_text("\n".join(lines))
    info = detect(root)
    found = [record.image.place.resolve() for record in info.splits["train"]]
    assert found[:3] == [root / f"images/train/shot{i}.png" for i in (0, 1, 2)]
    assert not found[3].exists()
    assert not info.notes  # the image that is missing is not one without objects


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    renamed(tmp_path, "{}.png")
    rename(tmp_path / "train.json", ["/a/shot0.png", "/b/shot0.png", "/a/shot2.png", "/a/shot3.png"])
    with pytest.raises(UsageError, match=r"/a/shot0.png and /b/shot0.png would both be .*images/train/shot0.png"):
        detect(tmp_path)
