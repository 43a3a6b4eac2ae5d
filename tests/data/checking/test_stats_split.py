"""Counts are those of the scenes; a division keeps groups together and does not change when a dataset grows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcli.data.checking.stats import stats
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.split import divided
from segcli.data.converting.writers import writer_for
from segcli.data.detect import detect
from segcli.data.formats import formats
from segcli.data.records import DatasetInfo, Record
from segcli.errors import UsageError
from segcli.files.image_ref import FileRef
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scenes, things_only


def test_counts_are_those_of_the_scenes(tmp_path: Path) -> None:
    splits = scenes()
    found = stats(detect(layouts.coco_panoptic(tmp_path, splits, LABELS), training=False))
    for of_split, shots in zip(found, splits.values(), strict=True):
        assert of_split.sizes.tolist() == [[40, 56]] * len(shots)
        things = {label.id for label in LABELS if label.isthing}
        assert of_split.objects.tolist() == [sum(i in things for i in shot.ids) for shot in shots]
        assert of_split.present.tolist() == [len(set(shot.ids)) for shot in shots]
        for of_class, label in zip(of_split.classes, LABELS, strict=True):
            areas = [int(m.sum()) for s in shots for m, i in zip(s.masks, s.ids, strict=True) if i == label.id]
            assert of_class.areas.tolist() == areas
            objects = len(areas) if label.isthing else 0
            assert (of_class.objects, of_class.images) == (objects, sum(label.id in shot.ids for shot in shots))
            assert of_class.share == pytest.approx(sum(areas) / (40 * 56 * len(shots)))
        facts = of_split.to_json()
        assert facts["objects"] == of_split.objects.sum()
        assert facts["width"]["median"] == 56
        assert sum(facts["small_medium_large"]) == len(of_split.areas)


def test_stuff_is_no_object_and_has_one_area_an_image(tmp_path: Path) -> None:
    shot = scenes()["train"][0]
    strip = shot.masks[0].copy()
    strip[:4] = False
    shot.masks = np.concatenate([shot.masks, strip[None]])
    shot.ids = [*shot.ids, 90]
    (of_split,) = stats(detect(layouts.coco_panoptic(tmp_path, {"train": [shot]}, LABELS), training=False))
    assert of_split.classes[2].objects == 0
    assert of_split.classes[2].areas.tolist() == [8 * 56]


def info_of(names: list[str]) -> DatasetInfo:
    base = detect_nothing()
    return replace(base, splits={"all": [Record(name, FileRef(f"photos/{name}"), None) for name in names]})


def detect_nothing() -> DatasetInfo:
    return DatasetInfo(
        Path("data"),
        "coco-instance",
        "",
        "instance",
        ("instance",),
        THINGS,
        THINGS,
        {},
        reader=None,  # type: ignore[arg-type]
    )


def names_in(info: DatasetInfo) -> dict[str, set[str]]:
    return {split: {record.image_id for record in records} for split, records in info.splits.items()}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 99)), min_size=1, unique=True),
    st.sampled_from([{"val": 0.2}, {"val": 0.3, "test": 0.3}]),
)
def test_no_group_is_in_two_splits(images: list[tuple[int, int]], shares: dict[str, float]) -> None:
    names = [f"day{day:02d}_{number}.jpg" for day, number in images]
    info = info_of(names)
    if len({day for day, _ in images}) <= len(shares):
        with pytest.raises(UsageError, match="cannot be divided"):
            divided(info, shares, "^day..")
        return
    splits = names_in(divided(info, shares, "^day(..)").info)
    where = defaultdict(set)
    for split, members in splits.items():
        assert members
        for name in members:
            where[name[:5]].add(split)
    assert all(len(found) == 1 for found in where.values())
    assert sum(map(len, splits.values())) == len(names)


def test_a_dataset_that_grows_keeps_its_test_images() -> None:
    few, many = ([f"{i}.jpg" for i in range(n)] for n in (300, 900))
    before, after = (names_in(divided(info_of(names), {"val": 0.1, "test": 0.2}).info) for names in (few, many))
    for split, members in before.items():
        assert members <= after[split]
    assert 60 < len(after["val"]) < 130
    assert 130 < len(after["test"]) < 230


@pytest.mark.parametrize(
    ("shares", "pattern", "words"),
    [({"val": 1.0}, None, "leave nothing to train on"), ({"val": 0.1}, "(", "not a regular expression"),
     ({"val": 0.1}, "^x", "does not match 3 of 3"), ({"val": 0.5, "test": 0.5}, None, "leave nothing")],
)  # fmt: skip
def test_divisions_that_cannot_be(shares: dict[str, float], pattern: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        divided(info_of(["a.jpg", "b.jpg", "c.jpg"]), shares, pattern)


@pytest.mark.parametrize("name", ["coco", "panoptic", "voc", "yolo", "labelme", "instance-maps", "camvid"])
def test_a_divided_dataset_is_found_in_its_splits(tmp_path: Path, name: str) -> None:
    write = {
        "coco": lambda root: layouts.coco_instance(root, things_only(scenes()), THINGS),
        "panoptic": lambda root: layouts.coco_panoptic(root, scenes(), LABELS),
        "voc": lambda root: layouts.voc(root, things_only(scenes()), THINGS),
        "yolo": lambda root: layouts.yolo(root, things_only(scenes()), THINGS),
        "labelme": lambda root: layouts.labelme(root, things_only(scenes()), THINGS),
        "instance-maps": lambda root: layouts.instance_maps(root, scenes()),
        "camvid": lambda root: layouts.camvid(root, scenes(), LABELS),
    }[name]
    info = detect(write(tmp_path / "data"), training=False)
    division = divided(info, {"val": 0.3, "test": 0.3})
    write_dataset(division.info, tmp_path / "out", writer_for(formats()[info.format].WRITTEN_AS, division.info))
    found = detect(tmp_path / "out")
    wanted = {split: {r.image.name for r in records} for split, records in division.info.splits.items()}
    assert {split: {r.image.name for r in records} for split, records in found.splits.items()} == wanted
    assert found.labels.names == info.labels.names


def test_equal_names_in_folders_are_images_of_their_own() -> None:
    names = [f"case{number}/image.png" for number in range(5)]
    splits = divided(info_of(names), {"val": 0.2}).info.splits
    assert sorted(record.image_id for records in splits.values() for record in records) == names
    assert splits["val"]
    by_case = divided(info_of([*names, "case0/other.png"]), {"val": 0.2}, "case[0-9]+")
    assert sum(by_case.groups.values()) == 5
