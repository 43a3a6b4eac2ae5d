"""Reads every image and every label once before training: what is there, and what is broken.

A second scan reads only what changed since: rows are kept in the cache under the size and time of change of their
files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data.checking.per_image import is_passing, remembered_rows
from segcli.data.checking.rotation import read_truth
from segcli.data.checking.unusable import UnusableRows
from segcli.data.dataset import Dataset, open_split
from segcli.data.glance import glance
from segcli.data.records import DatasetInfo, Record
from segcli.data.truth import Window
from segcli.errors import InputError, UsageError
from segcli.types import SMALLEST_TILE, Label

_VERSION = 6
_CLEAR = 32  # pixels: objects that are eight cells of the finest feature map across get outlines (docs/models.md)
_VIEW = 384  # the short side of a tile that is proposed


def tiles_for(sides: np.ndarray, short: int) -> str | None:
    """Advice if half of the things are too small to be outlined where photos are resized to a short side.

    sides: [N, 2], the root of a thing's area in pixels of the photo, and the photo's short side.
    """
    if not len(sides):
        return None
    seen = float(np.median(sides[:, 0] * short / sides[:, 1]))
    tile = max(SMALLEST_TILE, round(float(np.median(sides[:, 0])) * _VIEW / _CLEAR))
    if seen >= _CLEAR or tile >= np.median(sides[:, 1]):
        return None
    return (
        f"half of the objects are under {seen:.0f} pixels across at a short side of {short}, and will be "
        f"hard to find; --tile {tile} --short-side {_VIEW} shows them larger, tile by tile"
    )


@dataclass(frozen=True)
class Row:
    """One image. Keys are dataset ids as text (it is kept as JSON). objects: id -> count, of which crowds: id -> count
    are regions of many objects; pixels: id -> count. areas: id -> pixels of each object that is no crowd.
    """

    size: tuple[int, int]
    objects: dict[str, int]
    pixels: dict[str, int]
    areas: dict[str, list[int]] = field(default_factory=dict)
    crowds: dict[str, int] = field(default_factory=dict)
    void: int = 0
    problem: str | None = None  # a file that is missing or damaged
    misuse: str | None = None  # a label that no class has
    pages: int = 1
    turned: bool = False  # by its EXIF tag, and its masks are not
    passing: bool = False  # the problem may be over without a change of the file: not remembered
    left_out: list[list[Any]] = field(default_factory=list)  # rows that cannot be used: reason, where, class


@dataclass(frozen=True)
class ClassCount:
    """One class in one split. images: with any of it. objects: crowds left out. share: of all pixels of the split."""

    label: Label
    images: int
    objects: int
    share: float
    crowds: int = 0


@dataclass(frozen=True)
class SplitReport:
    """One split. objects: of the task, that is with stuff (or, in semantic data, everything) counted once a class.
    crowds: regions of many objects, which are no targets and not among them.

    empty: images without objects. most: (file, objects) of the fullest image. counts, areas: objects and pixels of
    every image. sides: of every thing [N], the root of its area in pixels of the photo, and the photo's short side
    -> [N, 2].
    """

    name: str
    images: int
    objects: int
    empty: int
    void_share: float
    classes: list[ClassCount]
    most: tuple[str, int]
    counts: np.ndarray = field(repr=False)
    areas: np.ndarray = field(repr=False)
    sides: np.ndarray = field(repr=False)
    crowds: int = 0


@dataclass(frozen=True)
class Problem:
    """An image that cannot be used, and why (the message names the file)."""

    file: str
    message: str


@dataclass(frozen=True)
class ScanReport:
    """What is in a dataset. paged: files of several pages, of which the first is taken, with their number. turned:
    files that are shown turned by their EXIF tag, while their masks are drawn on the pixels as stored.
    """

    splits: list[SplitReport]
    problems: list[Problem]
    paged: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # what to say of rows that cannot be used

    @property
    def train(self) -> SplitReport:
        """The split to learn from."""
        return next(split for split in self.splits if split.name == "train")

    def crowded(self, queries: int, tile: int | None = None) -> str | None:
        """A warning if images, or tiles of them if objects lie evenly, hold more objects than the model has queries;
        None if all fit.
        """
        area = math.inf if tile is None else tile**2
        over = sum(int((split.counts * np.minimum(1, area / split.areas) > queries).sum()) for split in self.splits)
        if not over:
            return None
        s = "s" * (over != 1)
        if tile is not None:
            return (
                f"tiles of {over} image{s} hold more objects than the model's {queries} queries; the surplus cannot be "
                "found; give it more --queries, or a smaller --tile"
            )
        file, most = max((split.most for split in self.splits), key=lambda item: item[1])
        return (
            f"{over} image{s} hold{'' if s else 's'} more objects than the model's {queries} queries "
            f"(most: {most} in {file}); "
            "the surplus cannot be found; use more --queries, or smaller views with --tile"
        )

    def small(self, short: int) -> str | None:
        """Advice if half of the things are too small to be outlined where photos are resized to a short side."""
        return tiles_for(self.train.sides, short)

    def unseen(self) -> list[Label]:
        """Classes of which the training split has nothing to learn from."""
        return [count.label for count in self.train.classes if not count.objects]


def scan(
    info: DatasetInfo,
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> ScanReport:
    """Read every image and label of every split. `progress(done, total)` is called after each image.

    Missing and damaged files are listed in the report, to be said aloud and left out (`DatasetInfo.without`).

    Raises:
        UsageError: labels that no class has (file, value, allowed range), or nothing usable to train on.
    """
    total = sum(len(records) for records in info.splits.values())
    done = 0
    reports, problems = [], []
    paged: list[str] = []
    turned: list[str] = []
    unusable = UnusableRows(info)
    for name in info.splits:
        dataset = open_split(info, name)
        rows: list[Row] = []
        for row in _rows(info, dataset, name, threads):
            rows.append(row)
            done += 1
            if progress:
                progress(done, total)
        for record, row in zip(dataset.records, rows, strict=True):
            if row.problem:
                problems.append(Problem(str(record.image), row.problem))
            if row.pages > 1:
                paged.append(f"{record.image} ({row.pages})")
            if row.turned:
                turned.append(str(record.image))
            unusable.add(row.left_out, row.objects)
        _refuse_misuse(rows)
        reports.append(_report(info, dataset.records, name, rows))
    unusable.refuse_misread()
    report = ScanReport(reports, problems, paged, turned, [fault.message for fault in unusable.faults()])
    if not report.train.images:
        raise UsageError(f"{info.root}: no image to train on can be read; the first: {problems[0].message}")
    _refuse_nothing(info, report.train)
    return report


def classes_shown(info: DatasetInfo, dataset: Dataset, split: str) -> list[list[str]]:
    """The ids of the classes in each image of a split, as text; after a scan they are remembered."""
    known = {str(label.id) for label in info.labels}
    return [[key for key in row.objects if key in known] for row in _rows(info, dataset, split, None)]


def _refuse_nothing(info: DatasetInfo, train: SplitReport) -> None:
    """Images without objects teach what is none; of them alone nothing is learnt, nor of crowds."""
    if train.crowds and not any(count.objects for count in train.classes if count.label.isthing):
        raise UsageError(
            f"{info.root}: all {train.crowds} objects of the training images are marked as crowds (iscrowd = 1, which "
            "CVAT and Datumaro write for every mask), and crowds are not trained on; set iscrowd to 0 in the "
            "annotations"
        )
    if train.objects:
        return
    files = [Path(record.truth) for record in info.splits["train"] if isinstance(record.truth, str)]
    if files and not any(file.is_file() for file in files):
        cause = f"none has a label file (looked for {files[0]} and so on); put the label files there"
    else:
        cause = "their annotations are empty, or void all over; export them again, or choose other data"
    raise UsageError(f"{info.root}: no object in any of the {train.images} training images: {cause}")


def _refuse_misuse(rows: list[Row]) -> None:
    misuses = [row.misuse for row in rows if row.misuse]
    if misuses:
        more = f" ({len(misuses) - 1} more files have such labels)" if len(misuses) > 1 else ""
        raise UsageError(misuses[0] + more)


def _rows(info: DatasetInfo, dataset: Dataset, split: str, threads: int | None) -> Iterator[Row]:
    kind = f"scan-{_VERSION}-{dataset.form}"
    return remembered_rows(
        kind,
        info,
        dataset,
        split,
        _read,
        to_json=asdict,
        from_json=_restored,
        passing=lambda row: row.passing,
        threads=threads,
    )


def _restored(value: object) -> Row | None:
    try:
        row = Row(**value)  # type: ignore[arg-type]
        return replace(row, size=(row.size[0], row.size[1]))
    except TypeError:
        return None


def _read(dataset: Dataset, record: Record) -> Row:
    """Everything about one image; its faults are part of the answer."""
    size, pages = (0, 0), 1
    try:
        seen = glance(record.image)
        size, pages = seen.size, seen.pages
        stored = dataset.reader.read(record, size)
        truth = dataset.as_seen(stored)
        areas = truth.areas(Window.whole(size))
        void = truth.void(Window.whole(size))
        turned = seen.orientation != 1 and bool(read_truth(dataset.reader, record, seen)[1])
    except InputError as error:
        return Row(size, {}, {}, problem=str(error), passing=is_passing(error))
    except UsageError as error:
        return Row(size, {}, {}, misuse=str(error))
    objects: dict[str, int] = {}
    pixels: dict[str, int] = {}
    crowds: dict[str, int] = {}
    single: dict[str, list[int]] = {}
    for label, area, crowd in zip(truth.labels.tolist(), areas.tolist(), truth.crowd.tolist(), strict=True):
        if not area:
            continue
        key = str(label)
        objects[key] = objects.get(key, 0) + 1
        pixels[key] = pixels.get(key, 0) + area
        if crowd:
            crowds[key] = crowds.get(key, 0) + 1
        else:
            single.setdefault(key, []).append(area)
    unknown = 0 if void is None else int(np.count_nonzero(void))
    left_out = [[row.reason, row.where, row.label] for row in stored.left_out]
    return Row(size, objects, pixels, single, crowds, unknown, pages=pages, turned=turned, left_out=left_out)


def _report(info: DatasetInfo, records: list[Record], name: str, rows: list[Row]) -> SplitReport:
    labels = {str(label.id): label for label in info.labels}
    once = {
        key
        for key, label in labels.items()
        if info.task == "semantic" or (info.task == "panoptic" and not label.isthing)
    }
    usable = [(record, row) for record, row in zip(records, rows, strict=True) if not row.problem]
    crowds: list[dict[str, int]] = [{} if info.task == "semantic" else row.crowds for _, row in usable]
    single = [
        {key: n - crowd.get(key, 0) for key, n in row.objects.items() if key in labels}
        for (_, row), crowd in zip(usable, crowds, strict=True)
    ]
    counts = np.array(
        [sum(min(n, 1) if key in once else n for key, n in of_image.items()) for of_image in single], dtype=np.int64
    )
    pixels = sum(row.size[0] * row.size[1] for _, row in usable)
    classes = [
        ClassCount(
            label,
            sum(key in row.objects for _, row in usable),
            sum(of_image.get(key, 0) for of_image in single),
            sum(row.pixels.get(key, 0) for _, row in usable) / max(1, pixels),
            sum(crowd.get(key, 0) for crowd in crowds),
        )
        for key, label in labels.items()
    ]
    sides = [
        (area**0.5, min(row.size))
        for _, row in usable
        for key, areas in row.areas.items()
        if key in labels and key not in once
        for area in areas
    ]
    fullest = int(counts.argmax()) if len(counts) else -1
    return SplitReport(
        name=name,
        images=len(usable),
        objects=int(counts.sum()),
        empty=int((counts == 0).sum()),
        void_share=sum(row.void for _, row in usable) / max(1, pixels),
        classes=classes,
        most=(str(usable[fullest][0].image), int(counts[fullest])) if fullest >= 0 else ("", 0),
        counts=counts,
        areas=np.array([row.size[0] * row.size[1] for _, row in usable], dtype=float),
        sides=np.array(sides, dtype=float).reshape(-1, 2),
        crowds=sum(count.crowds for count in classes),
    )
