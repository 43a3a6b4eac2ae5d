"""Every kind of data × {check, convert, load}: what docs/data.md says is read, and which of it is run here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from segcli.data.checking.check import check
from segcli.data.converting.convert import write_dataset
from segcli.data.converting.writers import writer_for
from segcli.data.dataset import open_split
from segcli.data.detect import detect
from segcli.data.formats import formats
from segcli.data.loading.collate import Layout
from segcli.data.loading.copy_paste import CopyPaste
from segcli.data.loading.loader import ExampleMaker, Share, make_loader
from segcli.data.loading.order import Order
from segcli.data.loading.transforms import ColorJitter, JitterCrop, TrainTransform
from segcli.data.records import DatasetInfo
from tests.data import layouts
from tests.data.formats.test_formats import FORMATS
from tests.data.formats.test_labelling_tools import darwin, object_masks, supervisely, vott
from tests.data.formats.test_other_tools import label_map, photo, png, tar, vistas
from tests.data.formats.test_scene_parsing import full_ade20k
from tests.data.layouts import LABELS, THINGS, scenes, things_only

STRUCTURES = [case for case in FORMATS if case.name != "semantic-nameless"]


def _written(to: str) -> Callable[[Path], Path]:
    """What a writer makes of COCO instances, to be read again."""

    def write(root: Path) -> Path:
        source = layouts.coco_instance(root / "source", things_only(scenes()), THINGS)
        info = detect(source)
        write_dataset(info, root / "data", writer_for(to, info))
        return root / "data"

    return write


def _of_cityscapes() -> layouts.Splits:
    """The scenes with ids of Cityscapes: cars, buildings and roads."""
    ids = {1: 26, 7: 11, 90: 7}
    return {
        split: [replace(shot, ids=[ids[label] for label in shot.ids]) for shot in shots]
        for split, shots in scenes().items()
    }


def _tars(root: Path) -> Path:
    for split in ("train", "val"):
        parts = [
            (f"{n}.{end}", png(one(n))) for n in range(3) for end, one in (("png", photo), ("mask.png", label_map))
        ]
        tar(root / f"{split}-0.tar", parts)
    return root


def _tables(root: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    for split in ("train", "validation"):
        rows = [{"image": {"bytes": png(photo(n))}, "label": {"bytes": png(label_map(n))}} for n in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), root / f"{split}-0.parquet", row_group_size=2)
    return root


KINDS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    **{case.name: (case.format, lambda root, case=case: case.write(
        root, things_only(scenes()) if case.only_things else scenes())) for case in STRUCTURES},
    "voc": ("voc", lambda root: layouts.voc(root, scenes(), LABELS)),
    "cvat-masks": ("voc", lambda root: layouts.cvat_masks(root, scenes(), LABELS)),
    "cityscapes": ("semantic-png", lambda root: layouts.cityscapes(root, _of_cityscapes())),
    "ade20k": ("semantic-png", lambda root: layouts.ade20k(root, scenes())),
    "ade20k-full": ("ade20k-full", lambda root: full_ade20k(root, scenes())),
    "vistas": ("mapillary-vistas", lambda root: vistas(root, panoptic=True)),
    "vistas-labels": ("mapillary-vistas", lambda root: vistas(root, panoptic=False)),
    "cvat-xml": ("cvat", _written("cvat")),
    "label-studio": ("label-studio", _written("label-studio")),
    "supervisely": ("supervisely", supervisely),
    "darwin": ("darwin", darwin),
    "vott": ("vott", vott),
    "object-masks": ("object-masks", object_masks),
    "via": ("via", lambda root: layouts.via(root, things_only(scenes()), THINGS)),
    "hf-parquet": ("hf-datasets", _tables),
    "webdataset": ("webdataset", _tars),
}  # fmt: skip


BOXES_TOO = ("supervisely", "darwin", "vott")  # whose small projects have a rectangle beside the outlines


def areas(info: DatasetInfo) -> dict[str, list[tuple[str, int]]]:
    """split -> (class, area) of its objects, of those that a conversion may put into another order or background."""
    return {
        split: sorted(
            (info.labels[int(label)].name, rle.area)
            for sample in open_split(info, split)
            for label, rle in zip(sample.labels, sample.rles, strict=True)
        )
        for split in info.splits
    }


@pytest.mark.parametrize("kind", KINDS)
def test_check_convert_and_load(tmp_path: Path, kind: str) -> None:
    format, write = KINDS[kind]
    (tmp_path / "in").mkdir()
    info = detect(write(tmp_path / "in"))
    assert info.format == format

    report = check(info, threads=1)
    faults = {finding.kind for finding in report.findings} & {"unreadable", "bad-row", "no-mask"}
    assert faults == ({"no-mask"} if kind in BOXES_TOO else set())

    to = {"panoptic": "coco-panoptic", "instance": "coco", "semantic": "semantic-png"}[info.task]
    written = write_dataset(info, tmp_path / "out", writer_for(to, info), threads=1)
    assert written.problems == []
    converted = detect(tmp_path / "out", task=info.task)
    before, after = areas(info), areas(converted)
    for split, objects in before.items():
        assert [pair for pair in after[split] if pair[0] in info.labels.names] == objects

    transform = TrainTransform(JitterCrop((32, 32), (0.5, 1.5)), color=ColorJitter())
    train = open_split(info, "train")
    maker = ExampleMaker(train, transform, Order(3, len(train)), CopyPaste(1.0, frozenset({0})))
    loader = make_loader(maker, share=Share(2), layout=Layout((32, 32)), workers=0, start_step=0)
    steps = list(islice(loader, 2))
    for step in steps:
        for batch, targets in step.batches:
            assert batch.images.shape == (2, 3, 32, 32)
            for target in targets:
                assert target.masks.shape[0] == len(target.labels)
                assert torch.all((target.labels >= 0) & (target.labels < len(info.labels)))
    assert sum(len(target.labels) for step in steps for _, targets in step.batches for target in targets) > 0


def test_no_format_is_left_out() -> None:
    assert {format for format, _ in KINDS.values()} == formats().keys()
