"""Every layout is recognised without being named, and gives back the pixels, classes and ids that were written."""

# ruff: noqa: E501 (a table of cases reads better with one case a line)
from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.data.checking.check import check
from segcli.data.checking.facts import look
from segcli.data.checking.scan import scan
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.records import DatasetInfo
from segcli.errors import UsageError
from segcli.types import Label, LabelSet
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, Shot, Splits, scene, scenes, things_only


@dataclass
class Case:
    """name, how to write it, and what must be found. ids: a class id as written -> as found."""

    name: str
    write: Callable[[Path, Splits], Path]
    format: str
    task: str
    names: list[str]
    found_ids: list[int]
    only_things: bool = False
    ids: dict[int, int] = field(default_factory=dict)


def _classes(root: Path) -> Path:
    rows = [f'[[classes]]\nid = {x.id}\nname = "{x.name}"\n' for x in LABELS]
    (root / "dataset.toml").write_text("\n".join(rows))
    return root


NAMES = ["disc", "box", "sky"]
TRANSPOSED = lambda split: (f"images/{split}", f"masks/{split}")  # noqa: E731
FORMATS = [
    Case("panoptic", lambda r, s: layouts.coco_panoptic(r, s, LABELS), "coco-panoptic", "panoptic", NAMES, [1, 7, 90]),
    Case("panoptic-inside", lambda r, s: layouts.coco_panoptic(r, s, LABELS, inside=True), "coco-panoptic", "panoptic", NAMES, [1, 7, 90]),
    Case("coco", lambda r, s: layouts.coco_instance(r, s, THINGS), "coco-instance", "instance", NAMES[:2], [1, 7], True),
    Case("coco-rle", lambda r, s: layouts.coco_instance(r, s, THINGS, form="rle"), "coco-instance", "instance", NAMES[:2], [1, 7], True),
    Case("coco-counts", lambda r, s: layouts.coco_instance(r, s, THINGS, form="counts"), "coco-instance", "instance", NAMES[:2], [1, 7], True),
    Case("roboflow", lambda r, s: layouts.roboflow(r, s, THINGS), "coco-instance", "instance", NAMES[:2], [1, 7], True),
    Case("semantic", lambda r, s: _classes(layouts.semantic(r, s)), "semantic-png", "semantic", NAMES, [1, 7, 90]),
    Case("semantic-palette", lambda r, s: _classes(layouts.semantic(r, s, palette=True)), "semantic-png", "semantic", NAMES, [1, 7, 90]),
    Case("semantic-transposed", lambda r, s: _classes(layouts.semantic(r, s, place=TRANSPOSED)), "semantic-png", "semantic", NAMES, [1, 7, 90]),
    Case("semantic-nameless", layouts.semantic, "semantic-png", "semantic", ["class 1", "class 7", "class 90"], [1, 7, 90]),
    Case("instance-maps", layouts.instance_maps, "instance-png", "instance", ["object"], [1], True, {7: 1}),
    Case("yolo", lambda r, s: layouts.yolo(r, s, THINGS), "yolo-seg", "instance", NAMES[:2], [0, 1], True, {1: 0, 7: 1}),
    Case("labelme", lambda r, s: layouts.labelme(r, s, THINGS), "labelme", "instance", ["box", "disc"], [1, 2], True, {7: 1, 1: 2}),
    Case("camvid", lambda r, s: layouts.camvid(r, s, LABELS), "semantic-png", "semantic", NAMES, [0, 1, 2], False, {1: 0, 7: 1, 90: 2}),
]  # fmt: skip


def masks_of(shot: Shot, case: Case) -> list[tuple[int, bytes]]:
    """(class id, mask) of a shot as the case's task has it, in an order of its own."""
    pairs: dict[object, tuple[int, np.ndarray]] = {}
    for number, (mask, label) in enumerate(zip(shot.masks, shot.ids, strict=True)):
        key = label if case.task == "semantic" else number
        before = pairs[key][1] if key in pairs else False
        pairs[key] = (case.ids.get(label, label), mask | before)
    return sorted((label, mask.tobytes()) for label, mask in pairs.values())


@pytest.mark.parametrize("case", FORMATS, ids=[case.name for case in FORMATS])
def test_every_layout_is_found_and_read_exactly(tmp_path: Path, case: Case) -> None:
    splits = things_only(scenes()) if case.only_things else scenes()
    case.write(tmp_path, splits)
    info = detect(tmp_path)
    assert (info.format, info.task) == (case.format, case.task)
    assert (info.labels.names, info.labels.ids) == (case.names, case.found_ids)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 4, "val": 2}
    assert "\n" not in info.found
    for split, shots in splits.items():
        dataset = pickle.loads(pickle.dumps(open_split(info, split)))
        samples = {Path(sample.file).stem: sample for sample in dataset}
        for shot in shots:
            sample = samples[shot.name]
            np.testing.assert_array_equal(sample.image, shot.image)
            found = sorted(
                (info.labels[int(label)].id, mask.tobytes())
                for label, mask in zip(sample.labels, sample.masks, strict=True)
            )
            assert found == masks_of(shot, case)
    report = scan(info)
    assert report.problems == []
    assert [split.images for split in report.splits] == [4, 2]


def test_pixels_of_no_class_are_void_where_the_format_means_it(tmp_path: Path) -> None:
    nothing = ~scene(0).masks.any(axis=0)
    panoptic = open_split(detect(layouts.coco_panoptic(tmp_path / "a", scenes(), LABELS)), "train")[0]
    np.testing.assert_array_equal(panoptic.void, nothing)
    semantic = open_split(detect(_classes(layouts.semantic(tmp_path / "b", scenes()))), "train")[0]
    np.testing.assert_array_equal(semantic.void, nothing)
    np.testing.assert_array_equal(semantic.id_map() == 0, nothing)
    assert not np.any(open_split(detect(layouts.instance_maps(tmp_path / "c", scenes())), "train")[0].void)


def test_pascal_voc_is_panoptic_with_the_background_as_stuff(tmp_path: Path) -> None:
    labels = LabelSet((Label(1, "disc", True), Label(7, "box", True)))
    info = detect(layouts.voc(tmp_path, things_only(scenes()), labels))
    assert (info.format, info.task, info.labels.names[:2]) == ("voc", "panoptic", ["background", "disc"])
    shot, sample = things_only(scenes())["train"][2], open_split(info, "train")[2]
    assert [info.labels[int(i)].id for i in sample.labels] == [*shot.ids, 0]
    np.testing.assert_array_equal(sample.masks[:-1], shot.masks)
    np.testing.assert_array_equal(sample.masks[-1], ~shot.masks.any(axis=0))
    instances = open_split(detect(tmp_path, task="instance"), "train")[2]
    np.testing.assert_array_equal(instances.masks, shot.masks)
    # An outline of 255 is void, in the class map as in the object map.
    layouts.save_palette(tmp_path / "SegmentationClass" / "shot2.png", np.full(shot.image.shape[:2], 255))
    blank = open_split(info, "train")[2]
    assert blank.void is not None
    assert blank.void.all()
    assert not blank.masks.any()


@pytest.mark.parametrize("palette", [False, True])
def test_masks_of_cvat_tell_classes_by_the_colours_of_the_labelmap(tmp_path: Path, palette: bool) -> None:
    labels = LabelSet((Label(7, "box", False, (0, 9, 255)), Label(1, "disc", False, (255, 0, 9))))
    info = detect(layouts.cvat_masks(tmp_path / "a", things_only(scenes()), labels, palette=palette))
    assert (info.format, info.task, info.labels.names) == ("voc", "panoptic", ["background", "box", "disc"])
    assert ({split: len(r) for split, r in info.splits.items()}, info.notes) == ({"train": 4, "val": 2}, ())
    shot = things_only(scenes())["train"][2]
    objects = sorted(({1: "disc", 7: "box"}[i], mask.tobytes()) for i, mask in zip(shot.ids, shot.masks, strict=True))
    assert _named(info) == sorted([*objects, ("background", (~shot.masks.any(axis=0)).tobytes())])
    assert _named(detect(tmp_path / "a", task="instance")) == objects
    plain = layouts.cvat_masks(tmp_path / "b", things_only(scenes()), labels, palette=palette, objects=False)
    classes = dict(_named(detect(plain)))
    assert classes.keys() == {"background", *(name for name, _ in objects)}
    for name, mask in classes.items():
        i = {"background": -1, "disc": 1, "box": 7}[name]
        of_class = shot.masks[[i in (-1, j) for j in shot.ids]].any(axis=0)
        assert mask == (of_class if i > 0 else ~of_class).tobytes()


def _named(info: DatasetInfo) -> list[tuple[str, bytes]]:
    sample = open_split(info, "train")[2]
    return sorted(
        (info.labels[int(i)].name, mask.tobytes()) for i, mask in zip(sample.labels, sample.masks, strict=True)
    )


def test_cityscapes_maps_its_ids_to_the_nineteen(tmp_path: Path) -> None:
    as_city = {1: 7, 7: 26, 90: 23}
    splits = {k: [Shot(s.name, s.image, s.masks, [as_city[i] for i in s.ids]) for s in v] for k, v in scenes().items()}
    info = detect(layouts.cityscapes(tmp_path, splits, objects=False))
    assert (info.format, info.task, len(info.labels), info.labels[13].name) == ("semantic-png", "semantic", 19, "car")
    assert "Cityscapes" in info.found
    sample = open_split(info, "train")[1]
    assert {info.labels[int(i)].id for i in sample.labels} == set(splits["train"][1].ids)
    np.testing.assert_array_equal(sample.void, ~splits["train"][1].masks.any(axis=0))


def test_cityscapes_objects_serve_every_task(tmp_path: Path) -> None:
    as_city = {1: 24, 7: 26, 90: 23}  # person, car, sky
    splits = {k: [Shot(s.name, s.image, s.masks, [as_city[i] for i in s.ids]) for s in v] for k, v in scenes().items()}
    layouts.cityscapes(tmp_path, splits, things=(26,))
    info, shot = detect(tmp_path), splits["train"][2]
    assert (info.task, info.tasks) == ("panoptic", ("panoptic", "semantic", "instance", "detect"))
    sample = open_split(info, "train")[2]
    found = sorted((info.labels[int(i)].id, m.tobytes()) for i, m in zip(sample.labels, sample.masks, strict=True))
    people = np.any([m for i, m in zip(shot.ids, shot.masks, strict=True) if i == 24], axis=0)  # without numbers: one
    apart = [(i, m.tobytes()) for i, m in zip(shot.ids, shot.masks, strict=True) if i != 24]
    assert found == sorted([*apart, *([(24, people.tobytes())] if people.any() else [])])
    crowds = {info.labels[int(i)].id for i, crowd in zip(sample.labels, sample.crowd, strict=True) if crowd}
    assert crowds == ({24} if 24 in shot.ids else set())
    np.testing.assert_array_equal(sample.void, ~shot.masks.any(axis=0))
    instances = open_split(detect(tmp_path, task="instance"), "train")[2]
    assert {instances.truth.labels.size, len(instances.masks)} == {sum(i == 26 for i in shot.ids) + (24 in shot.ids)}
    semantic = open_split(detect(tmp_path, task="semantic"), "train")[2]
    assert len(semantic.labels) == len(set(shot.ids))


def test_boxes_alone_serve_detection(tmp_path: Path) -> None:
    """As exports for detectors have them, with an empty mask."""
    layouts.coco_instance(tmp_path, things_only(scenes()), THINGS)
    for file in (tmp_path / "annotations").iterdir():
        raw = json.loads(file.read_text())
        for number, row in enumerate(raw["annotations"]):
            row |= {"segmentation": [], "bbox": [2, 3 + number % 3, 10.5, 6], "area": 40}
        file.write_text(json.dumps(raw))
    info = detect(tmp_path)
    assert (info.task, info.tasks) == ("detect", ("detect",))
    sample = open_split(info, "train")[0]
    stated = [entry["bbox"] for entry in sample.truth.stated.annotations]
    assert stated == [[2, 3 + number % 3, 10.5, 6] for number in range(len(sample.masks))]
    assert sample.masks[0][3:9, 2:12].all()
    assert sample.masks[0].sum() in (60, 66)
    assert not [
        fault
        for fault in look(open_split(info, "train"), open_split(info, "train").records[0]).faults
        if fault.kind == "area"
    ]
    assert not check(info).of_kind("overlap")  # boxes overlap where objects do not
    with pytest.raises(UsageError, match="boxes without masks"):
        writer_for("coco", info)
    with pytest.raises(UsageError, match="--task instance needs annotations that are not there"):
        detect(tmp_path, task="instance")


def test_yolo_may_name_splits_that_are_not_there(tmp_path: Path) -> None:
    layouts.yolo(tmp_path, things_only(scenes(train=8)), THINGS)
    yaml = "names: [disc, box]\ntrain: ../images/train\nval: ../{}\ntest: ../test/images\n"
    (tmp_path / "data.yaml").write_text(yaml.format("images/val"))
    info = detect(tmp_path)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 8, "val": 2}
    assert info.notes == ("data.yaml: test names '../test/images', which is not there: left out",)
    (tmp_path / "data.yaml").write_text(yaml.format("valid/images"))
    info = detect(tmp_path)
    assert "val names '../valid/images'" in info.notes[0]
    assert "held out" in info.notes[2]


def test_labelme_holds_the_picture_itself(tmp_path: Path) -> None:
    import base64

    layouts.labelme(tmp_path, things_only(scenes()), THINGS)
    for file in tmp_path.glob("*/*.json"):
        raw, photo = json.loads(file.read_text()), file.with_suffix(".png")
        layouts.save_json(file, raw | {"imageData": base64.b64encode(photo.read_bytes()).decode()})
        photo.unlink()
    sample = open_split(detect(tmp_path), "train")[0]
    np.testing.assert_array_equal(sample.image, scenes()["train"][0].image)
    assert sample.file.name == "shot0.png"


def test_ade20k_counts_from_one_and_zero_is_void(tmp_path: Path) -> None:
    info = detect(layouts.ade20k(tmp_path, scenes()))
    assert ("ADE20K" in info.found, len(info.labels), info.labels[0].id, info.ignore) == (True, 150, 1, (0,))
    sample, shot = open_split(info, "val")[0], scenes()["val"][0]
    assert sorted(info.labels[int(i)].id for i in sample.labels) == sorted(set(shot.ids))
    np.testing.assert_array_equal(sample.void, ~shot.masks.any(axis=0))


@pytest.mark.parametrize("ids", [(1, 7, 90), (0, 1), tuple(range(10, 20))])
def test_ids_come_through_unchanged(tmp_path: Path, ids: tuple[int, ...]) -> None:
    labels = LabelSet(tuple(Label(i, f"name{i}", isthing=True) for i in ids))
    shot = scene(2)
    shots = [Shot(f"a{n}", shot.image, shot.masks[:1], [i]) for n, i in enumerate(ids)]
    writers = {
        "instance": layouts.coco_instance(tmp_path / "instance", {"train": shots, "val": shots}, labels),
        "panoptic": layouts.coco_panoptic(tmp_path / "panoptic", {"train": shots, "val": shots}, labels),
        "semantic": layouts.semantic(tmp_path / "semantic", {"train": shots, "val": shots}),
    }
    for task, root in writers.items():
        info = detect(root, format="semantic-png" if task == "semantic" else None)
        assert (info.task, info.labels.ids) == (task, list(ids))
        found = [info.labels[int(sample.labels[0])].id for sample in open_split(info, "val")]
        assert found == list(ids)


def test_panoptic_data_serves_the_other_tasks(tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path, scenes(), LABELS)
    shot = scenes()["train"][2]
    instance = detect(tmp_path, task="instance")
    assert (instance.labels.ids, instance.source_labels.ids) == ([1, 7], [1, 7, 90])
    np.testing.assert_array_equal(open_split(instance, "train")[2].masks, shot.masks[1:])
    semantic = open_split(detect(tmp_path, task="semantic"), "train")[2]
    assert len(semantic.labels) == len(set(shot.ids))


def test_crowds_are_marked_and_stay_apart(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path, things_only(scenes()), THINGS, form="counts")
    file = tmp_path / "annotations" / "instances_train2017.json"
    raw = json.loads(file.read_text())
    raw["annotations"][0]["iscrowd"] = 1
    layouts.save_json(file, raw)
    assert open_split(detect(tmp_path), "train")[0].crowd.tolist() == [True]


def test_objects_may_overlap_in_coco(tmp_path: Path) -> None:
    shot = scene(0)
    twice = Shot("twice", shot.image, np.stack([shot.masks[1], shot.masks[1:].any(axis=0)]), [1, 7])
    sample = open_split(detect(layouts.coco_instance(tmp_path, {"train": [twice], "val": [twice]}, THINGS)), "train")[0]
    np.testing.assert_array_equal(sample.masks, twice.masks)


def test_lists_of_names_as_their_tools_write_them(tmp_path: Path) -> None:
    """labelme's begins with a class -1, and Windows puts a mark before the first letter."""
    layouts.semantic(tmp_path, scenes())
    names = ["_background_", *(f"c{i}" for i in range(1, 91))]
    for text in ("\n".join(["__ignore__", *names]), "\ufeff" + "\r\n".join(names)):
        (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
        assert detect(tmp_path).labels.names == names


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    layouts.voc(tmp_path / "voc", things_only(scenes()), THINGS)
    file = tmp_path / "voc/ImageSets/Segmentation/train.txt"
    file.write_text("\ufeff" + file.read_text(), encoding="utf-8")
    assert len(detect(tmp_path / "voc").splits["train"]) == 4
    layouts.semantic(tmp_path / "png", scenes())
    rows = [f'[[classes]]\nid = {label.id}\nname = "{label.name}"\n' for label in LABELS]
    (tmp_path / "png/dataset.toml").write_text("\ufeff" + "".join(rows), encoding="utf-8")
    assert detect(tmp_path / "png").labels.names == LABELS.names


def test_yolo_labels_beside_the_images_below_a_folder_called_images(tmp_path: Path) -> None:
    root = layouts.yolo(tmp_path / "images" / "set", things_only(scenes()), THINGS)
    count = len(open_split(detect(root), "train")[0].labels)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (root / split).mkdir(exist_ok=True)
            for file in (root / folder / split).iterdir():
                file.rename(root / split / file.name)
    (root / "data.yaml").write_text("names: [a, b]\ntrain: train\nval: val\n")
    info = detect(root)
    assert not any("no label file" in note for note in info.notes)
    assert len(open_split(info, "train")[0].labels) == count > 0


def test_of_labelme2voc_the_folders_with_pictures_are_read(tmp_path: Path) -> None:
    """Older versions put numpy's files into the folder of the usual name."""
    layouts.voc(tmp_path, things_only(scenes()), THINGS)
    for name in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / name).rename(tmp_path / f"{name}PNG")
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "shot0.npy", np.zeros((40, 56), np.int32))
    info = detect(tmp_path)
    assert info.task == "panoptic"
    assert scan(info).problems == []


BLACK_AND_WHITE = {  # what declares the colours -> the class that is white
    "class_dict.csv": ("name,r,g,b\nroad,255,255,255\nground,0,0,0\n", 0),
    "dataset.toml": (
        '[[classes]]\nid = 0\nname = "ground"\ncolor = [0, 0, 0]\n'
        '[[classes]]\nid = 1\nname = "road"\ncolor = [255, 255, 255]\n', 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["bits", "grey", "three channels"])
@pytest.mark.parametrize("declared", BLACK_AND_WHITE)
def test_black_and_white_are_colours_where_they_are_declared(tmp_path: Path, declared: str, form: str) -> None:
    text, white = BLACK_AND_WHITE[declared]
    (tmp_path / declared).write_text(text)
    masks = np.zeros((3, 8, 9), dtype=bool)
    masks[:2, 2:5, 3:] = True  # and one that is black throughout
    for i, mask in enumerate(masks):
        for split in ("train", "val"):
            layouts.save(tmp_path / split / "images" / f"{i}.png", np.zeros((8, 9, 3), np.uint8))
            picture = np.where(mask, 255, 0).astype(np.uint8)
            picture = np.stack([picture] * 3, axis=-1) if form == "three channels" else picture
            file = layouts.save(tmp_path / split / "labels" / f"{i}.png", picture)
            if form == "bits":
                Image.fromarray(mask).save(file)
    samples = list(open_split(detect(tmp_path), "train"))
    for mask, sample in zip(masks, samples, strict=True):
        found = {int(label): sample.masks[i] for i, label in enumerate(sample.labels)}
        assert found.keys() == ({0, 1} if mask.any() else {1 - white})
        np.testing.assert_array_equal(found[1 - white], ~mask)


@pytest.mark.parametrize("form", ["grey", "three channels", "palette"])
def test_ids_stay_ids_where_colours_are_declared_to_draw_with(tmp_path: Path, form: str) -> None:
    colours = [[0, 0, 0], [90, 90, 90], [255, 255, 255]]
    rows = [f'[[classes]]\nid = {i}\nname = "c{i}"\ncolor = {color}\n' for i, color in enumerate(colours)]
    (tmp_path / "dataset.toml").write_text("".join(rows))
    ids = np.repeat([0, 1, 2, 255], 2).astype(np.uint8).reshape(2, 4)
    for split in ("train", "val"):
        layouts.save(tmp_path / split / "images" / "a.png", np.zeros((2, 4, 3), np.uint8))
        file = tmp_path / split / "labels" / "a.png"
        if form == "palette":
            layouts.save_palette(file, ids)
        else:
            layouts.save(file, np.stack([ids] * 3, axis=-1) if form == "three channels" else ids)
    sample = open_split(detect(tmp_path), "train")[0]
    assert sample.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(sample.masks.sum(axis=(1, 2)), [2, 2, 2])


def test_labelme_masks_circles_rectangles_and_groups(tmp_path: Path) -> None:
    import base64
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), 255, dtype=np.uint8)).save(buffer, "PNG")
    shapes = [
        {"label": "a", "shape_type": "mask", "points": [[3, 2], [7, 5]], "mask": base64.b64encode(buffer.getvalue()).decode()},
        {"label": "a", "shape_type": "circle", "points": [[20, 20], [25, 20]]},
        {"label": "b", "shape_type": "rectangle", "points": [[40, 30], [30, 36]], "group_id": 1},
        {"label": "b", "shape_type": "rectangle", "points": [[0, 30], [5, 36]], "group_id": 1},
        {"label": "c", "shape_type": "rectangle", "points": [[10, 10], [30, 10], [30, 25], [10, 25]]},
        {"label": "c", "shape_type": "rotation", "points": [[40, 5], [45, 10], [40, 15], [35, 10]]},
        {"label": "b", "shape_type": "point", "points": [[0, 0]]},
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[0, 0], [5, 6]]},
    ]  # fmt: skip
    for name in ("x", "y"):
        layouts.save(tmp_path / f"{name}.png", np.zeros((40, 56, 3), dtype=np.uint8))
        layouts.save_json(tmp_path / f"{name}.json", {"shapes": shapes, "imagePath": f"..\\in\\{name}.png", "imageHeight": 40, "imageWidth": 56})  # fmt: skip
    info = detect(tmp_path)
    assert info.labels.names == ["a", "b", "c"]
    assert "shapes that enclose no area are left out: 2 point" in info.notes
    masks = open_split(info, "train")[0].masks
    assert masks.shape == (5, 40, 56)
    assert masks[0].sum() == masks[0][2:6, 3:8].sum() == 20
    assert abs(masks[1].sum() - np.pi * 25) < 4
    assert masks[2].sum() == masks[2][30:36, 30:40].sum() + masks[2][30:36, :5].sum() == 90
    assert masks[3].sum() == masks[3][10:25, 10:30].sum() == 300
    assert masks[4].sum() == 50


def test_labelme_images_without_a_file_are_counted(tmp_path: Path) -> None:
    layouts.labelme(tmp_path, things_only(scenes()), THINGS)
    assert not any("JSON file:" in note for note in detect(tmp_path).notes)
    (tmp_path / "pictures").mkdir()
    for file in (tmp_path / "val").glob("*.png"):
        file.rename(tmp_path / "pictures" / file.name)
        json_file = file.with_suffix(".json")
        raw = json.loads(json_file.read_text())
        layouts.save_json(json_file, raw | {"imagePath": f"../pictures/{file.name}"})
    left = [tmp_path / name for name in ("pictures/a.png", "train/b.JPG")]
    for file in left:
        file.touch()
    assert f"2 images have no JSON file: left out, such as {left[0]}" in detect(tmp_path).notes


def test_labelme_labels_are_without_blanks_around_them(tmp_path: Path) -> None:
    layouts.labelme(tmp_path, things_only(scenes()), THINGS)
    file = tmp_path / "train/shot1.json"
    raw = json.loads(file.read_text())
    for shape in raw["shapes"]:
        shape["label"] = f" {shape['label']} "
    layouts.save_json(file, raw)
    info = detect(tmp_path)
    assert info.labels.names == ["box", "disc"]
    found = {sample.file.stem: len(sample.labels) for sample in open_split(info, "train")}
    assert found["shot1"] == len(raw["shapes"])


REAL = {
    "facade": ("coco-panoptic", "panoptic", 10, {"train": 357, "val": 105}),
    "everyday": ("coco-panoptic", "panoptic", 21, {"train": 3373, "val": 299}),
    "nuclei": ("instance-png", "instance", 1, {"train": 320, "val": 94}),
    "coco": ("coco-instance", "instance", 80, {"train": 60, "val": 60}),
    "coco_panoptic/sample_data": ("coco-panoptic", "panoptic", 133, {"train": 1, "val": 1}),
    "formats/voc": ("voc", "panoptic", 21, {"train": 2, "val": 1}),
    "formats/labelme": ("labelme", "instance", 6, {"train": 2, "val": 1}),
    "formats/coco_polygons": ("coco-instance", "instance", 20, {"train": 2, "val": 1}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_datasets_are_found_as_they_lie(shared_dir: Path, name: str) -> None:
    info = detect(shared_dir / "data" / name)
    counts = {split: len(records) for split, records in info.splits.items()}
    assert (info.format, info.task, len(info.labels), counts) == REAL[name]
    sample = open_split(info, "val")[0]
    assert sample.masks.shape == (len(sample.labels), *sample.size)
    assert sample.masks.any(axis=(1, 2)).all()


def test_the_three_forms_of_one_annotation_agree(shared_dir: Path) -> None:
    """VOC, labelme and COCO files of the same photographs hold the same objects."""
    formats = {
        n: detect(shared_dir / "data" / "formats" / n, task="instance") for n in ("voc", "labelme", "coco_polygons")
    }
    samples = {
        name: {s.file.stem: s for split in ("train", "val") for s in open_split(info, split)}
        for name, info in formats.items()
    }
    for stem, polygons in samples["labelme"].items():
        union = polygons.masks.any(axis=0)
        coco = samples["coco_polygons"][stem]
        np.testing.assert_array_equal(coco.masks.any(axis=0), union)
        voc = samples["voc"][stem]
        assert voc.void is not None
        known = ~voc.void
        mixed = (voc.masks.any(axis=0) != union) & known
        assert mixed.mean() < 0.01  # VOC's rasteriser paints outlines


@pytest.mark.parametrize("layout", ["yolo", "roboflow", "camvid", "cityscapes", "ade20k"])
def test_layouts_made_from_real_photographs(shared_dir: Path, tmp_path: Path, layout: str) -> None:
    info = detect(shared_dir / "data" / "everyday")
    shots = {split: layouts.shots_of(open_split(info, split), 3) for split in ("train", "val")}
    if layout in ("yolo", "roboflow"):
        shots = things_only(shots, tuple(range(1, 21)))
        found = detect(
            getattr(layouts, layout)(tmp_path, shots, detect(shared_dir / "data" / "everyday", task="instance").labels)
        )
        for shot, sample in zip(shots["train"], open_split(found, "train"), strict=True):
            ours, theirs = sample.masks.any(axis=0), shot.masks.any(axis=0)
            assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97  # outlines lose holes
    elif layout == "camvid":
        found = detect(layouts.camvid(tmp_path, shots, info.labels))
        assert found.labels.names == info.labels.names
    else:
        few = {k: [Shot(s.name, s.image, s.masks, [7 + i % 2 for i in s.ids]) for s in v] for k, v in shots.items()}
        found = detect(getattr(layouts, layout)(tmp_path, few))
    assert scan(found).problems == []
    assert len(found.splits["train"]) == len(found.splits["val"]) == 3
