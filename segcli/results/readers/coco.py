"""COCO results: one array of {image_id, category_id, segmentation, score} for all images.

The file is passed over once, an entry at a time, to check it and to remember where each image's entries lie (16 bytes
an entry); the masks are read when their image's turn comes. So a file of any size takes little memory.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.json_stream import Element, read_elements, walk
from segcli.codecs.rle import RLE
from segcli.errors import InputError
from segcli.results.readers.predictions import PredictedImage, in_pixels
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

_HELP = "a COCO results file is a list of {image_id, category_id, segmentation, score}"


class CocoResultsFile:
    """Instances, or boxes where the first entry has no mask, from a COCO results file.

    Raises InputError for whatever in it cannot be scored.
    """

    what = "COCO results"

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.file = path, file
        self._places: dict[int | str, array[int]] = {}
        ids: set[int] = set()
        self.least_score: float | None = None
        self._boxes: bool | None = None
        self.task: Task = "instance"
        for number, element in enumerate(walk(file)):
            entry = self._checked(number, element)
            assert element.place is not None
            self._places.setdefault(entry["image_id"], array("q")).extend(element.place)
            ids.add(int(entry["category_id"]))
            score = float(entry["score"])
            self.least_score = score if self.least_score is None else min(self.least_score, score)
            if self._boxes is None:  # pycocotools, too, asks the first entry only
                self._boxes = bool(entry.get("bbox"))
        self.images = [PredictedImage(id_, id_ if isinstance(id_, str) else None) for id_ in self._places]
        self.labels = LabelSet(tuple(Label(id_, "", isthing=True) for id_ in sorted(ids)))
        self._index = {label.id: index for index, label in enumerate(self.labels)}

    def _checked(self, number: int, element: Element) -> dict[str, Any]:
        if element.key is not None:
            raise InputError(f"{self.file}: holds an object with {element.key!r}; {_HELP}")
        entry, where = element.value, f"{self.file}: entry {number + 1}"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is no object; {_HELP}")
        missing = [key for key in ("image_id", "category_id", "score") if key not in entry]
        if missing:
            raise InputError(f"{where} has no {missing[0]!r}; {_HELP}")
        image_id, category, score = entry["image_id"], entry["category_id"], entry["score"]
        where += f" (image {image_id})"
        if isinstance(image_id, bool) or not isinstance(image_id, int | str):
            raise InputError(f"{where}: image_id is neither a number nor a name; {_HELP}")
        if isinstance(category, bool) or not isinstance(category, int | float) or int(category) != category:
            raise InputError(f"{where}: category_id {category!r} is no whole number; use the dataset's category ids")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise InputError(f"{where}: score {score!r} is no finite number; predict again, or drop the entry")
        if number == 0 and entry.get("bbox") and not entry.get("segmentation"):
            self.task = "detect"
        if self.task == "detect" and not entry.get("bbox"):
            raise InputError(f"{where} has no box (bbox), but the first entry has only one")
        if self.task == "instance" and not entry.get("segmentation"):
            what = "only a box" if entry.get("bbox") else "no mask"
            raise InputError(f"{where} has {what}; scoring needs masks (segmentation as RLE or polygons)")
        return entry

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's instances; equal scores stay in the order of the file."""
        image_id = self.images[number].id
        assert image_id is not None
        flat, where = self._places[image_id], f"{self.file}: image {image_id}"
        entries = read_elements(self.file, zip(flat[::2], flat[1::2], strict=True))
        entries.sort(key=lambda entry: -entry["score"])
        labels = np.array([self._index[entry["category_id"]] for entry in entries], dtype=np.int64)
        scores = np.array([entry["score"] for entry in entries], dtype=np.float64)  # as they are: rounding makes ties
        if self.task == "detect":
            boxes = np.array([_box(entry, where) for entry in entries])
            return Segments.of_boxes(size, self.labels, labels, scores, boxes)
        return Segments(
            "instance",
            size,
            self.labels,
            labels,
            scores,
            rles=tuple(mask_of(entry["segmentation"], size, where) for entry in entries),
            given_boxes=np.array([_box(entry, where) for entry in entries]) if self._boxes else None,
        )


def _box(entry: dict[str, Any], where: str) -> list[float]:
    try:
        box = [float(value) for value in entry["bbox"]]
    except (KeyError, TypeError, ValueError):
        box = []
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise InputError(f"{where}: an entry's bbox is not [x, y, width, height]; leave bbox out, or correct it")
    return box


def mask_of(segmentation: Any, size: tuple[int, int], where: str) -> RLE:
    """A mask from COCO's compressed or uncompressed run lengths, or from polygons, which are filled as COCO does it.

    Raises InputError beginning with `where` for anything else, or a mask that is not of `size` = (H, W).
    """
    if isinstance(segmentation, dict):
        try:
            rle = RLE.from_coco(segmentation)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if rle.size != tuple(size):
            raise InputError(
                f"{where}: a mask of {in_pixels(rle.size)} pixels, the image has {in_pixels(size)}; "
                "resize predictions to the image before they are written"
            )
        return rle
    return _filled(segmentation, size, where)


def _filled(polygons: Any, size: tuple[int, int], where: str) -> RLE:
    from hotcoco import mask as coco_mask

    try:
        flat = [[float(value) for value in polygon] for polygon in polygons]
    except (TypeError, ValueError):
        flat = []
    if not flat or any(len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all() for polygon in flat):
        raise InputError(
            f"{where}: a segmentation that is neither run lengths nor polygons [[x1, y1, x2, y2, x3, y3, …], …]"
        )
    return RLE.from_coco(coco_mask.merge(coco_mask.frPyObjects(flat, *size)))
