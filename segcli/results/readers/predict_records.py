"""What `segcli predict` writes: a JSON record an image, and for panoptic and semantic results a PNG beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segcli.errors import InputError
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
    return isinstance(value, dict) and all(key in value for key in _KEYS) and value["task"] in TASKS


def first_record(path: Path) -> dict[str, Any] | None:
    """The first record of `segcli predict` in a folder, or beside its file for all photos; None if there is none."""
    if not path.is_dir() and path.name not in _OF_ALL:
        return None
    for file in sorted((path if path.is_dir() else path.parent).rglob("*.json")):
        if file.name in _OF_ALL:  # perhaps large
            continue
        try:
            record = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        if is_record(record):
            return dict(record)
    return None


class Records:
    """A folder of records, or a single one. All must answer the same task.

    broken: hears of a record that cannot be read, which is left out; None: it is raised. Raises InputError for that,
    and for records of several tasks.
    """

    what = "results of segcli predict"

    def __init__(self, path: Path, files: list[Path], broken: Callable[[InputError], None] | None = None) -> None:
        self.path, self._files = path, list[Path]()
        self.images: list[PredictedImage] = []
        classes: dict[int, Label] = {}
        tasks: dict[Task, Path] = {}
        thresholds: set[float] = set()
        for file in files:
            try:
                record = _read(file)
                found = _classes(record, file)
            except InputError as error:
                if broken is None:
                    raise
                broken(error)
                continue
            classes |= found
            tasks.setdefault(record["task"], file)
            self._files.append(file)
            self.images.append(PredictedImage(None, str(record["file_name"])))
            thresholds.add(float((record.get("rule") or {}).get("instance_score", 0)))
        if not tasks:
            raise InputError(f"{path}: none of its records of segcli predict can be read; predict again")
        if len(tasks) > 1:
            (one, file), (other, second), *_ = tasks.items()
            raise InputError(f"{file} is {one}, {second} is {other}; one task a folder: give one that holds one")
        self.task: Task = next(iter(tasks))
        self.labels = LabelSet(tuple(classes[id_] for id_ in sorted(classes)))
        self._index = {label.id: index for index, label in enumerate(self.labels)}
        self.least_score = max(thresholds) if self.task in OBJECT_TASKS else None

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's segments."""
        file = self._files[number]
        record = _read(file)
        stated = (record["size"]["height"], record["size"]["width"])
        if stated != tuple(size):
            raise InputError(f"{file}: of {in_pixels(stated)} pixels, the image has {in_pixels(size)}; predict again")
        if self.task == "semantic":
            return semantic_segments(file.with_suffix(".png"), size, self.labels)
        segments = record["segments"]
        classes = [self._index[segment["category_id"]] for segment in segments]
        scores = [np.nan if segment["score"] is None else segment["score"] for segment in segments]
        if self.task == "panoptic":
            ids = [segment["id"] for segment in segments]
            file = file.with_suffix(".png")
            return panoptic_segments(file, size, self.labels, ids=ids, classes=classes, scores=scores)
        masks = tuple(mask_of(segment["segmentation"], size, str(file)) for segment in segments)
        places, values = np.array(classes, dtype=np.int64), np.array(scores, dtype=np.float64)
        return Segments("instance", size, self.labels, places, values, rles=masks)


def _classes(record: dict[str, Any], file: Path) -> dict[int, Label]:
    """The classes that a record tells, by id: all of the model; of records without a table, those of its segments."""
    try:
        found = {}
        for segment in record["segments"]:
            colour = segment.get("color")
            id_ = segment["category_id"]
            found[id_] = Label(id_, segment["category_name"], segment["isthing"], colour and tuple(colour))
        for row in record.get("classes") or ():
            colour = row.get("color")
            found[row["id"]] = Label(row["id"], row["name"], row["isthing"], colour and tuple(colour))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not as segcli predict writes it ({error!r}); predict the image again") from error
    return found


def _read(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}); predict the image again") from error
    if not is_record(record):
        raise InputError(f"{file}: no record of segcli predict, unlike others here; take it out of the folder")
    return record
