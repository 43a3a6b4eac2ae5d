"""Faults planted in copies of the real datasets are found, each in its place; what is clean is not accused."""

# ruff: noqa: E501 (a table of cases reads better with one case a line)
from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.codecs.panoptic_png import encode_panoptic_png, read_panoptic_png
from segcli.data.checking.check import KINDS, CheckReport, check
from segcli.data.checking.mend import mended, unmended
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect, detect_for_checking
from segcli.data.formats import formats
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scenes, things_only
from tests.data.subsets import subset

Plant = Callable[[Path], str]  # breaks something, and names the file that is to be accused
NAMES = ("facade", "everyday", "coco", "nuclei")
FORMAT = {"everyday": "coco-instance"}
_ABOUT_THE_WHOLE = {"unseen", "imbalance"}  # a few images of a dataset have few objects of most classes


@pytest.fixture(scope="module")
def clean(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five training and five validation images of each."""
    root = tmp_path_factory.mktemp("clean")
    return {name: subset(shared_dir, name, root / name, 5) for name in NAMES}


@pytest.fixture(scope="module")
def before(clean: dict[str, Path]) -> dict[str, Counter[str]]:
    """What is found in them as they are."""
    return {name: found(run(root, FORMAT.get(name))) for name, root in clean.items()}


def run(root: Path, format: str | None = None) -> CheckReport:
    return check(detect_for_checking(root, format=format), threads=2)


def found(report: CheckReport) -> Counter[str]:
    return Counter(finding.kind for finding in report.findings if finding.kind not in _ABOUT_THE_WHOLE)


# ------------------------------------------------------------------------------------------------ how to break things


def rows(name: str, change: Callable[[dict[str, Any]], str]) -> Plant:
    """Edit the JSON of the training split."""

    def plant(root: Path) -> str:
        file = root / f"{name}_train.json"
        raw = json.loads(file.read_text())
        accused = change(raw)
        file.write_text(json.dumps(raw))
        return accused

    return plant


def image_of(raw: dict[str, Any], row: dict[str, Any]) -> str:
    return next(str(image["file_name"]) for image in raw["images"] if image["id"] == row["image_id"])


def annotation(change: Callable[[dict[str, Any]], object]) -> Plant:
    """Change the largest object (with polygons) of the COCO training file that was not changed before."""

    def edit(raw: dict[str, Any]) -> str:
        fitting = [row for row in raw["annotations"] if isinstance(row["segmentation"], list) and "broken" not in row]
        row = max(fitting, key=lambda row: float(row["area"]))
        row["broken"] = True
        change(row)
        return image_of(raw, row)

    return rows("instances", edit)


def repeated_object(raw: dict[str, Any]) -> str:
    whole = [row for row in raw["annotations"] if not row["iscrowd"] and "broken" not in row]
    row = max(whole, key=lambda row: float(row["area"]))
    raw["annotations"].append(row | {"id": 1 << 40, "broken": True})
    return image_of(raw, row)


def repeated_id(raw: dict[str, Any]) -> str:
    raw["annotations"][1]["id"] = raw["annotations"][0]["id"]
    return "instances_train.json"


def without_mask(raw: dict[str, Any]) -> str:
    raw["annotations"][0]["segmentation"] = []
    return "instances_train.json"


def image_twice(raw: dict[str, Any]) -> str:
    raw["images"].append(raw["images"][0] | {"id": 1 << 40})
    return str(raw["images"][0]["file_name"])


def segment(change: Callable[[dict[str, Any], list[dict[str, Any]]], object]) -> Plant:
    """Change the first segment of the first image of the panoptic training file."""

    def edit(raw: dict[str, Any]) -> str:
        row = raw["annotations"][0]
        change(row["segments_info"][0], row["segments_info"])
        return image_of(raw, row)

    return rows("panoptic", edit)


def without_annotation(raw: dict[str, Any]) -> str:
    raw["annotations"].pop()
    return "panoptic_train.json"


def id_map(change: Callable[[np.ndarray], object]) -> Plant:
    """Change the first id map of the panoptic training split."""

    def plant(root: Path) -> str:
        raw = json.loads((root / "panoptic_train.json").read_text())
        file = root / "panoptic_train" / raw["annotations"][0]["file_name"]
        ids = read_panoptic_png(file)
        change(ids)
        file.write_bytes(encode_panoptic_png(ids))
        return image_of(raw, raw["annotations"][0])

    return plant


def first(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def cut(pattern: str) -> Plant:
    def plant(root: Path) -> str:
        file = first(root, pattern)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        return file.name

    return plant


def remove(pattern: str) -> Plant:
    def plant(root: Path) -> str:
        file = first(root, pattern)
        file.unlink()
        return file.name

    return plant


def smaller_label(root: Path) -> str:
    file = first(root, "train/labels/*")
    Image.fromarray(np.zeros((8, 9), dtype=np.uint16)).save(file)
    return file.name


def leak(root: Path) -> str:
    """A validation image, smaller, brighter and compressed again, among the training images."""
    file, label = first(root, "val/images/*"), first(root, "val/labels/*")
    with Image.open(file) as image, Image.open(label) as objects:
        half = (image.width // 2, image.height // 2)
        image.convert("RGB").resize(half).point(lambda value: value * 0.9 + 20).save(
            root / "train/images/leak.jpg", quality=80
        )
        objects.resize(half, Image.Resampling.NEAREST).save(root / "train/labels/leak.png")
    return "leak.jpg"


def same_file(root: Path) -> str:
    """One image in both files, as when a list was cut carelessly."""
    train, val = (json.loads((root / f"instances_{split}.json").read_text()) for split in ("train", "val"))
    train["images"].append(val["images"][0] | {"id": 1 << 41})
    (root / "instances_train.json").write_text(json.dumps(train))
    return str(val["images"][0]["file_name"])


def crowded(root: Path) -> str:
    """200 specks of one pixel and more in an image."""
    file = first(root, "train/labels/*")
    with Image.open(file) as image:
        objects = np.zeros((image.height, image.width), dtype=np.uint16)
    objects[:40:2, :20:2] = np.arange(1, 201).reshape(20, 10)
    Image.fromarray(objects).save(file)
    return file.name


def foreign_mask(root: Path) -> str:
    """Black and white: every object is the same one."""
    (root / "dataset.toml").write_text('format = "instance-png"\n')  # of so few maps one that is odd leaves doubt
    file = first(root, "train/labels/*")
    objects = np.zeros((90, 90), dtype=np.uint16)
    objects.reshape(9, 10, 9, 10)[:, 2:8, :, 2:8] = 255
    with Image.open(file) as image:
        size = image.size
    Image.fromarray(objects).resize(size, Image.Resampling.NEAREST).save(file)
    return file.name


def orphan(root: Path) -> str:
    shutil.copyfile(first(root, "train/labels/*"), root / "train/labels/nobody.png")
    return "nobody.png"


def turned(root: Path) -> str:
    """A tag that turns the picture for everybody but the JSON."""
    raw = json.loads((root / "instances_train.json").read_text())
    name = next(i["file_name"] for i in raw["images"] if i["width"] != i["height"])
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(root / "images" / name) as image:
        image.convert("RGB").save(root / "images" / name, exif=exif)
    return str(name)


def tagged(orientation: int) -> Callable[[Path], str]:
    """A tag that turns the picture to another one of the same size, for everybody but the JSON."""

    def plant(root: Path) -> str:
        raw = json.loads((root / "instances_train.json").read_text())
        largest = max((row for row in raw["annotations"] if not row["iscrowd"]), key=lambda row: row["area"])
        name = next(i["file_name"] for i in raw["images"] if i["id"] == largest["image_id"])
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(root / "images" / name) as image:
            image.convert("RGB").save(root / "images" / name, exif=exif, quality=95)
        return str(name)

    return plant


def box_area(row: dict[str, Any]) -> None:
    row["area"] = row["bbox"][2] * row["bbox"][3]


def far_out(row: dict[str, Any]) -> None:
    row["segmentation"][0][0] += 5000


def outside(row: dict[str, Any]) -> None:
    row["segmentation"] = [[9000, 9000, 9100, 9000, 9100, 9100]]


def flat(row: dict[str, Any]) -> None:
    row["segmentation"] = [[10, 10, 30, 10, 50, 10]]


def over_first(raw: dict[str, Any]) -> str:
    """A box over the first object that is no crowd."""
    row = next(row for row in raw["annotations"] if not row["iscrowd"])
    x, y, w, h = row["bbox"]
    box = [x, y, x + w, y, x + w, y + h / 2, x, y + h / 2]
    raw["annotations"].append(
        {"id": 1 << 40, "image_id": row["image_id"], "category_id": 1 + row["category_id"] % 20, "segmentation": [box]}
    )
    return image_of(raw, row)


def set_row(**values: Any) -> Callable[..., object]:
    return lambda row, *rest: row.update(values)


@dataclass
class Planted:
    """What is broken in which dataset, and what must be said: the kind, and that the fault is of the file."""

    name: str
    data: str
    plant: Plant
    kind: str
    words: str = ""
    others: tuple[str, ...] = ()  # findings that follow from the same fault


PLANTED = [
    Planted("truncated JPEG", "coco", cut("images/*.jpg"), "unreadable", "damaged or truncated"),
    Planted("missing image", "facade", remove("images/*.jpg"), "unreadable", "no such file"),
    Planted("missing id map", "facade", remove("panoptic_val/*.png"), "unreadable", "no such file"),
    Planted("truncated label", "nuclei", cut("train/labels/*"), "unreadable", "cannot be read"),
    Planted("label of another size", "nuclei", smaller_label, "unreadable", "9×8 pixels"),
    Planted("id that the JSON lacks", "facade", id_map(lambda ids: ids.__setitem__((slice(9), slice(9)), 77_777)), "bad-row", "77777", ("area", "box")),
    Planted("listed segment that is gone", "facade", segment(lambda row, all_rows: all_rows.append(row | {"id": 99_999})), "no-pixels", "segment 99999"),
    Planted("segment listed twice", "facade", segment(lambda row, all_rows: all_rows.append(dict(row))), "repeated-id", "another segment", ("no-pixels",)),
    Planted("all void", "facade", id_map(lambda ids: ids.fill(0)), "all-void", "void", ("no-pixels",)),
    Planted("panoptic area", "facade", segment(set_row(area=7)), "area", "area 7 in the file"),
    Planted("panoptic box", "facade", segment(set_row(bbox=[0, 0, 5, 5])), "box", "bbox 0, 0, 5, 5"),
    Planted("panoptic image without annotation", "facade", rows("panoptic", without_annotation), "unannotated", "1 image without"),
    Planted("area", "coco", annotation(set_row(area=5)), "area", "area 5 in the file"),
    Planted("area of the box", "coco", annotation(box_area), "area", "in the file (its box's), "),
    Planted("box in corners, not sides", "coco", annotation(lambda row: row.update(bbox=[row["bbox"][0] + 40, 1, 2, 3])), "box", "bbox"),
    Planted("polygon far out", "coco", annotation(far_out), "off-image", "out of the image", ("area", "box", "overlap")),
    Planted("polygon outside", "coco", annotation(outside), "off-image", "lies outside"),
    Planted("polygon without area", "coco", annotation(flat), "no-pixels", "covers no pixel"),
    Planted("object over another", "everyday", rows("instances", over_first), "overlap", "share", ("off-image",)),
    Planted("object twice", "coco", rows("instances", repeated_object), "twice", "the same object (IoU 1.00)", ("overlap",)),
    Planted("annotation id twice", "coco", rows("instances", repeated_id), "repeated-id", "used more than once"),
    Planted("annotation without mask", "coco", rows("instances", without_mask), "no-mask", "1 annotation has no mask"),
    Planted("image twice", "coco", rows("instances", image_twice), "listed-twice", "2 times"),
    Planted("leaked image", "nuclei", leak, "leakage", "show the same"),
    Planted("image in both splits", "coco", same_file, "leakage", "is in both"),
    Planted("turned by its tag", "coco", turned, "rotation", "EXIF tag (6)"),
    Planted("upside down by its tag", "coco", tagged(3), "rotation", "EXIF tag (3), its masks are not (so says where"),
    Planted("mirrored by its tag", "coco", tagged(2), "rotation", "EXIF tag (2), its masks are not (so says where"),
    Planted("more objects than queries", "nuclei", crowded, "crowded", "200 objects"),
    Planted("mask of all objects", "nuclei", foreign_mask, "pieces", "one object of 81 separate parts"),
    Planted("label without image", "nuclei", orphan, "orphan", "1 label maps without an image"),
]  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED, ids=[planted.name for planted in PLANTED])
def test_planted_faults_are_found(
    clean: dict[str, Path], before: dict[str, Counter[str]], tmp_path: Path, planted: Planted
) -> None:
    root = tmp_path / planted.data
    shutil.copytree(clean[planted.data], root)
    if planted.data == "everyday":
        for file in root.glob("panoptic*.json"):
            file.unlink()
    accused = planted.plant(root)
    report = run(root)
    findings = [f for f in report.of_kind(planted.kind) if Path(accused).stem in f.message]
    assert findings, [f.message for f in report.findings]
    assert any(planted.words in finding.message for finding in findings)
    assert all("\n" not in finding.message for finding in report.findings)
    new = found(report) - before[planted.data]
    assert set(new) <= {planted.kind, *planted.others}
    assert KINDS.keys() >= set(new)


def test_clean_copies_are_not_accused(before: dict[str, Counter[str]]) -> None:
    """But for what is true: objects in front of others, COCO's areas of crowds."""
    allowed = {"facade": set(), "everyday": {"overlap"}, "coco": {"overlap", "area"}, "nuclei": {"crowded"}}
    for name, counts in before.items():
        assert set(counts) <= allowed[name]


def test_classes_that_cannot_be_learnt(tmp_path: Path) -> None:
    splits = things_only(scenes(train=12))
    for shot in splits["train"]:
        shot.ids = [1] * len(shot.ids)
    splits["train"][0].ids[0] = 7
    splits["val"][0].ids = [7] * len(splits["val"][0].ids)
    report = run(layouts.coco_instance(tmp_path / "a", splits, THINGS))
    assert [f.message for f in report.of_kind("imbalance")] == ["box: 1 object to train on, 23 × fewer than disc"]
    splits["train"][0].ids[0] = 1
    report = run(layouts.coco_instance(tmp_path / "b", splits, THINGS))
    assert [f.message for f in report.of_kind("unseen")] == ["box: no objects to train on but some in val"]


def test_data_for_measuring_alone_can_be_checked(tmp_path: Path) -> None:
    report = run(layouts.coco_instance(tmp_path, {"val": things_only(scenes())["val"]}, THINGS))
    assert ([split.name for split in report.splits], report.findings) == (["val"], [])


def mend(root: Path, out: Path, format: str | None = None) -> CheckReport:
    """-> what is left to find in the cleaned copy."""
    info = detect_for_checking(root, format=format)
    report = check(info, threads=2)
    write_dataset(mended(info, report), out, writer_for(formats()[info.format].WRITTEN_AS, info))
    return check(detect_for_checking(out), threads=2)


def test_one_image_is_no_leak_and_stays(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path / "one", {"train": things_only(scenes())["train"][:1]}, THINGS)
    assert not mend(tmp_path / "one", tmp_path / "mended").of_kind("leakage")
    assert {name: len(records) for name, records in detect(tmp_path / "mended").splits.items()} == {
        "train": 1,
        "val": 1,
    }


APART = ("segment listed twice", "all void", "id that the JSON lacks", "turned by its tag")  # they hide others
MENDED = [p for p in PLANTED if p.kind not in ("overlap", "crowded", "unreadable") and p.name not in APART]


@pytest.mark.parametrize("data", ["facade", "coco", "nuclei"])
def test_a_cleaned_copy_is_clean(clean: dict[str, Path], tmp_path: Path, data: str) -> None:
    root = tmp_path / "broken"
    shutil.copytree(clean[data], root)
    kinds = set()
    for planted in MENDED:
        if planted.data == data:
            planted.plant(root)
            kinds.add(planted.kind)
    report = run(root)
    assert kinds <= set(found(report))
    rest = {finding.kind for finding in unmended(report)}
    assert set(found(mend(root, tmp_path / "clean"))) <= rest


def test_turned_masks_lie_on_the_upright_image(clean: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(clean["coco"], root)
    name = turned(root)
    mend(root, tmp_path / "clean")
    before = {sample.file.name: sample for sample in samples(clean["coco"])}
    after = {sample.file.name: sample for sample in samples(tmp_path / "clean")}
    assert after.keys() == before.keys()
    np.testing.assert_array_equal(after[name].masks, np.rot90(before[name].masks, -1, axes=(1, 2)))


def samples(root: Path) -> Iterator[Any]:
    info = detect(root)
    return (sample for split in info.splits for sample in open_split(info, split))


def test_an_image_that_leaks_is_left_out_of_training(tmp_path: Path) -> None:
    splits = things_only(scenes(train=6))
    splits["train"][2].image = splits["val"][1].image
    layouts.coco_instance(tmp_path / "data", splits, THINGS)
    assert found(mend(tmp_path / "data", tmp_path / "clean")) == {}
    info = detect(tmp_path / "clean")
    assert [len(records) for records in info.splits.values()] == [5, 2]


def test_semantic_data_has_nothing_wrong_without_reason(tmp_path: Path) -> None:
    assert found(run(layouts.semantic(tmp_path / "a", scenes()))) == {}
    assert found(run(layouts.camvid(tmp_path / "b", scenes(), LABELS))) == {}


def test_tiny_objects_are_told_the_options_of_train(tmp_path: Path) -> None:
    """The same advice as train gives, before it."""
    for number in range(2):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((1000, 1200, 3), np.uint8)).save(tmp_path / f"images/{number}.png")
    polygon = [[10, 10, 20, 10, 20, 20, 10, 20]]
    raw = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 1000, "width": 1200} for n in range(2)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": polygon} for n in range(2)],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(raw))
    advice = check(detect(tmp_path, training=False), threads=1).advice
    assert advice is not None
    assert "under 5 pixels across at a short side of 512" in advice
    assert "--tile 120 --short-side 384" in advice
