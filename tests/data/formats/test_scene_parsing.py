"""Full ADE20K and CamVid, as they are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcli.data.dataset import open_split
from segcli.data.detect import detect
from tests.data.layouts import LABELS, Splits, save, save_json, scenes

FULL = {1: 401, 7: 2978, 90: 12}  # numbers of classes above and below 256


def full_ade20k(root: Path, splits: Splits) -> Path:
    """images/ADE/{training,validation}/urban/street with a map, a JSON file and a folder of masks for each photo."""
    names = {label.id: label.name for label in LABELS}
    for split, shots in splits.items():
        folder = root / "images/ADE" / {"train": "training", "val": "validation"}[split] / "urban/street"
        for number, shot in enumerate(shots, start=1):
            stem = f"ADE_{split}_{number:08d}"
            save(folder / f"{stem}.png", shot.image).unlink()
            Image.fromarray(shot.image).save(folder / f"{stem}.jpg", quality=95)
            picture = np.zeros_like(shot.image)
            objects = []
            for place, (mask, label) in enumerate(zip(shot.masks, shot.ids, strict=True), start=1):
                picture[mask] = (FULL[label] // 256 * 10, FULL[label] % 256, place)
                parts = {"hasparts": [], "ispartof": [], "part_level": 0}
                objects.append({"id": place, "name_ndx": FULL[label], "name": names[label], "parts": parts})
                save(folder / stem / f"instance_{place:03d}_{stem}.png", mask * np.uint8(255))
            objects.append({"id": 99, "name_ndx": 3000, "name": "wheel", "parts": {"part_level": 1}})
            save(folder / f"{stem}_seg.png", picture)
            save(folder / f"{stem}_parts_1.png", picture)
            save_json(folder / f"{stem}.json", {"annotation": {"filename": f"{stem}.jpg", "object": objects}})
    return root


def test_full_ade20k_is_semantic_and_with_declared_things_panoptic(tmp_path: Path) -> None:
    root = full_ade20k(tmp_path, scenes())
    info = detect(root)
    assert {split: len(records) for split, records in info.splits.items()} == {"train": 4, "val": 2}
    assert dict(zip(info.labels.ids, info.labels.names, strict=True)) == {12: "sky", 401: "disc", 2978: "box"}
    assert (info.format, info.tasks) == ("ade20k-full", ("semantic",))
    for sample, shot in zip(open_split(info, "train"), scenes()["train"], strict=True):
        np.testing.assert_array_equal(sample.void, ~shot.masks.any(axis=0))
        for mask, label in zip(sample.masks, sample.labels, strict=True):
            ours = [m for m, own in zip(shot.masks, shot.ids, strict=True) if FULL[own] == info.labels[int(label)].id]
            np.testing.assert_array_equal(mask, np.any(ours, axis=0))
    (root / "dataset.toml").write_text('things = ["disc", "box"]\n')
    info = detect(root)
    assert info.task == "panoptic"
    for sample, shot in zip(open_split(info, "val"), scenes()["val"], strict=True):
        got = sorted(
            (info.labels[int(label)].id, int(m.sum())) for label, m in zip(sample.labels, sample.masks, strict=True)
        )
        assert got == sorted((FULL[label], int(m.sum())) for label, m in zip(shot.ids, shot.masks, strict=True))


def test_camvid_of_twelve_classes(tmp_path: Path) -> None:
    """SegNet's division: train and trainannot; value 11 is void."""
    for split, shots in scenes().items():
        for number, shot in enumerate(shots):
            save(tmp_path / split / f"0001TP_{number:06d}.png", shot.image)
            label_map = np.full(shot.image.shape[:2], 11, np.uint8)
            label_map[shot.masks[0]] = 3
            save(tmp_path / f"{split}annot" / f"0001TP_{number:06d}.png", label_map)
    info = detect(tmp_path, task="semantic")
    assert (len(info.labels), info.labels.names[3], 11 in info.ignore) == (11, "road", True)
    sample, shot = open_split(info, "val")[0], scenes()["val"][0]
    np.testing.assert_array_equal(sample.void, ~shot.masks[0])
    assert [info.labels[int(label)].name for label in sample.labels] == ["road"]


@pytest.mark.parametrize("gap", [" ", "\t\t"])
def test_camvid_of_label_colors(tmp_path: Path, gap: str) -> None:
    """32 colours in label_colors.txt, of which Void is not trained on."""
    table = [("64 128 64", "Animal"), ("128 0 0", "Building"), ("0 0 0", "Void")]
    (tmp_path / "label_colors.txt").write_text("".join(f"{color}{gap}{name}\r\n" for color, name in table))
    for split, shots in scenes().items():
        for shot in shots:
            save(tmp_path / split / f"{shot.name}.png", shot.image)
            picture = np.zeros_like(shot.image)
            picture[shot.masks[0]] = (128, 0, 0)
            save(tmp_path / f"{split}_labels" / f"{shot.name}_L.png", picture)
    info = detect(tmp_path)
    assert (info.labels.names, info.task) == (["Animal", "Building"], "semantic")
    sample, shot = open_split(info, "train")[0], scenes()["train"][0]
    np.testing.assert_array_equal(sample.void, ~shot.masks[0])
    np.testing.assert_array_equal(sample.masks[0], shot.masks[0])
    assert [info.labels[int(label)].name for label in sample.labels] == ["Building"]
