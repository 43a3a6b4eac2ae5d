"""Every format becomes every other that can hold it, is found again without help, and gives back each pixel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.data.checking.check import check
from segcli.data.checking.mend import mended
from segcli.data.converting.convert import Written, write_dataset
from segcli.data.converting.writers import names, writer_class, writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.records import DatasetInfo
from segcli.errors import OutputError, UsageError
from segcli.types import Label, LabelSet, Task
from tests.data import layouts
from tests.data.formats.test_formats import _classes
from tests.data.layouts import LABELS, THINGS, Shot, scene, scenes, things_only

DATASETS = [name for name in names() if not writer_class(name).IS_FOR_EDITING]  # the others: test_tools

SOURCES: dict[str, Callable[[Path], Path]] = {
    "coco-panoptic": lambda root: layouts.coco_panoptic(root, scenes(), LABELS),
    "coco": lambda root: layouts.coco_instance(root, things_only(scenes()), THINGS),
    "coco-rle": lambda root: layouts.coco_instance(root, things_only(scenes()), THINGS, form="rle"),
    "semantic-png": lambda root: _classes(layouts.semantic(root, scenes())),
    "instance-png": lambda root: layouts.instance_maps(root, things_only(scenes())),
    "yolo": lambda root: layouts.yolo(root, things_only(scenes()), THINGS),
    "voc": lambda root: layouts.voc(root, things_only(scenes()), THINGS),
    "labelme": lambda root: layouts.labelme(root, things_only(scenes()), THINGS),
    "camvid": lambda root: layouts.camvid(root, scenes(), LABELS),
}
OBJECTS = {"coco", "yolo", "instance-png"}  # formats that hold objects alone


def converted(source: Path, out: Path, to: str, **options: str) -> tuple[DatasetInfo, Written]:
    info = detect(source, training=False, **options)
    written = write_dataset(info, out, writer_for(to, info))
    return detect(out), written


def content(root: Path, task: Task) -> dict[str, list[tuple[str, bytes]]]:
    """image -> (class name, mask) of its objects."""
    info = detect(root, task=task)
    return {
        f"{split}/{sample.file.stem}": sorted(
            (info.labels[int(label)].name, mask.tobytes())
            for label, mask in zip(sample.labels, sample.masks, strict=True)
            if mask.any()
        )
        for split in info.splits
        for sample in open_split(info, split)
    }


@pytest.mark.parametrize("name", SOURCES)
def test_from_every_format_to_every_other(tmp_path: Path, name: str) -> None:
    source = SOURCES[name](tmp_path / "source")
    info = detect(source)
    for to in DATASETS:
        several = to == "instance-png" and len([label for label in info.source_labels if label.isthing]) > 1
        if (to in OBJECTS and info.tasks == ("semantic",)) or several:
            with pytest.raises(UsageError, match=f"--to {to}"):
                converted(source, tmp_path / to, to)
            continue
        found, written = converted(source, tmp_path / to, to)
        assert found.format == {"coco": "coco-instance", "yolo": "yolo-seg"}.get(to, to)
        assert {split: len(records) for split, records in found.splits.items()} == {"train": 4, "val": 2}
        assert (written.linked, written.copied, written.problems) == (6, 0, [])
        shared: set[Task] = set(info.tasks) & set(found.tasks)
        assert shared or to == "semantic-png"
        for task in shared:
            assert content(tmp_path / to, task) == content(source, task)
        if info.tasks == ("instance",) and "instance" not in found.tasks:
            assert "background" in found.labels.names
        losses = set(written.losses)
        if to in ("coco", "yolo") and not all(info.source_labels.isthing):
            losses.remove("regions of stuff classes are left out")
        if to in OBJECTS and info.tasks[0] == "panoptic" and name != "voc":
            assert any("unknown truth" in loss for loss in losses)
        else:
            assert not losses


def test_void_stays_void(tmp_path: Path) -> None:
    source = SOURCES["coco-panoptic"](tmp_path / "source")
    for to in ("coco-panoptic", "semantic-png", "voc"):
        converted(source, tmp_path / to, to)
        sample, shot = open_split(detect(tmp_path / to), "train")[1], scenes()["train"][1]
        np.testing.assert_array_equal(sample.void, ~shot.masks.any(axis=0))


def test_ids_and_colours_are_kept_where_the_format_has_a_place_for_them(tmp_path: Path) -> None:
    source = SOURCES["coco-panoptic"](tmp_path / "source")
    for to in ("coco-panoptic", "semantic-png", "voc"):
        found, written = converted(source, tmp_path / to, to)
        assert (found.source_labels.ids, found.source_labels.names) == (LABELS.ids, LABELS.names)
        assert found.source_labels.isthing == LABELS.isthing
        assert not any("ids become" in note for note in written.notes)
    found, written = converted(source, tmp_path / "yolo", "yolo")
    assert (found.labels.ids, written.notes) == ([0, 1], ("class ids become 0–1",))


@pytest.mark.parametrize("ids", [(0, 3), (255, 256), (0, 70_000)])
def test_awkward_ids(tmp_path: Path, ids: tuple[int, ...]) -> None:
    labels = LabelSet(tuple(Label(i, f"name{i}", isthing=True) for i in ids))
    shot = scene(2)
    shots = [Shot(f"a{n}", shot.image, shot.masks[n : n + 2], list(ids)) for n in (0, 1, 0)]
    shots[2].name = "b"
    source = layouts.coco_instance(tmp_path / "source", {"train": shots[:2], "val": shots[2:]}, labels, form="rle")
    for to in ("coco", "coco-panoptic", "yolo", "voc"):
        converted(source, tmp_path / to, to)
        assert content(tmp_path / to, "instance") == content(source, "instance")
    found, _ = converted(source, tmp_path / "semantic", "semantic-png")
    assert set(found.labels.names) == {*labels.names, "background"}
    sample = open_split(found, "train")[0]
    np.testing.assert_array_equal(sample.masks.any(axis=0), np.ones(shot.image.shape[:2], dtype=bool))


def test_overlaps_and_crowds_are_said_to_be_lost(tmp_path: Path) -> None:
    shot = scene(0)
    crowd = ~shot.masks.any(axis=0)
    both = Shot("both", shot.image, np.stack([shot.masks[1], shot.masks[1:].any(axis=0), crowd]), [1, 7, 7])
    both.masks[1, :8] = True
    source = layouts.coco_instance(tmp_path / "source", {"train": [both], "val": [both]}, THINGS, form="rle")
    for file in source.glob("annotations/*.json"):
        raw = json.loads(file.read_text())
        raw["annotations"][2]["iscrowd"] = 1
        layouts.save_json(file, raw)
    pixels = int(shot.masks[1].sum())
    losses = {to: converted(source, tmp_path / to, to)[1].losses for to in DATASETS if to != "instance-png"}
    assert losses["coco"] == {}
    assert losses["yolo"] == {"crowd regions are left out": (2, 2)}
    assert losses["coco-panoptic"] == {"pixels shared by several objects go to one of them": (2 * pixels, 2)}
    assert losses["semantic-png"] == {"pixels shared by several classes go to one of them": (2 * pixels, 2)}
    assert losses["voc"]["crowd regions become pixels of unknown truth"] == (2, 2)
    assert open_split(detect(tmp_path / "coco"), "train")[0].crowd.tolist() == [False, False, True]
    assert open_split(detect(tmp_path / "coco-panoptic"), "train")[0].crowd.tolist() == [False, False, True]
    void = open_split(detect(tmp_path / "voc"), "train")[0].void
    np.testing.assert_array_equal(void, crowd & ~both.masks[:2].any(axis=0))


def test_holes_come_back_through_yolo(tmp_path: Path) -> None:
    shot = scene(1)
    ring = shot.masks[1].copy()
    y, x = np.argwhere(ring)[len(np.argwhere(ring)) // 2]
    ring[y, x] = False
    ring[-3:, -3:] = True  # and a part of its own
    shots = {split: [Shot(split, shot.image, ring[None], [1])] for split in ("train", "val")}
    source = layouts.coco_instance(tmp_path / "source", shots, THINGS, form="rle")
    _, written = converted(source, tmp_path / "yolo", "yolo")
    assert list(written.changes.values()) == [(2, 2)]
    assert len((tmp_path / "yolo/labels/train/train.txt").read_text().splitlines()) == 1
    converted(tmp_path / "yolo", tmp_path / "back", "coco")
    assert content(tmp_path / "back", "instance") == content(source, "instance")


def test_data_without_splits_stays_without(tmp_path: Path) -> None:
    source = layouts.coco_panoptic(tmp_path / "source", {"all": scenes(train=6)["train"]}, LABELS)
    (source / "panoptic_all.json").rename(source / "panoptic.json")
    for to in ("coco", "coco-panoptic", "semantic-png", "yolo", "voc"):
        _, written = converted(source, tmp_path / to, to)
        assert written.images == {"all": 6}
        info = detect(tmp_path / to)
        assert sorted(map(len, info.splits.values())) == [1, 5]
        assert any("held out" in note for note in info.notes)


def test_images_of_one_name_do_not_meet(tmp_path: Path) -> None:
    shots = scenes(train=2, val=2)
    for of_split in shots.values():
        for number, shot in enumerate(of_split):
            shot.name = f"same{number}"
    source = layouts.coco_panoptic(tmp_path / "source", shots, LABELS, inside=True)
    _, written = converted(source, tmp_path / "voc", "voc")
    names = sorted(path.name for path in (tmp_path / "voc/JPEGImages").iterdir())
    assert names == ["train-same0.png", "train-same1.png", "val-same0.png", "val-same1.png"]
    assert [len(masks) for masks in content(tmp_path / "voc", "instance").values()] == [1, 2, 2, 3]
    assert written.images == {"train": 2, "val": 2}


def test_links_share_bytes_and_copies_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["coco"](tmp_path / "source")
    converted(source, tmp_path / "links", "coco")
    image = "train2017/shot1.png", "train/shot1.png"
    assert os.path.samefile(source / image[0], tmp_path / "links" / image[1])

    def no_links(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    _, written = converted(source, tmp_path / "copies", "coco")
    assert (written.linked, written.copied) == (0, 6)
    assert not os.path.samefile(source / image[0], tmp_path / "copies" / image[1])


def test_a_copy_that_has_no_room_is_accused_and_not_its_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["coco-panoptic"](tmp_path / "source")

    def full(photo: Path, place: Path) -> None:
        raise OSError(28, "No space left on device", str(photo), None, str(place))

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OutputError) as caught:
        converted(source, tmp_path / "out", "coco-panoptic")
    place = tmp_path / "out/train/shot0.png"
    assert str(caught.value) == (
        f"{place}: cannot be written (No space left on device); free some space or choose another folder"
    )


def test_unreadable_images_are_left_out_and_listed(tmp_path: Path) -> None:
    source = SOURCES["semantic-png"](tmp_path / "source")
    (source / "train/images/shot1.png").write_bytes(b"")
    (source / "val/labels/shot100.png").unlink()
    found, written = converted(source, tmp_path / "voc", "voc")
    assert [Path(problem.file).stem for problem in written.problems] == ["shot1", "shot100"]
    assert {split: len(records) for split, records in found.splits.items()} == {"train": 3, "val": 1}


def test_strange_labels_a_taken_folder_and_a_full_disk_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES["semantic-png"](tmp_path / "source")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(UsageError, match="taken: exists already"):
        converted(source, tmp_path / "taken", "voc")
    with pytest.raises(UsageError, match="inside the dataset"):
        converted(source, source / "voc", "voc")
    info = detect(source, training=False)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
            write_dataset(info, tmp_path / "full", writer_for("voc", info))
    layouts.save(source / "train/labels/shot1.png", np.full((40, 56), 37, np.uint8))
    with pytest.raises(UsageError, match="label 37"):
        write_dataset(info, tmp_path / "strange", writer_for("voc", info))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "taken"]


def test_real_annotations_to_the_pixel(shared_dir: Path, tmp_path: Path) -> None:
    """COCO's polygons and crowds through YOLO, VOC's palette maps through COCO panoptic, and back."""
    from tests.data.subsets import subset

    coco = subset(shared_dir, "coco", tmp_path / "coco", 6)
    before = content(coco, "instance")
    converted(coco, tmp_path / "again", "coco")
    assert content(tmp_path / "again", "instance") == before
    info = detect(coco)
    crowds = sum(int(s.crowd.sum()) for split in info.splits for s in open_split(info, split))
    _, written = converted(coco, tmp_path / "yolo", "yolo")
    assert written.losses.get("crowd regions are left out", (0, 0))[0] == crowds
    after = content(tmp_path / "yolo", "instance")
    assert sum(map(len, before.values())) - crowds == sum(map(len, after.values()))
    assert all(set(after[image]) <= set(objects) for image, objects in before.items())
    voc = shared_dir / "data/formats/voc"
    converted(voc, tmp_path / "panoptic", "coco-panoptic")
    converted(tmp_path / "panoptic", tmp_path / "voc", "voc")
    images = sorted(map(sorted, content(tmp_path / "voc", "panoptic").values()))
    assert images == sorted(map(sorted, content(voc, "panoptic").values()))
    ours = np.asarray(Image.open(tmp_path / "voc/SegmentationClass" / next(voc.glob("SegmentationClass/*")).name))
    np.testing.assert_array_equal(ours, np.asarray(Image.open(next(voc.glob("SegmentationClass/*")))))


@pytest.mark.parametrize("to", ["coco", "coco-panoptic"])
def test_licences_and_sources_go_along(tmp_path: Path, to: str) -> None:
    """From COCO to COCO. Both splits call their licence 1, and mean another."""
    root = layouts.coco_instance(tmp_path / "in", things_only(scenes()), THINGS)
    for split, name in (("train", "CC BY 4.0"), ("val", "CC0")):
        (file,) = root.rglob(f"*{split}*.json")
        raw = json.loads(file.read_text())
        raw |= {"info": {"year": 2026}, "licenses": [{"id": 1, "name": name}]}
        raw["images"] = [row | {"license": 1, "flickr_url": f"{split}/{row['file_name']}"} for row in raw["images"]]
        raw["categories"] = [row | {"supercategory": "shape"} for row in raw["categories"]]
        raw["annotations"][0]["attributes"] = {"occluded": True}
        file.write_text(json.dumps(raw))
    _, written = converted(root, tmp_path / "out", to)
    assert written.notes[-1] == "lost: fields of annotations beside class, mask, area and box: attributes (2×)"
    for split, name in (("train", "CC BY 4.0"), ("val", "CC0")):
        (file,) = (tmp_path / "out" / "annotations").glob(f"*_{split}.json")
        new = json.loads(file.read_text())
        assert new["info"] == {"year": 2026}
        assert new["categories"][0]["supercategory"] == "shape"
        names = {row["id"]: row["name"] for row in new["licenses"]}
        for image in new["images"]:
            assert names[image["license"]] == name
            assert image["flickr_url"].partition("/")[0] == split
            assert Path(image["flickr_url"]).name in image["file_name"]


@pytest.mark.parametrize("ids", ["own", "twice", "text", "one lacks"])
def test_objects_keep_their_ids_unless_they_clash(tmp_path: Path, ids: str) -> None:
    layouts.coco_instance(tmp_path / "in", things_only(scenes()), THINGS)
    for file in (tmp_path / "in").glob("annotations/*.json"):
        raw = json.loads(file.read_text())
        for number, row in enumerate(raw["annotations"]):
            own = 70 + 3 * number
            row["id"] = {"own": own, "twice": 5, "text": f"a{number}", "one lacks": own if number else None}[ids]
        layouts.save_json(file, raw)
    info = detect(tmp_path / "in")
    write_dataset(info, tmp_path / "out", writer_for("coco", info))
    raw = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    count = len(raw["annotations"])
    expected = [70 + 3 * n for n in range(count)] if ids == "own" else list(range(1, count + 1))
    assert [row["id"] for row in raw["annotations"]] == expected


def test_the_only_object_has_an_id(tmp_path: Path) -> None:
    shot = things_only(scenes())["train"][0]
    shot.masks, shot.ids = shot.masks[:1], shot.ids[:1]
    layouts.yolo(tmp_path / "in", {"train": [shot]}, THINGS)
    info = detect(tmp_path / "in", training=False)
    write_dataset(info, tmp_path / "out", writer_for("coco", info))
    (row,) = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
    assert row["id"] == 1


def test_a_mended_copy_keeps_the_ids_of_what_is_left(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path / "in", things_only(scenes()), THINGS)
    file = tmp_path / "in/annotations/instances_train2017.json"
    raw = json.loads(file.read_text())
    for number, row in enumerate(raw["annotations"]):
        row["id"] = 40 + number
    raw["annotations"].insert(1, raw["annotations"][0] | {"id": 39})  # the same object twice
    layouts.save_json(file, raw)
    info = detect(tmp_path / "in")
    write_dataset(mended(info, check(info)), tmp_path / "out", writer_for("coco", info))
    left = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["annotations"]
    assert [row["id"] for row in left] == [row["id"] for row in raw["annotations"] if row["id"] != 39]
