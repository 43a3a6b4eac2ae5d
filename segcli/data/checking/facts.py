"""Everything there is to say about one image and its annotations: what checking and counting are made of."""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segcli.codecs.opencv import opencv
from segcli.codecs.rle import RLE
from segcli.data.checking.per_image import is_passing, remembered_rows
from segcli.data.checking.rotation import read_truth
from segcli.data.dataset import Dataset, open_split
from segcli.data.formats.coco_instance import InstanceReader
from segcli.data.formats.coco_panoptic import PanopticReader
from segcli.data.formats.instance_png import InstanceMapReader
from segcli.data.glance import Glance, glance
from segcli.data.objects import overlapping, rles_of, unknown_pixels
from segcli.data.records import DatasetInfo, Fault, Reader, Record, Stated
from segcli.data.truth import MapTruth, Polygons, ShapeTruth, Truth, Window
from segcli.errors import InputError, UsageError

_VERSION = 5
_SAME = 0.9  # two objects of a class with this IoU are one that was drawn twice
_OVERLAP_SHARE, _OVERLAP_PIXELS = 0.05, 10  # less of the smaller object is two outlines that touch
_FEW_OBJECTS, _MANY_PIECES = 3, 12  # of an image whose objects may be a mask of all of them
_OUT = 1.0  # pixels that a polygon may reach beyond the image by rounding


@dataclass(frozen=True)
class Facts:
    """One image.

    size: (H, W) upright; (0, 0) if it cannot be read. objects: (class id, pixels, is a crowd) of each object that has
    pixels. void: pixels of unknown truth. overlaps: (class id, class id, shared pixels) of each pair. thumb: what
    `glance` saw, empty if nothing. faults: what is wrong with it. passing: that may be over without a change of the
    files, and is not remembered.
    """

    size: tuple[int, int]
    objects: list[tuple[int, int, bool]] = field(default_factory=list)
    void: int = 0
    overlaps: list[tuple[int, int, int]] = field(default_factory=list)
    thumb: str = ""
    faults: list[Fault] = field(default_factory=list)
    passing: bool = False

    @property
    def usable(self) -> bool:
        """Whether the image and its labels can be read."""
        return not any(fault.kind in ("unreadable", "labels") for fault in self.faults)

    def to_json(self) -> list[Any]:
        """The form in which it is remembered."""
        faults = [[fault.kind, fault.message, fault.amount] for fault in self.faults]
        return [self.size, self.objects, self.void, self.overlaps, self.thumb, faults]

    @classmethod
    def from_json(cls, value: Any) -> Facts | None:
        """What `to_json` made; None if it is something else."""
        try:
            size, objects, void, overlaps, thumb, faults = value
            return cls(
                (int(size[0]), int(size[1])),
                [(label, area, crowd) for label, area, crowd in objects],
                void,
                [(a, b, pixels) for a, b, pixels in overlaps],
                thumb,
                [Fault(*fault) for fault in faults],
            )
        except (TypeError, ValueError):
            return None


def facts_of(
    info: DatasetInfo, split: str, *, threads: int | None = None, progress: Callable[[], None] | None = None
) -> Iterator[Facts]:
    """The facts of a split's images, in the order of its records; remembered until a file changes."""
    dataset = open_split(info, split)
    rows = remembered_rows(
        f"facts-{_VERSION}-{dataset.form}",
        info,
        dataset,
        split,
        look,
        to_json=Facts.to_json,
        from_json=Facts.from_json,
        passing=lambda facts: facts.passing,
        threads=threads,
    )
    for row in rows:
        yield row
        if progress:
            progress()


def look(dataset: Dataset, record: Record) -> Facts:
    """Read one image and its annotations; its faults are part of the answer."""
    try:
        seen = glance(record.image)
    except InputError as error:
        return Facts((0, 0), faults=[Fault("unreadable", str(error))], passing=is_passing(error))
    thumb = base64.b64encode(seen.thumb.tobytes()).decode()
    try:
        truth, faults = read_truth(dataset.reader, record, seen)
        faults += _more_pages(record, seen)
    except InputError as error:
        return Facts(seen.size, thumb=thumb, faults=[Fault("unreadable", str(error))], passing=is_passing(error))
    except UsageError as error:
        return Facts(seen.size, thumb=thumb, faults=[Fault("labels", str(error))])
    faults += [Fault("bad-row", f"{row.where}: left out: {row.reason}") for row in truth.left_out]
    names = {label.id: label.name for label in dataset.source_labels}
    rles = rles_of(truth)
    stated = [] if any(fault.kind == "rotation" for fault in faults) else _stated(dataset.reader, record)
    objects = _objects(stated, record, truth, rles, names)
    faults += [fault for item in objects for fault in item.faults()]
    if isinstance(dataset.reader, InstanceMapReader):
        faults += _pieces(record, objects)
    if isinstance(dataset.reader, PanopticReader):
        faults += _repeated(objects)
    twice, overlaps = _shared(objects) if isinstance(truth, ShapeTruth) else ([], [])
    faults += twice
    seen_truth = dataset.as_seen(truth)
    void = unknown_pixels(seen_truth)
    if void and void == seen.size[0] * seen.size[1]:
        faults.append(Fault("all-void", f"{record.image}: every pixel is void; nothing can be learnt from it"))
    if seen_truth is truth:
        present = [(item.label, item.area, item.crowd) for item in objects if item.area]
    else:
        areas = seen_truth.areas(Window.whole(seen_truth.size)).tolist()
        rows = zip(seen_truth.labels.tolist(), areas, seen_truth.crowd.tolist(), strict=True)
        present = [(label, area, crowd) for label, area, crowd in rows if area]
    return Facts(seen.size, present, void, overlaps, thumb, faults)


def _more_pages(record: Record, seen: Glance) -> list[Fault]:
    if seen.pages == 1:
        return []
    return [Fault("pages", f"{record.image}: {seen.pages} pages, only the first is used", seen.pages)]


# ------------------------------------------------------------------------------------------------------- one by one


@dataclass(frozen=True)
class _Object:
    """One object: what it is called, its mask, its polygons if it has some, and what the file says of it."""

    where: str
    label: int
    crowd: bool
    rle: RLE
    polygons: Polygons | None
    stated: Stated | None
    is_expected: bool  # there must be pixels: somebody drew or listed it

    @property
    def area(self) -> int:
        return self.rle.area

    def faults(self) -> Iterator[Fault]:
        height, width = self.rle.size
        out = 0.0
        if self.polygons:
            points = np.concatenate(self.polygons)
            low, high = points.min(axis=0), points.max(axis=0)
            out = max(0.0, -low.min(), high[0] - width, high[1] - height)
        if out > _OUT:
            what = f"reaches {out:.0f} pixels out of the image" if self.area else "lies outside of the image"
            yield Fault("off-image", f"{self.where} {what} of {width}×{height}")
        elif not self.area and self.is_expected:
            yield Fault("no-pixels", f"{self.where} covers no pixel")
        if self.stated and self.area:
            yield from self._disagreements(self.stated)

    def _disagreements(self, stated: Stated) -> Iterator[Fault]:
        """Area and box against the mask. Tools round outlines in their own ways, so polygons have the slack of that."""
        drawn = float(sum(_enclosed(polygon) for polygon in self.polygons or ())) or self.area
        x, y, w, h = self.rle.bbox
        outline = 2.0 * (w + h) if self.polygons is None else sum(_length(polygon) for polygon in self.polygons)
        slack = 0.5 if self.polygons is None else max(2.0, 0.5 * outline, 0.01 * self.area)
        low, high = min(drawn, self.area) - slack, max(drawn, self.area) + slack
        if stated.area is not None and not low <= stated.area <= high:
            box_area = stated.box is not None and math.isclose(stated.area, stated.box[2] * stated.box[3], abs_tol=1)
            whose = " (its box's)" if box_area else ""
            area = f"area {stated.area:g} in the file{whose}"
            yield Fault("area", f"{self.where}: {area}, {self.area} pixels in its mask")
        if stated.box is None:
            return
        boxes = [np.array([x, y, x + w, y + h])]
        if self.polygons:
            points = np.concatenate(self.polygons)
            boxes.append(np.concatenate([points.min(axis=0), points.max(axis=0)]))
        bx, by, bw, bh = stated.box
        told = np.array([bx, by, bx + bw, by + bh])
        if min(np.abs(told - box).max() for box in boxes) > (1.0 if self.polygons is None else 2.0):
            shown = ", ".join(f"{value:g}" for value in stated.box)
            yield Fault("box", f"{self.where}: bbox {shown} in the file, {x}, {y}, {w}, {h} around its mask")


def _enclosed(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _length(polygon: np.ndarray) -> float:
    return float(np.hypot(*(np.roll(polygon, -1, axis=0) - polygon).T).sum())


def _stated(reader: Reader, record: Record) -> list[Stated]:
    return reader.stated(record) if isinstance(reader, InstanceReader | PanopticReader) else []


def _objects(
    stated: list[Stated], record: Record, truth: Truth, rles: list[RLE], names: dict[int, str]
) -> list[_Object]:
    objects = []
    for index, rle in enumerate(rles):
        told = stated[index] if index < len(stated) else None
        label = int(truth.labels[index])
        shape = truth.shapes[index] if isinstance(truth, ShapeTruth) else rle
        called = told.name if told else f"object {index + 1}"
        where = f"{record.image}: {called} ({names.get(label, label)})"
        polygons = None if isinstance(shape, RLE) else shape
        is_expected = told is not None or not isinstance(truth, MapTruth)
        objects.append(_Object(where, label, bool(truth.crowd[index]), rle, polygons, told, is_expected))
    return objects


def _repeated(objects: list[_Object]) -> list[Fault]:
    """Segments that share an id with another one of their image."""
    counts = Counter(item.stated.name for item in objects if item.stated)
    return [
        Fault("repeated-id", f"{item.where} has the id of another segment of the image")
        for item in objects
        if item.stated and counts[item.stated.name] > 1 and not item.area
    ]


def _pieces(record: Record, objects: list[_Object]) -> list[Fault]:
    """One object that lies all over the image: objects that nobody told apart, as in a mask of black and white."""
    if not objects or len(objects) > _FEW_OBJECTS:
        return []
    most = max(objects, key=lambda item: item.area)
    if not most.area:
        return []
    _, _, mask = most.rle.decode_crop()
    count, _, stats, _ = opencv().connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    large = int((stats[1:, 4] * 4 * max(1, count - 1) >= most.area).sum())  # of a quarter of the mean: no specks
    if large < _MANY_PIECES:
        return []
    return [
        Fault("pieces", f"{record.image}: one object of {large} separate parts in its label map; give each its number")
    ]


# --------------------------------------------------------------------------------------------------------- in pairs


def twins(rles: list[RLE], labels: list[int], crowd: list[bool]) -> list[tuple[int, int, int]]:
    """(i, j, shared pixels) of objects that are one and the same, drawn twice, i < j."""
    return [
        (i, j, shared)
        for i, j, shared in overlapping(rles)
        if labels[i] == labels[j] and not crowd[i] and not crowd[j] and _iou(rles[i], rles[j], shared) >= _SAME
    ]


def _iou(first: RLE, second: RLE, shared: int) -> float:
    return shared / (first.area + second.area - shared)


def _shared(objects: list[_Object]) -> tuple[list[Fault], list[tuple[int, int, int]]]:
    """(objects drawn twice, the classes and pixels of other overlaps)."""
    faults = []
    overlaps: dict[tuple[int, int], int] = {}
    for i, j, shared in overlapping([item.rle for item in objects]):
        first, second = objects[i], objects[j]
        if first.crowd or second.crowd:
            continue
        iou = _iou(first.rle, second.rle, shared)
        if first.label == second.label and iou >= _SAME:
            other = second.where.rpartition(": ")[2]
            faults.append(Fault("twice", f"{first.where} and {other} are the same object (IoU {iou:.2f})"))
        elif shared >= max(_OVERLAP_PIXELS, _OVERLAP_SHARE * min(first.area, second.area)):
            pair = (min(first.label, second.label), max(first.label, second.label))
            overlaps[pair] = overlaps.get(pair, 0) + shared
    return faults, [(*pair, pixels) for pair, pixels in overlaps.items()]
