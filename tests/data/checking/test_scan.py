"""The scan counts what is there, and reads a file again only if it changed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segcli.data.cache import signature
from segcli.data.checking import scan as scan_module
from segcli.data.checking.check import check
from segcli.data.checking.facts import facts_of
from segcli.data.checking.scan import ScanReport, SplitReport, scan
from segcli.data.checking.stats import stats
from segcli.data.detect import detect
from segcli.data.glance import glance
from segcli.errors import InputError
from segcli.files.image_ref import FileRef
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scenes, things_only


def test_counts_are_those_of_the_scenes(tmp_path: Path) -> None:
    splits = scenes()
    calls: list[tuple[int, int]] = []
    report = scan(detect(layouts.coco_panoptic(tmp_path, splits, LABELS)), progress=lambda *c: calls.append(c))
    assert calls == [(i, 6) for i in range(1, 7)]
    for split, shots in zip(report.splits, splits.values(), strict=True):
        assert split.images == len(shots)
        assert split.objects == sum(len(shot.ids) for shot in shots)
        assert split.most[1] == max(len(shot.ids) for shot in shots)
        pixels = 40 * 56 * len(shots)
        for count, label in zip(split.classes, LABELS, strict=True):
            assert (count.label.id, count.label.name, count.label.isthing) == (label.id, label.name, label.isthing)
            assert count.objects == sum(shot.ids.count(label.id) for shot in shots)
            assert count.images == sum(label.id in shot.ids for shot in shots)
            area = sum(
                int(m.sum()) for shot in shots for m, i in zip(shot.masks, shot.ids, strict=True) if i == label.id
            )
            assert count.share == pytest.approx(area / pixels)
        assert split.void_share == pytest.approx(1 - sum(count.share for count in split.classes))
    assert report.crowded(100) is None
    warning = report.crowded(1)
    assert warning is not None
    assert "6 images hold more objects than the model's 1 queries" in warning
    assert report.crowded(1, tile=20) is None  # 400 of 2,240 pixels, which hold at most one object
    assert "tiles of 6 images" in str(report.crowded(1, tile=64))


def test_semantic_data_counts_a_class_once_an_image(tmp_path: Path) -> None:
    info = detect(layouts.semantic(tmp_path, scenes()))
    assert [split.objects for split in scan(info).splits] == [
        sum(len(set(shot.ids)) for shot in shots) for shots in scenes().values()
    ]


def test_only_changed_files_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = detect(layouts.coco_panoptic(tmp_path, scenes(), LABELS))
    first = scan(info)
    read: list[str] = []
    real = scan_module._read
    monkeypatch.setattr(scan_module, "_read", lambda d, r: read.append(r.image) or real(d, r))
    assert scan(info).splits[0].classes == first.splits[0].classes
    assert read == []
    changed = tmp_path / "panoptic_train" / "shot1.png"
    os.utime(changed, ns=(0, 0))
    scan(info)
    assert [file.place.stem for file in read] == ["shot1"]


@pytest.mark.parametrize("name", ["train/images/shot1.png", "train/labels/shot1.png"])
def test_what_the_system_refused_is_read_again(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is as it was when a network drive is back: nothing but another try can tell."""
    info = detect(layouts.semantic(tmp_path, scenes()))

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def refused(file: Any, *arguments: Any, **options: Any) -> Any:
            if file == tmp_path / name:
                raise OSError(errno.EIO, "Input/output error")
            return real(file, *arguments, **options)

        return refused

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", refusing(Path.read_bytes))
        broken.setattr("PIL.Image.open", refusing(Image.open))
        assert ["Input/output error" in problem.message for problem in scan(info).problems] == [True]
        assert sum(not facts.usable for facts in facts_of(info, "train")) == 1
    assert scan(info).problems == []
    assert all(facts.usable for facts in facts_of(info, "train"))


def test_a_file_that_may_not_be_read_has_another_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    before = signature([tmp_path / "a"])
    monkeypatch.setattr("os.access", lambda file, mode: False)
    assert signature([tmp_path / "a"]) != before


def test_a_damaged_cache_is_no_cache(tmp_path: Path, cache: Path) -> None:
    info = detect(layouts.coco_panoptic(tmp_path, scenes(), LABELS))
    first = scan(info)
    for file in cache.glob("scan-*.json"):
        file.write_text("{" + file.read_text())
    assert scan(info).splits[1].objects == first.splits[1].objects


def test_size_is_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "b.png")
    assert glance(FileRef(str(tmp_path / "a.jpg"))).size == (30, 20)
    assert glance(FileRef(str(tmp_path / "b.png"))).size == (20, 30)


def test_files_of_several_pages_are_counted(tmp_path: Path) -> None:
    root = layouts.semantic(tmp_path, scenes())
    for number in (1, 2):
        file = root / f"train/images/shot{number}.png"
        with Image.open(file) as image:
            image.save(file.with_suffix(".tif"), save_all=True, append_images=[image] * number)
        file.unlink()
    info = detect(root)
    for _ in range(2):  # the second time from the cache
        report = scan(info)
        assert (report.problems, [Path(file).name for file in report.paged]) == ([], ["shot1.tif (2)", "shot2.tif (3)"])
    assert [split.paged for split in stats(info)] == [2, 0]
    messages = [finding.message for finding in check(info).of_kind("pages")]
    assert [message.partition(": ")[2] for message in messages] == [
        f"{n} pages, only the first is used" for n in (2, 3)
    ]


def test_crowds_are_no_objects_to_learn_from(tmp_path: Path) -> None:
    root = layouts.coco_panoptic(tmp_path, scenes(), LABELS)
    file = root / "panoptic_train.json"
    raw = json.loads(file.read_text())
    segments = [segment for row in raw["annotations"] for segment in row["segments_info"]]
    boxes = [segment for segment in segments if segment["category_id"] == 7]
    for segment in boxes:
        segment["iscrowd"] = 1
    layouts.save_json(file, raw)
    for _ in range(2):  # the second time from the cache
        report = scan(detect(root))
        box = report.train.classes[1]
        assert (box.objects, box.crowds, report.train.crowds) == (0, len(boxes), len(boxes))
        assert box.images > 0
        assert report.train.objects == len(segments) - len(boxes)
        assert len(report.train.sides) == sum(segment["category_id"] == 1 for segment in segments)
        assert [label.name for label in report.unseen()] == ["box"]
    report = scan(detect(root, task="semantic"))  # a class is one, told apart or not
    assert (report.train.crowds, report.unseen()) == (0, [])


def test_masks_that_are_not_turned_with_their_photo_are_counted(tmp_path: Path) -> None:
    root = layouts.coco_instance(tmp_path, things_only(scenes()), THINGS, form="polygon")
    exif = Image.Exif()
    for name, orientation in (("shot2", 3), ("shot1", 1)):
        exif[0x0112] = orientation
        file = root / "train2017" / f"{name}.png"
        with Image.open(file) as image:
            image.save(file, exif=exif)
    for _ in range(2):  # the second time from the cache
        report = scan(detect(root))
        assert (report.problems, [Path(file).name for file in report.turned]) == ([], ["shot2.png"])


@pytest.mark.parametrize("make", [layouts.semantic, lambda *a: layouts.coco_panoptic(*a, LABELS)])
def test_our_limit_of_pixels_counts_and_not_pillows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]
) -> None:
    root = make(tmp_path, scenes())
    with Image.open(next(root.rglob("shot0.png"))) as image:
        image.convert("RGB").save(tmp_path / "a.jpg")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr("segcli.codecs.image._STRIP", 1)  # Pillow before 13 asks of each strip, too
    assert scan(detect(root)).problems == []
    assert glance(FileRef(str(tmp_path / "a.jpg"))).size == (40, 56)
    monkeypatch.setattr("segcli.codecs.image.MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="cut it into tiles"):
        glance(FileRef(str(tmp_path / "a.jpg")))


@pytest.mark.parametrize(
    ("side", "photo", "short", "advice"),
    [
        (14, 256, 448, "under 24 pixels across at a short side of 448, and will be hard to find; --tile 168 --short"),
        (14, 1024, 512, "under 7 pixels across"),
        (20, 256, 448, None),  # 35 pixels
        (3, 256, 256, "--tile 64"),  # the smallest tile
        (14, 160, 160, None),  # a tile would be larger than the photo
    ],
)
def test_small_objects_are_worth_a_closer_look(side: float, photo: int, short: int, advice: str | None) -> None:
    sides = np.array([[side, photo]] * 3 + [[200, photo]])
    split = SplitReport("train", 1, 4, 0, 0.0, [], ("a.png", 4), np.array([4]), np.array([photo**2]), sides)
    said = ScanReport([split], []).small(short)
    assert said is None if advice is None else said is not None and advice in said
