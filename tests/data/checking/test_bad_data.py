"""Every way in which data can be wrong, with the line the user gets: it names the file, the value and the remedy."""

# ruff: noqa: E501 (a table of cases reads better with one case a line)
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.data.checking.scan import scan
from segcli.data.detect import detect
from segcli.errors import UsageError
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scene, scenes, things_only

Break = Callable[[Path], object]


@dataclass
class Bad:
    """How to make it, and what the message must hold. usage: refused with exit code 2; else one image is reported."""

    name: str
    make: Break
    words: list[str]
    usage: bool = True


def edit(file: str, change: Callable[[Any], object]) -> Break:
    def apply(root: Path) -> None:
        raw = json.loads((root / file).read_text())
        change(raw)
        layouts.save_json(root / file, raw)

    return apply


def panoptic(*breaks: Break) -> Break:
    return lambda root: [step(layouts.coco_panoptic(root, scenes(), LABELS)) for step in breaks]


def coco(*breaks: Break, form: str = "rle") -> Break:
    def make(root: Path) -> None:
        layouts.coco_instance(root, things_only(scenes()), THINGS, form=form)
        for step in breaks:
            step(root)

    return make


def semantic(*breaks: Break) -> Break:
    def make(root: Path) -> None:
        layouts.semantic(root, scenes())
        rows = [f'[[classes]]\nid = {x.id}\nname = "{x.name}"\n' for x in LABELS]
        (root / "dataset.toml").write_text("\n".join(rows))
        for step in breaks:
            step(root)

    return make


def yolo(line: str) -> Break:
    return lambda root: (
        layouts.yolo(root, things_only(scenes()), THINGS) / "labels" / "train" / "shot1.txt"
    ).write_text(line)


def write(file: str, data: bytes | str) -> Break:
    def apply(root: Path) -> None:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(data.encode() if isinstance(data, str) else data)

    return apply


def cut(file: str) -> Break:
    return lambda root: (root / file).write_bytes((root / file).read_bytes()[:-200])


def remove(file: str) -> Break:
    return lambda root: (root / file).unlink()


def label(file: str, pixels: np.ndarray) -> Break:
    return lambda root: layouts.save(root / file, pixels)


def tag(file: str) -> Break:
    """A rotation tag on a picture that was annotated without one."""

    def apply(root: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(root / file).save(root / file, exif=exif)

    return apply


def set_value(raw: Any, *path: Any) -> None:
    *keys, last, value = path
    for key in keys:
        raw = raw[key]
    raw[last] = value


def both_kinds(root: Path) -> None:
    """Label maps {0, 1}, one blob an image: one object each, or one class?"""
    for split in ("train", "val"):
        for shot in scenes()[split]:
            layouts.save(root / split / "images" / f"{shot.name}.png", shot.image)
            layouts.save(root / split / "masks" / f"{shot.name}.png", shot.masks[1].astype(np.uint8))


def binary_255(root: Path) -> None:
    both_kinds(root)
    for file in root.glob("*/masks/*.png"):
        layouts.save(file, (np.asarray(Image.open(file)) * 255).astype(np.uint8))


TRAIN, PAN, COCO = "annotations/instances_train2017.json", "panoptic_train.json", "train2017/shot1.png"
COLOURS = np.stack([scene(1).image[..., 0], scene(1).masks[0] * np.uint8(9), scene(1).masks[1] * np.uint8(7)], axis=-1)
JPEG = Image.fromarray(scene(1).image)

CASES = [
    # nothing there, or too much
    Bad("no folder", lambda root: None, ["no such folder"]),
    Bad("empty folder", lambda root: (root / "x").mkdir(parents=True), ["no dataset recognised", "dataset.toml"]),
    Bad("one folder too high", lambda root: [coco()(root / name) for name in ("one", "two")], ["no dataset here", "folder one, two"]),
    Bad("two formats", lambda root: (coco()(root), yolo("")(root)), ["--format coco-instance", "--format yolo-seg"]),
    Bad("objects or classes", both_kinds, ["--format instance-png", "--format semantic-png"]),
    Bad("0 and 255 only", lambda root: (binary_255(root), write("dataset.toml", 'format = "semantic-png"')(root)), ["only 0 and 255", "ignore = []"]),
    Bad("0 and 255 only, with names", lambda root: (binary_255(root), write("classes.txt", "background\nroad\n")(root)), ["only 0 and 255", "ignore = []"]),
    Bad("two files a split", coco(lambda root: shutil.copy(root / TRAIN, root / "annotations/instances_train_b.json")), ["several COCO instance files", "instances_train_b.json", "annotations ="]),
    Bad("only a validation split", lambda root: layouts.coco_instance(root, {"val": scenes()["val"]}, LABELS), ["no images to train on", "only val"]),
    # COCO
    Bad("JSON cut short", coco(cut(TRAIN)), ["instances_train2017.json", "not valid JSON"]),
    Bad("image id twice", coco(edit(TRAIN, lambda r: set_value(r, "images", 1, "id", 0))), ["two images share an id"]),
    Bad("category id twice", coco(edit(TRAIN, lambda r: set_value(r, "categories", 1, "id", 1))), ["two categories share an id"]),
    Bad("boxes only", coco(edit(TRAIN, lambda r: [a.update(segmentation=[]) for a in r["annotations"]])), ["boxes and no masks", "polygons"]),
    Bad("names differ", coco(edit(TRAIN, lambda r: set_value(r, "categories", 0, "name", "cat"))), ["category 1", "'cat'", "'disc'"]),
    Bad("images elsewhere", coco(edit(TRAIN, lambda r: [i.update(file_name=f"x/{i['id']}.jpg") for i in r["images"]])), ["x/0.jpg", "[train] images"]),
    Bad("image of another size", coco(edit(TRAIN, lambda r: set_value(r, "images", 0, "height", 400)), form="polygon"), ["shot0.png", "56×40 pixels", "56×400"], usage=False),
    Bad("width and height swapped", coco(edit(TRAIN, lambda r: r["images"][0].update(width=40, height=56)), form="polygon"), ["shot0.png", "56×40 pixels, but 40×56", "(they look swapped)"], usage=False),
    Bad("turned by its tag", coco(tag("train2017/shot0.png"), form="polygon"), ["shot0.png", "40×56 pixels, but 56×40", "has a rotation tag"], usage=False),
    Bad("missing image", coco(remove(COCO)), [COCO, "no such file"], usage=False),
    Bad("truncated image", coco(cut(COCO)), [COCO, "truncated"], usage=False),
    Bad("empty image file", coco(write(COCO, b"")), [COCO, "0 bytes"], usage=False),
    Bad("text for an image", coco(write(COCO, b"<html>404</html>")), [COCO, "not a picture"], usage=False),
    Bad("class names twice", coco(edit(TRAIN, lambda r: set_value(r, "categories", 0, "name", "box")), edit("annotations/instances_val2017.json", lambda r: set_value(r, "categories", 0, "name", "box"))), ["instances_", "classes 1 and 7", "'box'", "rename one"]),
    Bad("class without a name", coco(edit(TRAIN, lambda r: set_value(r, "categories", 1, "name", "")), edit("annotations/instances_val2017.json", lambda r: set_value(r, "categories", 1, "name", ""))), ["instances_", "class 7", "empty name", "dataset.toml"]),
    Bad("crowds only", coco(edit(TRAIN, lambda r: [a.update(iscrowd=1) for a in r["annotations"]])), ["objects of the training images are marked as crowds (iscrowd = 1", "CVAT", "set iscrowd to 0"]),
    Bad("no annotation", coco(edit(TRAIN, lambda r: r.update(annotations=[]))), ["no object in any of the 4 training images", "annotations are empty"]),
    # COCO panoptic
    Bad("no isthing", panoptic(edit(PAN, lambda r: [c.pop("isthing") for c in r["categories"]])), ["'disc'", "thing", "dataset.toml"]),
    Bad("id map missing", panoptic(remove("panoptic_train/shot1.png")), ["panoptic_train/shot1.png", "no such file"], usage=False),
    Bad("id map of another size", panoptic(label("panoptic_train/shot1.png", np.zeros((8, 9, 3), np.uint8))), ["shot1.png", "9×8 pixels", "56×40"], usage=False),
    Bad("all things are crowds", panoptic(edit(PAN, lambda r: [s.update(iscrowd=s["category_id"] != 90) for row in r["annotations"] for s in row["segments_info"]])), ["objects of the training images are marked as crowds"]),
    Bad("grey id map", panoptic(label("panoptic_train/shot1.png", np.zeros((40, 56), np.uint8))), ["panoptic_train/shot1.png", "RGB PNG"], usage=False),
    # label maps
    Bad("value of no class", semantic(label("train/labels/shot1.png", np.full((40, 56), 37, np.uint8))), ["train/labels/shot1.png", "label 37", "allowed: 1, 7, 90", "ignored: 255"]),
    Bad("colours undeclared", semantic(label("train/labels/shot1.png", COLOURS)), ["train/labels/shot1.png", "colours", "class_dict.csv"]),
    Bad("label of another size", semantic(label("train/labels/shot1.png", np.ones((4, 5), np.uint8))), ["shot1.png", "5×4 pixels", "56×40"], usage=False),
    Bad("label missing", semantic(remove("train/labels/shot1.png")), ["train/labels/shot1.png", "no such file"], usage=False),
    Bad("label truncated", semantic(cut("train/labels/shot1.png")), ["train/labels/shot1.png", "export it again"], usage=False),
    Bad("label in JPEG", semantic(remove("train/labels/shot1.png"), lambda root: JPEG.save(root / "train/labels/shot1.jpg")), ["shot1.jpg", "JPEG", "PNG"], usage=False),
    Bad("two labels an image", semantic(label("train/labels/shot1_mask.png", np.ones((40, 56), np.uint8))), ["shot1_mask.png", "same image"]),
    Bad("colour of no class", lambda root: label("train_labels/shot1_L.png", COLOURS)(layouts.camvid(root, scenes(), LABELS)), ["shot1_L.png", "colour", "belongs to no class"]),
    # Pascal VOC
    Bad("VOC value", lambda root: label("SegmentationClass/shot1.png", np.full((40, 56), 99, np.uint8))(layouts.voc(root, things_only(scenes()), THINGS)), ["SegmentationClass/shot1.png", "label 99", "allowed: 0–7"]),
    Bad("VOC list", lambda root: write("ImageSets/Segmentation/train.txt", "nobody\n")(layouts.voc(root, things_only(scenes()), THINGS)), ["train.txt", "'nobody'"]),
    Bad("VOC colours", lambda root: label("SegmentationClass/shot1.png", COLOURS)(layouts.voc(root, things_only(scenes()), THINGS)), ["SegmentationClass/shot1.png", "belongs to no class"]),
    Bad("CVAT colour", lambda root: label("SegmentationClass/shot1.png", COLOURS)(layouts.cvat_masks(root, things_only(scenes()), THINGS)), ["SegmentationClass/shot1.png", "colour (", "no class"]),
    Bad("CVAT without images", lambda root: shutil.rmtree(layouts.cvat_masks(root, things_only(scenes()), THINGS) / "JPEGImages"), ["no images", "Save images", "JPEGImages"]),
    Bad("CVAT label map", lambda root: (layouts.cvat_masks(root, things_only(scenes()), THINGS) / "labelmap.txt").write_text("disc 1 2 3\n"), ["labelmap.txt:1", "'disc 1 2 3'", "name:r,g,b::"]),
    Bad("CVAT colour twice", lambda root: (layouts.cvat_masks(root, things_only(scenes()), THINGS) / "labelmap.txt").write_text("disc:1,2,3::\nbox:1,2,3::\n"), ["labelmap.txt", "a color of its own"]),
    # YOLO
    Bad("YOLO without labels", lambda root: shutil.rmtree(layouts.yolo(root, things_only(scenes()), THINGS) / "labels/train"), ["no object in any of the 4 training images", "looked for", "labels/train/shot0.txt"]),
    Bad("YOLO folders", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names: [a]\ntrain: nowhere\n"), ["data.yaml", "'nowhere'", "correct train"]),
    Bad("YOLO names twice", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names: [a, a]\ntrain: images/train\n"), ["data.yaml", "classes 0 and 1", "'a'"]),
    Bad("YOLO names", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names:\ntrain: images/train\n"), ["data.yaml", "names is null"]),
    Bad("YOLO number of names", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names: 1\ntrain: images/train\n"), ["data.yaml", "names is 1"]),
    Bad("YOLO names", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names: 5\ntrain: images/train\n"), ["data.yaml", "names is 5", "as a list"]),
    Bad("YOLO train empty", lambda root: (layouts.yolo(root, things_only(scenes()), THINGS) / "data.yaml").write_text("names: [a, b]\ntrain:\nval: images/val\n"), ["no images to train on", "as train in", "data.yaml"]),
    # labelme
    Bad("labelme size", lambda root: edit("train/shot1.json", lambda r: set_value(r, "imageWidth", 5))(layouts.labelme(root, things_only(scenes()), THINGS)), ["shot1.png", "5×40"], usage=False),
    # dataset.toml
    Bad("images are their labels", semantic(write("dataset.toml", 'format = "instance-png"\ntrain.images = "train/labels"\ntrain.labels = "train/labels"')), ["dataset.toml", "train/labels", "a folder of their own"]),
    Bad("broken TOML", semantic(write("dataset.toml", "classes = [")), ["dataset.toml", "not valid TOML"]),
    Bad("unknown key", semantic(write("dataset.toml", "colour = 1")), ["dataset.toml", "has no key 'colour'"]),
    Bad("unknown format", semantic(write("dataset.toml", 'format = "png"')), ["png", "unknown format", "coco-panoptic"]),
    Bad("impossible task", semantic(write("dataset.toml", 'task = "instance"\nclasses = ["a", "b"]\n')), ["--task instance", "possible here: semantic"]),
    Bad("things of no class", panoptic(write("dataset.toml", 'things = ["dics"]')), ["dics", "disc, box, sky"]),
    Bad("path of nothing", panoptic(write("dataset.toml", '[train]\nimages = "nowhere"')), ["dataset.toml", "nowhere", "no such file or folder"]),
    Bad("one id twice", semantic(write("dataset.toml", '[[classes]]\nid = 1\nname = "a"\n[[classes]]\nid = 1\nname = "b"')), ["classes: 2 have the id 1"]),
    Bad("id in words", semantic(write("dataset.toml", '[[classes]]\nid = "road"\nname = "road"')), ["dataset.toml: [classes] entry 1 id = 'road'", "whole number"]),
    Bad("id of a fraction", semantic(write("dataset.toml", '[[classes]]\nid = 0.5\nname = "road"')), ["dataset.toml: [classes] entry 1 id = 0.5", "whole number"]),
    Bad("thing in words", semantic(write("dataset.toml", '[[classes]]\nid = 1\nname = "a"\nthing = "false"')), ["[classes] entry 1 thing = 'false'", "true or false"]),
    Bad("colour as a number", semantic(write("dataset.toml", '[[classes]]\nid = 1\nname = "a"\ncolor = 8388608')), ["[classes] entry 1 color = 8388608", "from 0 to 255"]),
    Bad("format of several", semantic(write("dataset.toml", 'format = ["voc"]')), ["dataset.toml: format = ['voc']", "text in quotes"]),
    Bad("images without labels", semantic(write("dataset.toml", 'format = "semantic-png"\n[train]\nimages = "train/images"')), ["dataset.toml: [train] names images alone", "images and labels"]),
    Bad("annotations of another kind", semantic(write("train/a.csv", "a,b"), write("dataset.toml", '[train]\nannotations = "train/a.csv"')), ["dataset.toml: [train] annotations", "a.csv", "no COCO file", "under labels"]),
    Bad("names in Latin-1", semantic(remove("dataset.toml"), write("classes.txt", "bg\nstraße".encode("latin-1"))), ["classes.txt", "not UTF-8 (byte 7 is 0xdf)"]),
    Bad("colours in Latin-1", semantic(remove("dataset.toml"), write("class_dict.csv", "name,r,g,b\nstraße,0,0,0".encode("latin-1"))), ["class_dict.csv", "not UTF-8"]),
    Bad("bad colour", semantic(write("dataset.toml", '[[classes]]\nid = 1\nname = "a"\ncolor = [1, 2, 300]')), ["color = [1, 2, 300]", "from 0 to 255"]),
]  # fmt: skip


@pytest.mark.parametrize("bad", CASES, ids=[bad.name for bad in CASES])
def test_bad_data(tmp_path: Path, bad: Bad) -> None:
    root = tmp_path / "data"
    bad.make(root)
    if bad.usage:
        with pytest.raises(UsageError) as caught:
            scan(detect(root))
        message, code = str(caught.value), caught.value.exit_code
        assert code == 2
    else:
        info = detect(root)
        report = scan(info)
        assert len(report.problems) == 1
        message = report.problems[0].message
        assert sum(split.images for split in report.splits) == 5
        left = info.without(problem.file for problem in report.problems)
        assert sum(len(records) for records in left.splits.values()) == 5
        assert scan(left).problems == []
    assert "\n" not in message
    for word in bad.words:
        assert re.search(re.escape(word), message), f"{word!r} is not in {message!r}"


def test_every_file_with_a_strange_label_is_counted(tmp_path: Path) -> None:
    strange = np.full((40, 56), 37, np.uint8)
    semantic(label("train/labels/shot1.png", strange), label("train/labels/shot3.png", strange))(tmp_path)
    with pytest.raises(UsageError, match=r"shot1.png.*1 more file"):
        scan(detect(tmp_path))


def test_nothing_readable_to_train_on(tmp_path: Path) -> None:
    coco()(tmp_path)
    for file in (tmp_path / "train2017").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UsageError, match=r"no image to train on can be read; the first: .*0 bytes"):
        scan(detect(tmp_path))
