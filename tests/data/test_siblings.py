# ruff: noqa: E501  (a row a case)
"""Data as other tools and systems write it: every way to say the same thing gives the same objects."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.data.dataset import open_split
from segcli.data.detect import detect, detect_for_checking
from segcli.data.layouts.class_tables import voc_colour
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, save_json, scenes, things_only

OBJECTS = things_only(scenes(2, 1))


def totals(info: DatasetInfo) -> dict[str, tuple[int, int]]:
    """class -> (objects, pixels) over all splits."""
    found: dict[str, tuple[int, int]] = {}
    for split in info.splits:
        for sample in open_split(info, split):
            for label, rle in zip(sample.labels, sample.rles, strict=True):
                name = info.labels[int(label)].name
                before = found.get(name, (0, 0))
                found[name] = (before[0] + 1, before[1] + rle.area)
    return found


def drawn(splits: layouts.Splits = OBJECTS) -> dict[str, tuple[int, int]]:
    """The same of what was drawn."""
    found: dict[str, tuple[int, int]] = {}
    for shot in (shot for shots in splits.values() for shot in shots):
        for mask, label in zip(shot.masks, shot.ids, strict=True):
            name = next(known.name for known in LABELS if known.id == label)
            before = found.get(name, (0, 0))
            found[name] = (before[0] + 1, before[1] + int(mask.sum()))
    return found


def edited(file: Path, change: Callable[[Any], Any]) -> None:
    raw = json.loads(file.read_text())
    save_json(file, change(raw) or raw)


def each(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], None]:
    return lambda raw: [change(row) for row in raw["annotations"]] and None


COCO: dict[str, Callable[[Any], Any]] = {
    "numbers as floats": each(lambda row: row.update(image_id=float(row["image_id"]), category_id=float(row["category_id"]))),
    "ids null": each(lambda row: row.update(id=None)),
    "a part that is null": each(lambda row: row["segmentation"].append(None)),
    "corners as objects": each(lambda row: row.update(segmentation=[{"x": x, "y": y} for x, y in np.reshape(row["segmentation"][0], (-1, 2)).tolist()])),
    "images called path": lambda raw: [row.update(path="/x/" + row.pop("file_name")) for row in raw["images"]] and None,
    "images in another format since": lambda raw: [row.update(file_name=row["file_name"][:-4] + ".jpg") for row in raw["images"]] and None,
    "images without ending": lambda raw: [row.update(file_name=row["file_name"][:-4]) for row in raw["images"]] and None,
    "images behind an address": lambda raw: [row.update(file_name=f"https://host/b/{row['file_name']}?sig=a%2Fb") for row in raw["images"]] and None,
}  # fmt: skip


@pytest.mark.parametrize("change", COCO.values(), ids=COCO)
def test_coco_in_other_words(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    one = {"train": OBJECTS["train"]}
    layouts.coco_instance(tmp_path, one, THINGS, place=lambda split: ("images", "a.json"))
    edited(tmp_path / "a.json", change)
    assert totals(detect(tmp_path)) == drawn(one)


def test_fractions_where_pixels_belong_are_refused(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path, OBJECTS, THINGS)
    for file in tmp_path.glob("annotations/*.json"):
        edited(file, each(lambda row: row.update(segmentation=[[v / 56 for v in row["segmentation"][0]]])))
    with pytest.raises(UsageError, match="fractions of the image"):
        detect(tmp_path)


@pytest.mark.parametrize("place", [
    lambda split: (f"images/{split}", f"labels/{split}.json"),
    lambda split: ("images", f"images/{split}.json"),
    lambda split: (f"{split}/images", f"{split}/json/coco.json"),
    lambda split: (f"unzipped/{split}", f"unzipped/annotations/instances_{split}.JSON"),
])  # fmt: skip
def test_coco_files_anywhere(tmp_path: Path, place: Callable[[str], tuple[str, str]]) -> None:
    info = detect(layouts.coco_instance(tmp_path, OBJECTS, THINGS, place=place))
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 2, "val": 1}
    assert totals(info) == drawn()


def test_several_coco_files_are_parts_of_a_split(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path, OBJECTS, THINGS, place=lambda split: ("images", f"annotations/{split}.json"))
    whole = json.loads((tmp_path / "annotations/train.json").read_text())
    (tmp_path / "annotations/train.json").unlink()
    for number, image in enumerate(whole["images"]):
        rows = [row | {"image_id": 1} for row in whole["annotations"] if row["image_id"] == image["id"]]
        part = whole | {"images": [image | {"id": 1}], "annotations": rows}
        save_json(tmp_path / f"annotations/train_{number}.json", part)
    info = detect(tmp_path)
    assert totals(info) == drawn()
    assert len({record.image_id for record in info.splits["train"]}) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("kind", ["coco", "labelme", "yolo"])
def test_text_as_windows_writes_it(tmp_path: Path, kind: str, encoding: str) -> None:
    write = {"coco": layouts.coco_instance, "labelme": layouts.labelme, "yolo": layouts.yolo}[kind]
    write(tmp_path, OBJECTS, THINGS)
    for file in tmp_path.rglob("*"):
        if file.suffix in (".json", ".txt", ".yaml"):
            file.write_bytes(file.read_text().replace("\n", "\r\n").encode(encoding))
    assert totals(detect(tmp_path)) == drawn()


def labelme_shapes(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], Any]:
    return lambda raw: [change(shape) for shape in raw["shapes"]] and None


LABELME: dict[str, Callable[[Any], Any]] = {
    "numbers in a row": labelme_shapes(lambda shape: shape.update(points=np.ravel(shape["points"]).tolist())),
    "corners as objects": labelme_shapes(lambda shape: shape.update(points=[{"x": x, "y": y} for x, y in shape["points"]])),
    "capital letters": labelme_shapes(lambda shape: shape.update(shape_type="Polygon")),
    "turned rectangles": labelme_shapes(lambda shape: shape.update(shape_type="oriented_rectangle")),
    "empty group": labelme_shapes(lambda shape: shape.update(group_id="")),
    "no path": lambda raw: raw.pop("imagePath") and None,
    "path of another name": lambda raw: raw.update(imagePath="IMG_1.jpg"),
    "path of another format": lambda raw: raw.update(imagePath=raw["imagePath"][:-4] + ".jpg"),
}  # fmt: skip


@pytest.mark.parametrize("change", LABELME.values(), ids=LABELME)
def test_labelme_in_other_words(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    layouts.labelme(tmp_path, OBJECTS, THINGS)
    for file in tmp_path.glob("*/*.json"):
        edited(file, change)
    assert totals(detect(tmp_path)) == drawn()


def test_a_picture_in_an_address_of_data(tmp_path: Path) -> None:
    layouts.labelme(tmp_path, OBJECTS, THINGS)
    for file in tmp_path.glob("*/*.json"):
        photo = file.with_suffix(".png")
        text = "data:image/png;base64," + base64.encodebytes(photo.read_bytes()).decode()
        edited(file, lambda raw, text=text: raw.update(imageData=text))
        photo.unlink()
    assert totals(detect(tmp_path)) == drawn()


PAIRS = {
    "pictures + trimaps": ("pictures/{split}", "trimaps/{split}"),
    "a + b": ("a", "b"),
    "in splits": ("{split}/frames", "{split}/Ground Truth"),
}


@pytest.mark.parametrize("folders", PAIRS.values(), ids=PAIRS)
def test_label_maps_in_folders_of_any_name(tmp_path: Path, folders: tuple[str, str]) -> None:
    layouts.semantic(
        tmp_path, scenes(2, 1), place=lambda split: (folders[0].format(split=split), folders[1].format(split=split))
    )
    info = detect_for_checking(tmp_path, task="semantic")
    assert sorted(info.labels.ids) == [1, 7, 90]
    assert sum(map(len, info.splits.values())) == 3


def test_folders_that_could_both_hold_label_maps_are_named(tmp_path: Path) -> None:
    for folder in ("masks_a", "masks_b"):
        layouts.semantic(tmp_path, scenes(2, 1), place=lambda split, folder=folder: ("shots", folder))
    with pytest.raises(UsageError, match=r"masks_a/.*masks_b/"):
        detect(tmp_path)


def test_lists_of_names_divide(tmp_path: Path) -> None:
    layouts.semantic(tmp_path, scenes(2, 1), place=lambda split: ("images", "labels"))
    (tmp_path / "train.txt").write_text("images/shot0.png labels/shot0.png\nimages/shot1.png labels/shot1.png\n")
    (tmp_path / "val.txt").write_text("shot100\n")
    info = detect(tmp_path, task="semantic")
    assert {split: [record.image_id for record in records] for split, records in info.splits.items()} == {
        "train": ["shot0", "shot1"],
        "val": ["shot100"],
    }


@pytest.mark.parametrize(
    ("names", "val"),
    [
        (["my scan 1", "my scan 2", "my scan 3"], "my scan 3.jpg"),
        (["my scan 1", "my scan 2", "my scan 3"], "my scan 3"),
        (["scan.1", "scan.2", "scan.3"], "scan.3"),
        (["a/0", "b/0", "b/1"], "images/b/0.png labels/b/0.png"),
        (["a/0", "b/0", "b/1"], "b/0"),
        (["s1", "s2", "s3"], "S3.PNG"),
        (["s1", "s2", "s3"], "C:\\data\\images\\s3.png"),
    ],
)
def test_lists_spell_names_as_people_do(names: list[str], val: str, tmp_path: Path) -> None:
    for name in names:
        layouts.save(tmp_path / "images" / f"{name}.png", np.zeros((8, 8, 3), dtype=np.uint8))
        layouts.save(tmp_path / "labels" / f"{name}.png", np.eye(8, dtype=np.uint8))
    (tmp_path / "val.txt").write_text(f"{val}\n")
    info = detect(tmp_path, format="semantic-png")
    assert "divided by val.txt" in info.notes
    (record,) = info.splits["val"]
    assert record.image.place.as_posix().endswith(f"{names[1 if 'b/' in val else 2]}.png")


def test_a_list_of_names_that_are_not_here_is_told(tmp_path: Path) -> None:
    layouts.semantic(tmp_path, scenes(2, 1), place=lambda split: ("images", "labels"))
    (tmp_path / "val.txt").write_text("shot100\nshot200\n")
    notes = detect(tmp_path, task="semantic").notes
    assert f"{tmp_path / 'val.txt'} is not used: 1 of its 2 lines name an image, not shot200" in notes


@pytest.mark.parametrize("ends", [("L", "R"), ("img", "seg"), ("P", "L")])
def test_equal_names_are_pairs_whatever_they_end_in(ends: tuple[str, str], tmp_path: Path) -> None:
    names = ["p", *(f"p_{end}" for end in ends)]
    for number, name in enumerate(names):
        layouts.save(tmp_path / "images" / f"{name}.jpg", np.zeros((8, 8, 3), dtype=np.uint8))
        layouts.save(tmp_path / "masks" / f"{name}.png", np.full((8, 8), number, dtype=np.uint8))
    info = detect(tmp_path, format="semantic-png", training=False)
    pairs = {record.image_id: Path(str(record.truth)).stem for record in info.splits["all"]}
    assert pairs == {name: name for name in names}


def test_names_of_left_and_right_in_voc(tmp_path: Path) -> None:
    layouts.voc(tmp_path, scenes(2, 1), LABELS)
    for file in [*tmp_path.rglob("shot*.*")]:
        file.rename(file.with_name(f"{file.stem}_L{file.suffix}"))
    for file in tmp_path.rglob("*.txt"):
        if "ImageSets" in file.parts:
            file.write_text("".join(f"{line}_L\n" for line in file.read_text().split()))
    assert {name: len(records) for name, records in detect(tmp_path).splits.items()} == {"train": 2, "val": 1}


def test_a_coco_file_given_for_its_folder_is_the_one_that_is_read(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path, scenes(2, 1), LABELS, place=lambda split: (split, f"instances_{split}.json"))
    file = tmp_path / "instances_train.json"
    other = file.with_name("instances_train_again.json")
    raw = json.loads(file.read_text())
    save_json(other, raw | {"images": raw["images"][:1]})
    with pytest.raises(UsageError, match="list the same image"):
        detect(tmp_path)
    assert {name: len(records) for name, records in detect(file).splits.items()} == {"train": 2, "val": 1}
    assert {name: len(records) for name, records in detect(other).splits.items()} == {"train": 1, "val": 1}


NAMES = {
    "classes.txt": "0: void\n1: disc\n7: box\n90: sky\n",
    "labels.csv": "id;class\n1;disc\n7;box\n90;sky\n",
    "id2label.json": '{"1": "disc", "7": "box", "90": "sky"}',
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_classes_by_their_numbers(tmp_path: Path, name: str) -> None:
    layouts.semantic(tmp_path, scenes(2, 1))
    (tmp_path / name).write_text(NAMES[name])
    labels = detect(tmp_path).labels
    assert [(label.id, label.name) for label in labels if label.id] == [(1, "disc"), (7, "box"), (90, "sky")]


def test_palettes_are_read_by_their_declared_colours(tmp_path: Path) -> None:
    layouts.semantic(tmp_path, scenes(2, 1), nothing=0)
    colours = {0: (0, 0, 0), 1: (255, 0, 0), 7: (0, 255, 0), 90: (0, 0, 255)}
    for file in tmp_path.glob("*/labels/*.png"):
        ids = np.asarray(Image.open(file))
        image = Image.fromarray(
            sum((ids == i).astype(np.uint8) * n for n, i in enumerate((90, 7, 1, 0)))
        )  # in another order
        image.putpalette([v for i in (90, 7, 1, 0) for v in colours[i]])
        image.save(file)
    rows = "".join(f'[[classes]]\nid = {i}\nname = "c{i}"\ncolor = {list(c)}\n' for i, c in colours.items())
    (tmp_path / "dataset.toml").write_text("ignore = []\n" + rows)
    sizes = {name: pixels for name, (_, pixels) in totals(detect(tmp_path)).items()}
    assert sizes["c90"] == drawn(scenes(2, 1))["sky"][1]


@pytest.mark.parametrize("mode", ["red", "alpha", "palette"])
def test_black_and_white_in_colour(tmp_path: Path, mode: str) -> None:
    layouts.semantic(tmp_path, scenes(2, 1))
    for file in tmp_path.glob("*/labels/*.png"):
        mask = (np.asarray(Image.open(file)) == 90).astype(np.uint8) * 255
        zero = np.zeros_like(mask)
        if mode == "palette":
            image = Image.fromarray(mask // 255)
            image.putpalette([0, 0, 0, 255, 0, 0])
        else:
            image = Image.fromarray(np.dstack([mask, zero, zero] if mode == "red" else [zero + 255] * 3 + [mask]))
        image.save(file)
    assert totals(detect(tmp_path, binary=True))["object"][1] == drawn(scenes(2, 1))["sky"][1]


def test_objects_by_their_colours(tmp_path: Path) -> None:
    layouts.instance_maps(tmp_path, OBJECTS)
    colours = np.array([[0, 0, 0], *np.random.default_rng(0).integers(1, 255, (9, 3))], dtype=np.uint8)
    for file in tmp_path.glob("*/labels/*.png"):
        Image.fromarray(colours[np.asarray(Image.open(file))]).save(file)
    found = totals(detect(tmp_path, format="instance-png"))["object"]
    assert found == tuple(map(sum, zip(*drawn().values(), strict=True)))


def test_id_maps_by_the_names_of_their_photos(tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path, scenes(2, 1), LABELS)
    edited(
        tmp_path / "panoptic_train.json", each(lambda row: row.update(file_name=f"C:\\x\\{row['file_name'][:-4]}.jpg"))
    )
    edited(tmp_path / "panoptic_val.json", each(lambda row: row.pop("file_name")))
    assert totals(detect(tmp_path)) == drawn(scenes(2, 1))


def test_a_folder_around_the_dataset(tmp_path: Path) -> None:
    info = detect(layouts.yolo(tmp_path / "unzipped", OBJECTS, THINGS).parent)
    assert info.root == tmp_path / "unzipped"
    assert any("the dataset is in" in note for note in info.notes)
    shutil.copytree(tmp_path / "unzipped", tmp_path / "second")
    with pytest.raises(UsageError, match="second, unzipped"):
        detect(tmp_path)


YOLO: dict[str, Callable[[Path], Any]] = {
    "folders in capitals": lambda root: (
        [(root / name).rename(root / name.title()) for name in ("images", "labels")]
        and (root / "data.yaml").write_text("train: Images/train\nval: Images/val\nnames: [disc, box]\n")
    ),
    "labels in a folder of another name": lambda root: (root / "labels").rename(root / "annotations"),
    "endings in capitals": lambda root: [file.rename(file.with_suffix(".TXT")) for file in root.glob("labels/*/*")],
    "the list in labels": lambda root: (
        (root / "data.yaml").unlink(),
        (root / "labels/classes.txt").write_text("disc\nbox\n"),
    ),
    "the file in a folder": lambda root: (
        (root / "configs").mkdir(),
        (root / "data.yaml").rename(root / "configs/Data.YAML"),
    ),
    "names in quotes": lambda root: (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: \"['disc', 'box']\"\n"
    ),
    "names and their numbers": lambda root: (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: {disc: 0, box: 1}\n"
    ),
}


@pytest.mark.parametrize("change", YOLO.values(), ids=YOLO)
def test_yolo_in_other_words(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    change(layouts.yolo(tmp_path, OBJECTS, THINGS))
    assert totals(detect(tmp_path)) == drawn()


def test_voc_in_its_colours_without_a_palette(tmp_path: Path) -> None:
    splits = scenes(2, 1)
    layouts.voc(tmp_path, splits, LABELS)
    for file in tmp_path.glob("Segmentation*/*.png"):
        indices = np.asarray(Image.open(file))
        table = np.array([voc_colour(index) for index in range(256)], dtype=np.uint8)
        Image.fromarray(table[indices]).save(file)
    found = totals(detect(tmp_path))
    assert {name: found[name] for name in drawn(splits)} == drawn(splits)


def test_a_name_too_many_in_a_list_of_voc(tmp_path: Path) -> None:
    layouts.voc(tmp_path, scenes(2, 1), LABELS)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("JPEGImages/shot0.jpg\nshot1\nnobody\n")
    info = detect(tmp_path)
    assert [record.image_id for record in info.splits["train"]] == ["shot0", "shot1"]
    assert any("nobody" in fault.message for fault in info.faults)


@pytest.mark.parametrize("form", ["export", "older", "project", "csv"])
def test_vgg_image_annotator(tmp_path: Path, form: str) -> None:
    info = detect(layouts.via(tmp_path, OBJECTS, THINGS, form=form))
    assert (info.format, totals(info)) == ("via", drawn())
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 2, "val": 1}


def test_a_region_without_a_class_costs_itself(tmp_path: Path) -> None:
    layouts.via(tmp_path, OBJECTS, THINGS)

    def change(raw: Any) -> None:
        first = next(iter(raw.values()))["regions"]
        first[0]["region_attributes"]["class"] = ""
        first.append(
            {
                "shape_attributes": {"name": "ellipse", "cx": 40, "cy": 30, "rx": 5, "ry": 3},
                "region_attributes": {"class": "box"},
            }
        )

    edited(tmp_path / "train/via.json", change)
    info = detect(tmp_path)
    assert [fault.kind for fault in info.faults] == ["bad-row"]
    assert sum(count for count, _ in totals(info).values()) == sum(count for count, _ in drawn().values())
