"""COCO results: one array of {image_id, category_id, segmentation, score} for all images, or an object a line (as
`--save jsonl` writes them), or the same under "annotations" of a COCO dataset, beside the images' and classes' names.

The file is passed over once, an entry at a time, to check it and to remember where each image's entries lie (16 bytes
an entry); the masks are read when their image's turn comes. So a file of any size takes little memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.rle import RLE
from segcli.errors import InputError, cut, shown
from segcli.files.fields import MOST_ID, Fields, finite
from segcli.files.json_file import parse_json
from segcli.files.json_stream import Element, read_elements, walk
from segcli.results.readers.predictions import PredictedImage, image_id, in_pixels, with_numbers
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

_MOST_OF_A_BOX = 1e6  # pixels; of a polygon's corners too, between which an edge is walked
ENTRIES = ("annotations", "predictions", "results")  # what the list is called in an object
_HELP = "a COCO results file is a list of {image_id, category_id, segmentation, score}"


class CocoResultsFile:
    """Instances, or boxes where the first entry has no mask, from a COCO results file.

    files: the names of images by their ids, where something beside the file tells them.

    Raises InputError for whatever in it cannot be scored.
    """

    what = "COCO results"

    def __init__(self, path: Path, file: Path, files: Mapping[int | str, str] | None = None) -> None:
        self.path, self.file = path, file
        self._places: dict[int | str, array[int]] = {}
        ids: set[int] = set()
        self.least_score: float | None = None
        self._boxes: bool | None = None
        self.task: Task = "instance"
        names: dict[int, str] = {}
        files = dict(files or {})
        number = 0
        for element in walk(file):
            if element.key in ("images", "categories") and element.place is not None:
                ids_of = ("id",) if element.key == "categories" else ()  # an image's may be its name
                row = Fields(with_numbers(element.value, *ids_of), f"{file}: an entry of {element.key!r}")
                if element.key == "images":
                    files[image_id(row, "id")] = row.file_name("file_name")
                else:
                    names[row.whole("id", least=-MOST_ID, most=MOST_ID)] = row.text("name")
            if element.key is not None and element.key not in ENTRIES:
                continue  # info, licenses
            entry = self._checked(number, element)
            number += 1
            assert element.place is not None
            if entry.name:
                names.setdefault(entry.category_id, entry.name)
            self._places.setdefault(entry.image_id, array("q")).extend(element.place)
            ids.add(entry.category_id)
            self.least_score = entry.score if self.least_score is None else min(self.least_score, entry.score)
            if self._boxes is None:  # pycocotools, too, asks the first entry only
                self._boxes = bool(entry.bbox)
        self.images = [
            PredictedImage(id_, files.get(id_, id_ if isinstance(id_, str) else None)) for id_ in self._places
        ]
        self.labels = LabelSet(tuple(Label(id_, names.get(id_, ""), isthing=True) for id_ in sorted(ids)))
        self._index = {label.id: index for index, label in enumerate(self.labels)}

    def _checked(self, number: int, element: Element) -> _Entry:
        where = f"{self.file}: entry {number + 1}"
        if element.place is None:
            raise InputError(f"{self.file}: {shown(element.key)} is no list; {_HELP}")
        if not isinstance(element.value, dict):
            raise InputError(f"{where} is not an object; {_HELP}")
        entry = _entry(element.value, where)
        where += f" (image {cut(entry.image_id, 80)})"
        if number == 0 and entry.bbox and not entry.segmentation:
            self.task = "detect"
        if self.task == "detect" and not entry.bbox:
            raise InputError(f"{where} has no box (bbox), but the first entry has only one")
        if self.task == "instance" and not entry.segmentation:
            what = "only a box" if entry.bbox else "no mask"
            raise InputError(f"{where} has {what}; scoring needs masks (segmentation as RLE or polygons)")
        return entry

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's instances; equal scores stay in the order of the file."""
        image_id = self.images[number].id
        assert image_id is not None
        flat, where = self._places[image_id], f"{self.file}: image {image_id}"
        entries = [
            _entry(value, str(self.file)) for value in read_elements(self.file, zip(flat[::2], flat[1::2], strict=True))
        ]
        entries.sort(key=lambda entry: -entry.score)
        labels = np.array([self._index[entry.category_id] for entry in entries], dtype=np.int64)
        scores = np.array([entry.score for entry in entries], dtype=np.float64)  # as they are: rounding makes ties
        if self.task == "detect":
            boxes = np.array([_box(entry, where) for entry in entries])
            return Segments.of_boxes(size, self.labels, labels, scores, boxes)
        return Segments(
            "instance",
            size,
            self.labels,
            labels,
            scores,
            rles=tuple(mask_of(entry.segmentation, size, where) for entry in entries),
            given_boxes=np.array([_box(entry, where) for entry in entries]) if self._boxes else None,
        )


@dataclass(frozen=True)
class _Entry:
    """One object of the file; its mask and box are looked at when its image is read."""

    image_id: int | str
    category_id: int
    score: float
    segmentation: Any
    bbox: Any
    name: str | None = None  # of its class, where that is told


def _entry(value: Any, where: str) -> _Entry:
    if isinstance(value, dict) and "image" in value and "image_id" not in value:  # as `--save jsonl` calls it
        value = value | {"image_id": value["image"]}
    row = Fields(with_numbers(value, "category_id", "score"), where)
    missing = [key for key in ("image_id", "category_id", "score") if key not in row]
    if missing:
        raise InputError(f"{where} has no {missing[0]!r}; {_HELP}")
    image = image_id(row, "image_id")
    row.where += f" (image {cut(image, 80)})"
    return _Entry(
        image,
        row.whole("category_id", least=-MOST_ID, most=MOST_ID),
        row.number("score"),
        row.raw.get("segmentation"),
        row.raw.get("bbox"),
        row.text("category_name", None),
    )


def _box(entry: _Entry, where: str) -> list[float]:
    box = [finite(value) for value in entry.bbox] if isinstance(entry.bbox, list) else []
    numbers = [value for value in box if value is not None and abs(value) < _MOST_OF_A_BOX]
    if len(box) != 4 or len(numbers) != 4:
        raise InputError(f"{where}: an entry's bbox is not [x, y, width, height]; leave bbox out, or correct it")
    return numbers


def mask_of(segmentation: Any, size: tuple[int, int], where: str) -> RLE:
    """A mask from COCO's compressed or uncompressed run lengths, or from polygons, which are filled as COCO does it.

    Polygons may be lists of pairs, and all of it JSON inside of a text. Raises InputError beginning with `where` for
    anything else, or a mask that is not of `size` = (H, W).
    """
    if isinstance(segmentation, str) and segmentation[:1] in ("[", "{"):
        segmentation = parse_json(segmentation, where)
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


def _flat(row: Any) -> Any:
    """[[x, y], …] as [x, y, …]; anything else as it is."""
    is_pairs = isinstance(row, list) and row and all(isinstance(pair, list) and len(pair) == 2 for pair in row)
    return [value for pair in row for value in pair] if is_pairs else row


def _filled(polygons: Any, size: tuple[int, int], where: str) -> RLE:
    from hotcoco import mask as coco_mask

    rows = [_flat(row) for row in polygons] if isinstance(polygons, list) else []
    parts = [[finite(value) for value in row] if isinstance(row, list) else [] for row in rows]
    flat = [[value for value in row if value is not None and abs(value) < _MOST_OF_A_BOX] for row in parts]
    if not flat or any(len(p) < 6 or len(p) % 2 or len(p) != len(row) for p, row in zip(flat, parts, strict=True)):
        raise InputError(
            f"{where}: a segmentation that is neither run lengths nor polygons [[x1, y1, x2, y2, x3, y3, …], …]"
        )
    return RLE.from_coco(coco_mask.merge(coco_mask.frPyObjects(flat, *size)))
