"""What `segcli predict` writes: a JSON record per image, and for panoptic and semantic results a PNG beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import InputError
from segcli.files.fields import MOST, Fields
from segcli.files.image_names import printable
from segcli.files.json_file import read_json
from segcli.results.kinds import SAVE_KINDS
from segcli.results.readers.coco import mask_of
from segcli.results.readers.panoptic import panoptic_segments
from segcli.results.readers.predictions import PredictedImage, in_pixels
from segcli.results.readers.semantic import semantic_segments
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, TASKS, Label, LabelSet, Task

_KEYS = ("file_name", "task", "size", "segments")
_OF_ALL = frozenset(name for kind in SAVE_KINDS.values() for name in kind.files)


def is_record(value: Any) -> bool:
    """Whether a JSON value is a record of `segcli predict`."""
    known = isinstance(value, dict) and all(key in value for key in _KEYS)
    return known and isinstance(value["task"], str) and value["task"] in TASKS


def first_record(path: Path) -> dict[str, Any] | None:
    """The first record of `segcli predict` in a folder, or beside its file for all photos; None if there is none."""
    if not path.is_dir() and path.name not in _OF_ALL:
        return None
    for file in sorted((path if path.is_dir() else path.parent).rglob("*.json")):
        if file.name in _OF_ALL:  # perhaps large
            continue
        try:
            record = read_json(file)
        except InputError:
            continue
        if is_record(record):
            return dict(record)
    return None


class Records:
    """A folder of records, or a single one. All must be of the same task.

    broken: called for a record that cannot be read, which is left out; None: it is raised. Raises InputError for that,
    and for records of several tasks.
    """

    what = "results of segcli predict"

    def __init__(self, path: Path, files: list[Path], broken: Callable[[InputError], None] | None = None) -> None:
        self.path, self._files = path, list[Path]()
        self.images: list[PredictedImage] = []
        self.sizes: list[tuple[int, int]] = []  # (H, W) of each
        classes: dict[int, Label] = {}
        tasks: dict[Task, Path] = {}
        thresholds: set[float] = set()
        for file in files:
            try:
                record = _read(file)
            except InputError as error:
                if broken is None:
                    raise
                broken(error)
                continue
            classes |= record.classes
            tasks.setdefault(record.task, file)
            self._files.append(file)
            self.images.append(PredictedImage(None, record.file_name))
            self.sizes.append(record.size)
            thresholds.add(record.threshold)
        if not tasks:
            raise InputError(f"{path}: none of its records of segcli predict can be read; predict again")
        if len(tasks) > 1:
            (one, file), (other, second), *_ = tasks.items()
            raise InputError(f"{file} is {one}, {second} is {other}; give a folder that holds only one task")
        self.task: Task = next(iter(tasks))
        self.labels = LabelSet(tuple(classes[id_] for id_ in sorted(classes)))
        self._index = {label.id: index for index, label in enumerate(self.labels)}
        self.least_score = max(thresholds) if self.task in OBJECT_TASKS else None

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's segments."""
        file = self._files[number]
        record = _read(file)
        if record.size != tuple(size):
            raise InputError(
                f"{file}: of {in_pixels(record.size)} pixels, the image has {in_pixels(size)}; predict again"
            )
        if self.task == "semantic":
            return semantic_segments(file.with_suffix(".png"), size, self.labels)
        segments = record.segments
        if record.task != self.task or any(segment.category_id not in self._index for segment in segments):
            raise InputError(f"{file}: changed while it was read; start again")
        classes = [self._index[segment.category_id] for segment in segments]
        scores = [segment.score for segment in segments]
        if self.task == "panoptic":
            ids = [segment.id for segment in segments]
            file = file.with_suffix(".png")
            return panoptic_segments(file, size, self.labels, ids=ids, classes=classes, scores=scores)
        masks = tuple(mask_of(segment.mask, size, f"{file}: segments[{n}]") for n, segment in enumerate(segments))
        places, values = np.array(classes, dtype=np.int64), np.array(scores, dtype=np.float64)
        return Segments("instance", size, self.labels, places, values, rles=masks)


@dataclass(frozen=True)
class _Segment:
    id: int
    category_id: int
    score: float  # NaN for none
    mask: Any  # of an instance, as COCO writes it


@dataclass(frozen=True)
class _Record:
    """A record with validated entries."""

    file_name: str
    task: Task
    size: tuple[int, int]  # (H, W)
    threshold: float
    classes: dict[int, Label]  # by id: all of the model; of records without a table, those of its segments
    segments: tuple[_Segment, ...]


def _read(file: Path) -> _Record:
    value = read_json(file, remedy="predict the image again")
    if not is_record(value):
        raise InputError(f"{file}: not a record of segcli predict, unlike the others here; remove it from the folder")
    try:
        return _checked(Fields(value, str(file)))
    except InputError as error:
        raise InputError(f"{error}; predict the image again, or remove the file") from error


def _checked(entries: Fields) -> _Record:
    size = entries.sub("size")
    rule = entries.sub("rule") if entries.raw.get("rule") is not None else None
    rows = list(entries.rows("segments"))
    table = list(entries.rows("classes")) if entries.raw.get("classes") is not None else []
    named = [_label(row, "category_id", "category_name") for row in rows] + [_label(row, "id", "name") for row in table]
    task: Task = entries.one_of("task", TASKS)
    return _Record(
        file_name=entries.file_name("file_name"),
        task=task,
        size=(size.whole("height", least=1), size.whole("width", least=1)),
        threshold=rule.number("instance_score", 0.0) if rule else 0.0,
        classes={label.id: label for label in named},
        segments=tuple(_segment(row, task) for row in rows),
    )


def _segment(row: Fields, task: Task) -> _Segment:
    score = np.nan if row.raw.get("score") is None and "score" in row else row.number("score")
    if task in OBJECT_TASKS and "segmentation" not in row:
        raise row.wrong("segmentation", "the mask of an instance")
    return _Segment(row.whole("id"), row.whole("category_id", least=-MOST), score, row.raw.get("segmentation"))


def _label(row: Fields, id_: str, name: str) -> Label:
    colour = None
    if row.raw.get("color") is not None:
        red, green, blue = row.wholes("color", 3, most=255)
        colour = (red, green, blue)
    return Label(row.whole(id_, least=-MOST), printable(row.text(name)), row.flag("isthing"), colour)
