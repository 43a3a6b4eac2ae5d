"""COCO instances: polygons and run-length masks in one JSON file a split, also as Roboflow and labelme export them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.rle import RLE
from segcli.data.coco.files import (
    annotation_files,
    image_files,
    merged_categories,
    merged_rows,
    named_files,
    records,
    refuse_rivals,
)
from segcli.data.coco.packs import Pack, pack, read_piece, stated
from segcli.data.coco.rows import box_piece, instance_piece, rectangle_piece
from segcli.data.glance import glance
from segcli.data.numbers import counted
from segcli.data.records import Fault, Found, Record, Stated
from segcli.data.settings import Settings
from segcli.data.truth import LeftOut, Polygons, ShapeTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_places import led_out
from segcli.types import CocoObjects, Label, Task

FORMAT = "coco-instance"
SOUGHT = "COCO JSON"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ("images", "annotations")
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
COORDINATE_DIGITS = 3  # thousandths of a pixel are kept
_BACKGROUND = {"background", "_background_", "__background__"}


def probe(root: Path, settings: Settings) -> str | None:
    """The annotation files, in a few words; None if there are none."""
    return named_files(annotation_files(root, settings, "instance"), root)


def load(root: Path, settings: Settings) -> Found:
    """The dataset; boxes alone serve detection.

    Raises UsageError for broken annotations, and for a split of boxes beside one of masks.
    """
    files = annotation_files(root, settings, "instance")
    sources = [(split, file) for split, of_split in files.items() for file in of_split]
    kind, piece = ("rectangles", rectangle_piece) if settings.boxes else ("instance", instance_piece)
    packs = [(split, pack(file, kind, piece)) for split, file in sources]
    refuse_rivals(packs, "instance")
    _refuse_unreadable(packed for _, packed in packs)
    tasks: tuple[Task, ...] = ("instance",)
    notes: list[str] = []
    if any(packed.unmasked for _, packed in packs) and not any(packed.used for _, packed in packs):
        notes += [
            f"{packed.source.name}: {count:,} outlines are no polygons but {why}: taken as boxes"
            for _, packed in packs
            for why, count in packed.unmasked.items()
            if why
        ]
        packs, tasks = [(split, pack(file, "detect", box_piece)) for split, file in sources], ("detect",)
    splits: dict[str, list[Record]] = {}
    faults: list[Fault] = []
    for number, (split, packed) in enumerate(packs):
        faults += _faults(packed, "mask" if "instance" in tasks else "box")
        notes += [f"{packed.source.name}: {what}" for what in packed.nameless]
        names = [image.file_name for image in packed.images]
        photos = image_files(root, settings, split, packed.source, names)
        notes += led_out(packed.source.name, root, zip(names, photos, strict=True), split)
        before = splits.setdefault(split, [])
        before += records(number, photos, packed.images, before)
    every = [packed for _, packed in packs]
    categories, placeholder = _without_placeholder(merged_categories(every), every)
    if placeholder:
        notes.append(f"category {placeholder} has no objects and only stands for the group or the background: left out")
    labels = settings.label_set([Label(row["id"], row["name"], isthing=True) for row in categories], every[0].source)
    reader = InstanceReader(
        tuple(packed.data for packed in every),
        tuple(str(packed.source) for packed in every),
        tuple(packed.zero for packed in every),
        boxes="detect" in tasks,
    )
    what = f"COCO {'instances' if 'instance' in tasks else 'boxes'}: {probe(root, settings)}"
    return Found(
        FORMAT, what, splits, labels, tasks, reader, notes=tuple(notes), faults=tuple(faults), rows=merged_rows(every)
    )


def _refuse_unreadable(packs: Iterable[Pack]) -> None:
    """Raise UsageError where outlines are there and none can be read: boxes are not what was drawn."""
    for packed in packs:
        bad = sum(few for few, _ in packed.rows.values())
        if bad and not packed.used:
            reason, first, _ = packed.bad[0]
            raise UsageError(
                f"{packed.source}: none of its {bad:,} outlines can be read; the first: {first}: {reason}; "
                "correct it or export again"
            )


def _faults(packed: Pack, lacking: str) -> list[Fault]:
    """What to say of one file. Raises UsageError for a split of boxes beside one of masks."""
    unmasked = sum(packed.unmasked.values())
    if unmasked and not packed.used:
        raise UsageError(
            f"{packed.source}: {unmasked} boxes and no masks, unlike another split; segmentation needs "
            "polygons or run-length masks"
        )
    faults = packed.faults()
    for why, count in packed.unmasked.items():
        because = f" ({why})" if why else ""
        have = counted(count, "annotation has", "annotations have")
        message = f"{packed.source.name}: {have} no {lacking}{because} and {'is' if count == 1 else 'are'} left out"
        faults.append(Fault("no-mask", message, count))
    if packed.repeated:
        message = (
            f"{packed.source.name}: {len(packed.repeated)} annotation ids are used more than once, such as "
            f"{packed.repeated[0]}; tools that look annotations up by id lose all but one"
        )
        faults.append(Fault("repeated-id", message, len(packed.repeated)))
    return faults


def _without_placeholder(rows: list[dict[str, Any]], packs: list[Pack]) -> tuple[list[dict[str, Any]], str | None]:
    """Exporters put an unused category 0 first: the background (labelme), or the group of the others (Roboflow)."""
    used = frozenset().union(*(packed.used for packed in packs))
    first = min(rows, key=lambda row: row["id"], default=None)
    if first is None or first["id"] != 0 or 0 in used or len(rows) == 1:
        return rows, None
    groups = {row.get("supercategory") for row in rows if row is not first}
    taken = {row["name"] for row in rows if row is not first}
    if first["name"].lower() in _BACKGROUND or groups == {first["name"]} or first["name"] in taken:
        return [row for row in rows if row is not first], f"0 ({first['name']!r})"
    return rows, None


@dataclass(frozen=True)
class InstanceReader:
    """Reads an image's shapes from a pack. One pack a split; `sources` are the files they came from, `zeros` the
    category of each one's annotation 0, if it has one. boxes: there are no masks to compare
    what is stated with.
    """

    packs: tuple[Path, ...]
    sources: tuple[str, ...]
    zeros: tuple[int | None, ...]
    boxes: bool = False
    renamed: tuple[tuple[tuple[int, int], ...], ...] = ()  # of each pack: category -> class, where they differ

    def files(self, record: Record) -> list[Path]:
        """None: the annotations of all images are in one file."""
        return []

    def stated(self, record: Record) -> list[Stated]:
        """What the file says of each object, in the order of `read`."""
        number, offset, length = self._place(record)
        rows = read_piece(self.packs[number], offset, length)[1]
        return [stated(f"annotation {row['id']}", {} if self.boxes else row) for row in rows]

    def _place(self, record: Record) -> tuple[int, int, int]:
        assert isinstance(record.truth, tuple)
        return record.truth

    def read(self, record: Record, size: tuple[int, int]) -> ShapeTruth:
        """The objects, each as polygons or a run-length mask."""
        number, offset, length = self._place(record)
        frame, rows = read_piece(self.packs[number], offset, length)
        if frame and frame != size:
            raise _other_size(record, size, self.sources[number], frame)
        shapes: list[RLE | Polygons] = []
        kept: list[dict[str, Any]] = []
        numbers = dict(self.renamed[number]) if self.renamed else {}
        left_out: list[LeftOut] = []
        for row in rows:
            shape = row["segmentation"]
            if isinstance(shape, dict):
                rle = RLE.from_coco(shape)
                if rle.size != size:  # the rows of an image that states the right size, and whole images otherwise
                    reason = f"run lengths of {rle.size[1]}×{rle.size[0]} pixels, its image is of {size[1]}×{size[0]}"
                    where = f"{self.sources[number]}: annotation {row['id']} of image {record.image_id}"
                    left_out.append(LeftOut(reason, where, row["category_id"]))
                    continue
                shapes.append(rle)
            else:
                points = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in shape]
                shapes.append([polygon.round(COORDINATE_DIGITS) for polygon in points])
            kept.append(row)
        if left_out and not kept and frame is None:  # the picture is another, or was resized
            raise _other_size(record, size, self.sources[number], RLE.from_coco(rows[0]["segmentation"]).size)
        return ShapeTruth(
            size,
            shapes,
            np.array([numbers.get(row["category_id"], row["category_id"]) for row in kept], dtype=np.int64),
            np.array([row["iscrowd"] for row in kept], dtype=bool),
            None if self.renamed else CocoObjects(tuple(kept), self.zeros[number]),
            tuple(left_out),
        )


def _other_size(record: Record, size: tuple[int, int], source: str, stated: tuple[int, int]) -> InputError:
    turned = ""
    if stated == size[::-1]:
        tagged = glance(record.image).orientation >= 5  # the four that swap the sides
        why = "the picture has a rotation tag that its annotations ignore" if tagged else "they look swapped"
        turned = f" ({why})"
    return InputError(
        f"{record.image}: {size[1]}×{size[0]} pixels, but {stated[1]}×{stated[0]} in {Path(source).name}{turned}; "
        "annotations must match the image as it is stored"
    )
