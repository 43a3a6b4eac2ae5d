"""Which format, which split, which kind of label map: the decisions, and what is said about them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segcli.data.checking.facts import facts_of
from segcli.data.checking.scan import scan
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.layouts.folders import hold_out, split_of
from segcli.data.records import Record, as_ranges
from segcli.errors import UsageError
from segcli.files.image_ref import FileRef
from segcli.inspection.gallery import open_gallery
from segcli.results.readers import open_predictions
from tests.data import layouts
from tests.data.layouts import LABELS, THINGS, scene, scenes, things_only


def test_a_tenth_is_held_out_by_name_and_said_aloud(tmp_path: Path) -> None:
    info = detect(layouts.coco_panoptic(tmp_path, {"train": scenes(train=20)["train"]}, LABELS))
    assert set(info.splits) == {"train", "val"}
    held = len(info.splits["val"])
    assert f"{held} of 20 images" in info.notes[0]
    assert "held out" in info.notes[0]


def test_held_out_images_stay_held_out() -> None:
    records = [Record(f"image{i}", FileRef(f"{i}.png"), None) for i in range(1000)]
    train, held = hold_out(records)
    assert len(train) + len(held) == 1000
    assert 70 < len(held) < 130
    more = [*records[::-1], *(Record(f"new{i}", FileRef(f"n{i}.png"), None) for i in range(500))]
    assert {r.image_id for r in held} <= {r.image_id for r in hold_out(more)[1]}
    for count in (2, 3, 5):
        train, held = hold_out(records[:count])
        assert len(train) + len(held) == count
        assert train
        assert held


def test_held_out_images_of_coco_stay_so_when_they_get_other_numbers(tmp_path: Path) -> None:
    """And one file under two numbers is not on both sides."""
    root = layouts.coco_instance(tmp_path, {"train": things_only(scenes(train=20))["train"]}, THINGS)
    file = root / "annotations/instances_train2017.json"

    def held() -> set[str]:
        info = detect(root)
        sides = [{record.image for record in info.splits[split]} for split in ("train", "val")]
        assert not sides[0] & sides[1]
        assert sum(len(records) for records in info.splits.values()) == len(raw["images"])
        return {image.name for image in sides[1]}

    raw = json.loads(file.read_text())
    before = held()
    for row in raw["images"]:
        row["id"] += 700
    for row in raw["annotations"]:
        row["image_id"] += 700
    layouts.save_json(file, raw)
    assert held() == before
    raw["images"] += [row | {"id": row["id"] + 700} for row in raw["images"]]
    layouts.save_json(file, raw)
    assert held() == before


def test_what_dataset_toml_names_and_the_format_does_not_read_is_said(tmp_path: Path) -> None:
    layouts.voc(tmp_path, things_only(scenes()), THINGS)
    (tmp_path / "dataset.toml").write_text('[train]\nimages = "JPEGImages"\n')
    assert f"{tmp_path / 'dataset.toml'}: [train] is not read for the format voc" in detect(tmp_path).notes


def test_a_single_image_is_trained_and_validated_on(tmp_path: Path) -> None:
    info = detect(layouts.coco_instance(tmp_path, {"train": things_only(scenes())["train"][:1]}, THINGS))
    assert info.splits["train"] == info.splits["val"]
    assert "only one image" in info.notes[0]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("instances_train2017", "train"), ("valid", "val"), ("Validation", "val"), ("val2017", "val"),
     ("test-dev", "test"), ("evaluation", None), ("training_images", "train"), ("annotations", None)],
)  # fmt: skip
def test_words_that_name_a_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_objects_and_classes_are_told_apart(tmp_path: Path) -> None:
    objects = detect(layouts.instance_maps(tmp_path / "objects", scenes(train=6)))
    assert (objects.format, objects.task) == ("instance-png", "instance")
    classes = detect(layouts.semantic(tmp_path / "classes", scenes(train=6)))
    assert (classes.format, classes.task) == ("semantic-png", "semantic")
    assert any("no names" in note for note in classes.notes)
    asked = detect(tmp_path / "objects", format="semantic-png")
    assert (asked.task, asked.labels.ids) == ("semantic", [0, 1, 2, 3, 4])


def test_a_list_of_several_names_is_of_classes(tmp_path: Path) -> None:
    """Organs: gapless numbers in one piece each, as objects would be."""
    layouts.instance_maps(tmp_path, scenes(train=6))
    assert detect(tmp_path).format == "instance-png"
    with pytest.raises(UsageError, match="every value is a class, say --format semantic-png"):
        detect(tmp_path, task="semantic")
    (tmp_path / "classes.txt").write_text("background\nliver\nkidney\nspleen\ncolon\n")
    info = detect(tmp_path)
    assert (info.format, info.labels.names[1:3]) == ("semantic-png", ["liver", "kidney"])


def test_a_task_decides_between_objects_and_classes(tmp_path: Path) -> None:
    """One blob an image could be either, but objects alone do not serve semantic segmentation."""
    for split in ("train", "val"):
        for shot in scenes()[split]:
            layouts.save(tmp_path / split / "images" / f"{shot.name}.png", shot.image)
            layouts.save(tmp_path / split / "masks" / f"{shot.name}.png", shot.masks[1].astype(np.uint8))
    with pytest.raises(UsageError, match="could number objects or classes"):
        detect(tmp_path)
    assert detect(tmp_path, task="semantic").labels.ids == [0, 1]


def test_many_pieces_of_one_value_are_a_class(tmp_path: Path) -> None:
    """Binary masks of many blobs: gapless 1 … 1, but in pieces."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for i in range(3):
            layouts.save(tmp_path / split / "images" / f"{i}.png", rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
            layouts.save(tmp_path / split / "labels" / f"{i}.png", (rng.random((32, 32)) > 0.8).astype(np.uint8))
    info = detect(tmp_path)
    assert (info.format, info.labels.ids) == ("semantic-png", [0, 1])


def test_coco_publishes_both_kinds_for_the_same_images(tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path, scenes(), LABELS)
    layouts.coco_instance(tmp_path, things_only(scenes()), THINGS, place=lambda s: ("images", f"instances_{s}.json"))
    info = detect(tmp_path)
    assert (info.format, info.task) == ("coco-panoptic", "panoptic")
    assert "instances_train.json" in info.notes[0]
    assert detect(tmp_path, task="instance").format == "coco-instance"
    assert detect(tmp_path, format="coco-panoptic", task="instance").format == "coco-panoptic"


def test_dataset_toml_overrides_what_is_found(tmp_path: Path) -> None:
    layouts.semantic(tmp_path, scenes(), place=lambda split: (f"photos/{split}", f"truth/{split}"), nothing=3)
    (tmp_path / "dataset.toml").write_text(
        'format = "semantic-png"\nignore = 3\nthings = ["rounded"]\n'
        '[train]\nimages = "photos/train"\nlabels = "truth/train"\n[val]\nimages = "photos/val"\nlabels = "truth/val"\n'
        '[[classes]]\nid = 1\nname = "rounded"\n[[classes]]\nid = 7\nname = "box"\n[[classes]]\nid = 90\nname = "sky"\n'
    )
    info = detect(tmp_path)
    assert (info.labels.names, info.labels.isthing, info.ignore) == (
        ["rounded", "box", "sky"],
        [True, False, False],
        (3,),
    )
    assert scan(info).problems == []
    assert detect(tmp_path / "dataset.toml").found == info.found


def test_dataset_toml_places_coco_files(tmp_path: Path) -> None:
    layouts.coco_instance(tmp_path, things_only(scenes()), THINGS, place=lambda s: (f"p/{s}_x", f"j/a{s}.json"))
    (tmp_path / "dataset.toml").write_text(
        '[train]\nimages = "p/train_x"\nannotations = "j/atrain.json"\n[val]\nannotations = "j/aval.json"\n'
    )
    info = detect(tmp_path)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 4, "val": 2}
    assert scan(info).problems == []


def test_things_can_be_declared_for_panoptic_data_that_does_not_say(tmp_path: Path) -> None:
    layouts.coco_panoptic(tmp_path, scenes(), LABELS)
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text().replace('"isthing"', '"was_thing"'))
    (tmp_path / "dataset.toml").write_text('things = ["disc", "box"]\n')
    assert detect(tmp_path).labels.isthing == [True, True, False]


def _wall_with_a_window(root: Path) -> Path:
    """6×4 pixels: a window, listed first, before a wall of five columns in two parts, drawn behind it too."""

    def box(number: int, category: int, x0: int, y0: int, x1: int, y1: int) -> dict[str, object]:
        outline = [x0, y0, x1, y0, x1, y1, x0, y1]
        return {"id": number, "image_id": 1, "category_id": category, "iscrowd": 0, "segmentation": [outline]}

    layouts.save(root / "a.png", np.zeros((4, 6, 3), np.uint8))
    raw = {
        "images": [{"id": 1, "file_name": "a.png", "width": 6, "height": 4}],
        "annotations": [box(1, 3, 1, 1, 3, 3), box(2, 8, 0, 0, 5, 2), box(3, 8, 0, 2, 5, 4)],
        "categories": [{"id": 3, "name": "window"}, {"id": 8, "name": "wall"}],
    }
    layouts.save_json(root / "_annotations.coco.json", raw)
    return root


def test_outlines_of_declared_stuff_make_a_panoptic_picture(tmp_path: Path) -> None:
    _wall_with_a_window(tmp_path)
    assert detect(tmp_path).task == "instance"
    with pytest.raises(UsageError, match=r"stuff = \[\.\.\.\].*data convert .* --to coco-panoptic"):
        detect(tmp_path, task="panoptic")
    (tmp_path / "dataset.toml").write_text('stuff = ["wall"]\n')
    info = detect(tmp_path)
    assert (info.task, info.tasks) == ("panoptic", ("panoptic", "instance", "semantic", "detect"))
    assert "pixels that none of them covers are void" in info.notes[-1]
    wall, window, void = 2, 1, 0  # the smaller is seen
    expected = [
        [wall, wall, wall, wall, wall, void],
        [wall, window, window, wall, wall, void],
        [wall, window, window, wall, wall, void],
        [wall, wall, wall, wall, wall, void],
    ]
    sample = open_split(info, "train")[0]
    np.testing.assert_array_equal(sample.id_map(), expected)
    np.testing.assert_array_equal(sample.void, np.array(expected) == void)
    counts = scan(info).splits[0]
    (facts,) = facts_of(info, "train")
    assert (facts.objects, facts.void) == ([(3, 4, False), (8, 16, False)], 4)
    assert {count.label.name: round(24 * count.share) for count in counts.classes} == {"window": 4, "wall": 16}
    assert counts.void_share == 4 / 24
    (sample,) = open_split(detect(tmp_path, task="instance"), "train")
    assert (sample.masks.sum(), sample.stated is not None) == (4, True)
    assert detect(tmp_path, task="semantic").labels.names == ["window", "wall"]


@pytest.mark.parametrize("to", ["coco", "yolo", "coco-panoptic"])
def test_outlines_of_stuff_are_kept_in_other_formats(tmp_path: Path, to: str) -> None:
    (_wall_with_a_window(tmp_path / "in") / "dataset.toml").write_text('stuff = ["wall"]\n')
    info = detect(tmp_path / "in", training=False)
    write_dataset(info, tmp_path / "out", writer_for(to, info))
    (before,), (after,) = open_split(info, "all"), open_split(written := detect(tmp_path / "out"), "train")
    assert (written.task, written.labels.names, written.labels.isthing) == (
        "panoptic",
        ["window", "wall"],
        [True, False],
    )
    np.testing.assert_array_equal(after.id_map(), before.id_map())
    outlines = written.reader.read(written.splits["train"][0], (4, 6)).labels
    assert len(outlines) == (2 if to == "coco-panoptic" else 3)


def test_what_dataset_toml_says_wrongly_of_stuff(tmp_path: Path) -> None:
    _wall_with_a_window(tmp_path)
    (tmp_path / "dataset.toml").write_text('stuff = ["walls"]\n')
    with pytest.raises(UsageError, match=r"/dataset\.toml: stuff names walls, which is no class.*did you mean wall\?"):
        detect(tmp_path)
    (tmp_path / "dataset.toml").write_text('stuff = ["wall"]\nthings = ["window", "wall"]\n')
    with pytest.raises(UsageError, match="things and stuff both name wall"):
        detect(tmp_path)


def test_data_of_stuff_alone_is_semantic(tmp_path: Path) -> None:
    _wall_with_a_window(tmp_path)
    (tmp_path / "dataset.toml").write_text('stuff = ["wall", "window"]\n')
    assert detect(tmp_path).tasks == ("semantic",)
    with pytest.raises(UsageError, match="no countable class is left"):
        detect(tmp_path, task="panoptic")


def test_photos_in_a_folder_inside_of_the_others_are_found(tmp_path: Path) -> None:
    layouts.roboflow(tmp_path, things_only(scenes()), THINGS)
    file = detect(tmp_path).splits["val"][1].image.place
    (file.parent / "images").mkdir()
    file.rename(file.parent / "images" / file.name)
    assert scan(detect(tmp_path)).problems == []
    (file.parent / "images" / file.name).unlink()
    assert [problem.message for problem in scan(detect(tmp_path)).problems] == [f"{file}: no such file"]


def test_placeholder_categories_are_left_out_but_only_those(tmp_path: Path) -> None:
    roboflow = detect(layouts.roboflow(tmp_path / "a", things_only(scenes()), THINGS))
    assert roboflow.labels.ids == [1, 7]
    assert any("category 0" in note for note in roboflow.notes)


def test_images_without_objects_are_negatives(tmp_path: Path) -> None:
    splits = things_only(scenes())
    splits["train"][0] = layouts.Shot("blank", splits["train"][0].image, np.zeros((0, 40, 56), bool), [])
    roots = [
        layouts.coco_instance(tmp_path / "coco", splits, THINGS),
        layouts.yolo(tmp_path / "yolo", splits, THINGS),
        layouts.instance_maps(tmp_path / "maps", splits),
        layouts.labelme(tmp_path / "labelme", splits, THINGS),
    ]
    for root in roots:
        info = detect(root)
        assert len(info.splits["train"]) == 4
        assert min(len(sample.labels) for sample in open_split(info, "train")) == 0
        assert scan(info).splits[0].empty == 1


def test_an_all_void_map_is_an_image_without_objects(tmp_path: Path) -> None:
    layouts.semantic(tmp_path, scenes())
    layouts.save(tmp_path / "train" / "labels" / "shot0.png", np.full((40, 56), 255, np.uint8))
    info = detect(tmp_path)
    sample = open_split(info, "train")[0]
    assert sample.masks.shape == (0, 40, 56)
    assert scan(info).splits[0].empty == 1


def test_ranges_are_short() -> None:
    assert as_ranges([1, 2, 3, 7, 90, 91]) == "1–3, 7, 90–91"
    assert as_ranges([]) == ""


def test_a_hint_where_stuff_may_be_meant_and_a_file_nobody_reads(tmp_path: Path) -> None:
    _wall_with_a_window(tmp_path)
    hint = 'every class is taken as countable; if wall is stuff, dataset.toml says so: stuff = ["wall"]'
    assert hint in detect(tmp_path).notes
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "dataset.toml").write_text('stuff = ["wall"]\n')
    info = detect(tmp_path)
    assert info.task == "instance"
    stray, beside = tmp_path / "train" / "dataset.toml", tmp_path / "dataset.toml"
    assert f"{stray} is ignored; settings are read from {beside}" in info.notes
    beside.write_text('things = ["wall", "window"]\n')
    assert hint not in detect(tmp_path).notes


def _vistas_config(root: Path) -> None:
    for split in ("training", "validation"):
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
    (root / "config.json").write_text('{"labels": [{"evaluate": tr')


def _named_pairs(root: Path) -> None:
    layouts.semantic(root, scenes())
    (root / "train" / "images" / "metadata.jsonl").write_text('{"file_name": "a.png", "mask_file_name": "b.p')


DAMAGED = {
    "CVAT, empty": (lambda root: (root / "annotations.xml").write_text(""), "annotations.xml"),
    "YOLO": (lambda root: (root / "mine.yaml").write_text("train: images\nnames:\n  0: [a\n"), "mine.yaml"),
    "Vistas": (_vistas_config, "config.json"),
    "imagefolder": (_named_pairs, "metadata.jsonl"),
    "Label Studio": (lambda root: (root / "project-1.json").write_text('[{"id": 1, "annotations": [{"re'), "project-1"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_of_other_tools_are_named(tmp_path: Path, name: str) -> None:
    make, file = DAMAGED[name]
    make(tmp_path)
    with pytest.raises(UsageError, match=rf"{file}.*not valid (JSON|XML|YAML)"):
        detect(tmp_path)


@pytest.mark.parametrize("name", ["instances_val2017.json", "panoptic_val.json", "_annotations.coco.json", "val.json"])
def test_a_damaged_split_is_never_just_missing(tmp_path: Path, name: str) -> None:
    """Wherever it was cut: by its name as long as that is COCO's, else by the tables that can still be seen."""
    root = layouts.coco_instance(tmp_path, things_only(scenes()), THINGS)
    whole = (root / "annotations/instances_val2017.json").read_bytes()
    (root / "annotations/instances_val2017.json").unlink()
    file = root / "annotations" / name
    seen = whole.index(b'"images"') + 8 if name == "val.json" else 0
    for place in [*range(seen, len(whole) - 1, len(whole) // 9), len(whole) - 1]:
        file.write_bytes(whole[:place])
        with pytest.raises(UsageError, match=rf"{name}: .*export it again"):
            detect(root)
    file.write_bytes(b"\0" * 99 if seen == 0 else b'{"images": [' + b"\0" * 99)
    with pytest.raises(UsageError, match=rf"{name}: not valid JSON.*export it again"):
        detect(root)


def test_strangers_among_annotations_stay_ignored(tmp_path: Path) -> None:
    root = layouts.coco_instance(tmp_path, things_only(scenes()), THINGS)
    for name, text in {"settings.json": '{"editor.fontSize": 1,}', "a.json": "", "image_info_test.json": "{"}.items():
        (root / "annotations" / name).write_text(text)
        (root / name).write_text(text)
    assert set(detect(root).splits) == {"train", "val"}


def test_damaged_labelme_files_are_named_however_early_they_end(tmp_path: Path) -> None:
    layouts.labelme(tmp_path, things_only(scenes()), THINGS)
    first, second, third = sorted(tmp_path.rglob("*.json"))[:3]
    text = first.read_text()
    first.write_text(text[: text.index('"shapes"') + 12])
    second.write_text("")
    third.with_name("settings.json").write_text("{")
    faults = [fault.message for fault in detect(tmp_path).faults]
    assert len(faults) == 2
    assert all(any(f"{file}: not valid JSON" in fault for fault in faults) for file in (first, second))


def test_pictures_alone_are_called_so(tmp_path: Path) -> None:
    """Photos that nobody annotated, and results of predict without masks."""
    layouts.save(tmp_path / "a.png", scene(1).image)
    with pytest.raises(UsageError, match="1 image and no annotations; looked for COCO JSON"):
        detect(tmp_path)
    (tmp_path / "counts.csv").write_text("image,total\n")
    (tmp_path / "a.overlay.jpg").write_text("")
    with pytest.raises(UsageError, match=r"saved csv and overlay alone here.*--save json,png"):
        detect(tmp_path)
    with pytest.raises(UsageError, match="saved csv and overlay alone here"):
        open_predictions(tmp_path)
    with pytest.raises(UsageError, match="saved csv and overlay alone here"):
        open_gallery(str(tmp_path), model=lambda: pytest.fail("loaded a model"))
