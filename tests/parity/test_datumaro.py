"""Datumaro, CVAT's own reader, reads what segcli writes with the same pixels, and segcli what it writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from tests.data import layouts
from tests.data.layouts import THINGS, Splits, scenes, things_only

datumaro = pytest.importorskip("datumaro", reason="datumaro (PyPI) is not installed")

Objects = dict[str, list[tuple[str, int]]]


def drawn() -> Splits:
    """Scenes with an object that has a hole, and one of two parts."""
    splits = things_only(scenes(2, 1))
    shot = splits["train"][0]
    ring, parts = np.zeros((2, *shot.image.shape[:2]), dtype=bool)
    ring[10:30, 30:50] = True
    ring[15:22, 36:44] = False
    parts[32:38, 2:8] = parts[32:38, 12:20] = True
    shot.masks = np.concatenate([shot.masks, [ring], [parts]])
    shot.ids = [*shot.ids, 7, 1]
    return splits


def expected(split: str) -> Objects:
    names = {label.id: label.name for label in THINGS}
    return {
        shot.name: sorted((names[label], int(mask.sum())) for mask, label in zip(shot.masks, shot.ids, strict=True))
        for shot in drawn()[split]
    }


def seen_by_datumaro(dataset: Any) -> Objects:
    """Polygons of one group are one object; drawn as pycocotools draws them."""
    from datumaro.components.annotation import AnnotationType
    from pycocotools import mask as coco_mask

    names = [category.name for category in dataset.categories()[AnnotationType.label]]
    found: Objects = {}
    for item in dataset:
        height, width = item.media.data.shape[:2]
        objects: dict[Any, np.ndarray] = {}
        for number, row in enumerate(item.annotations):
            if row.type == AnnotationType.mask:
                mask = row.image.astype(bool)
            elif row.type == AnnotationType.polygon:
                outlines = coco_mask.frPyObjects([row.points], height, width)
                mask = coco_mask.decode(coco_mask.merge(outlines)).astype(bool)
            else:
                continue
            key = (row.label, row.group or f"alone-{number}")
            objects[key] = objects.get(key, False) | mask
        found[item.id.rsplit("/", 1)[-1]] = sorted((names[key[0]], int(mask.sum())) for key, mask in objects.items())
    return found


def seen_by_segcli(root: Path, split: str) -> Objects:
    info = detect(root, task="instance", training=False)
    return {
        sample.file.stem: sorted(
            (info.labels[int(label)].name, rle.area) for label, rle in zip(sample.labels, sample.rles, strict=True)
        )
        for sample in open_split(info, split)
    }


def written(root: Path, to: str, **options: Any) -> Path:
    info = detect(layouts.coco_instance(root / "source", drawn(), THINGS, form="rle"), training=False)
    write_dataset(info, root / to, writer_for(to, info, **options), threads=1)
    return root / to


def with_images_folder(root: Path) -> Path:
    """Datumaro looks for COCO's images in images/train."""
    (root / "images").mkdir()
    for split in ("train", "val"):
        (root / split).rename(root / "images" / split)
    return root


READ: dict[str, tuple[str, dict[str, Any], Callable[[Path], Path]]] = {
    "coco": ("coco_instances", {}, with_images_folder),
    "coco, polygons": ("coco_instances", {"as_polygons": True}, with_images_folder),
    "cvat": ("cvat", {}, lambda root: root),
    "voc": ("voc_segmentation", {}, lambda root: root),
}


@pytest.mark.parametrize("name", READ)
def test_datumaro_reads_what_segcli_writes(tmp_path: Path, name: str) -> None:
    format, options, placed = READ[name]
    root = placed(written(tmp_path, name.split(",")[0], **options))
    given = {"subset": "train"} if format == "cvat" else {}  # its reader takes one subset of a file
    dataset = datumaro.Dataset.import_from(str(root), format, **given)
    seen = seen_by_datumaro(dataset)
    assert {name: seen[name] for name in expected("train")} == expected("train")


@pytest.mark.parametrize("format", ["cvat", "voc_segmentation"])
def test_segcli_reads_what_datumaro_writes(tmp_path: Path, format: str) -> None:
    source = with_images_folder(written(tmp_path, "coco"))
    datumaro.Dataset.import_from(str(source), "coco_instances").export(str(tmp_path / "out"), format, save_media=True)
    for split in ("train", "val"):
        assert seen_by_segcli(tmp_path / "out", split) == expected(split)
