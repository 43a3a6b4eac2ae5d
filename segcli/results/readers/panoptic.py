"""COCO panoptic results: a JSON file that lists segments, and a folder of PNGs whose colours are the segments' ids."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.panoptic_png import read_panoptic_png
from segcli.errors import InputError
from segcli.files.fields import MOST_ID, Fields, whole
from segcli.files.image_names import printable
from segcli.files.image_places import with_slashes
from segcli.files.json_stream import walk
from segcli.results.readers.predictions import PredictedImage, image_id, in_pixels, with_numbers
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

_HELP = 'COCO panoptic results are {"annotations": [{image_id, file_name, segments_info}, …]} beside a folder of PNGs'


class PanopticFiles:
    """Panoptic results as panopticapi reads them. The PNGs lie in the folder named as the JSON without its ending, as
    panopticapi takes for granted, else beside the JSON, else in the only folder there.
    """

    task: Task = "panoptic"
    what = "COCO panoptic results"
    least_score: float | None = None

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.file = path, file
        self._annotations: list[_Annotation] = []
        named: dict[int, Label] = {}
        files: dict[int | str, str] = {}
        ids: set[int] = set()
        for number, element in enumerate(walk(file)):
            if element.key not in ("annotations", "categories", "images") or element.place is None:
                continue
            row = Fields(element.value, f"{file}: an entry of {element.key!r} (value {number + 1})")
            if element.key == "annotations":
                annotation = _annotation(row)
                self._annotations.append(annotation)
                ids.update(annotation.categories)
            elif element.key == "categories":
                row = Fields(with_numbers(element.value, "id"), row.where)
                name, isthing = printable(row.text("name")), row.flag("isthing", True)
                label = Label(
                    row.whole("id", least=-MOST_ID, most=MOST_ID), name, isthing, _colour(row.raw.get("color"))
                )
                named[label.id] = label
            else:
                files[image_id(row, "id")] = row.file_name("file_name")
        if not self._annotations:
            raise InputError(f"{file}: lists no annotations; {_HELP}")
        self.images = [PredictedImage(a.image_id, files.get(a.image_id)) for a in self._annotations]
        self.labels = LabelSet(
            tuple(named.get(id_, Label(id_, "", isthing=True)) for id_ in sorted(ids | named.keys()))
        )
        self._index = {label.id: index for index, label in enumerate(self.labels)}
        self._folder = _png_folder(file, self._annotations[0].png)

    def read(self, number: int, size: tuple[int, int]) -> Segments:
        """One image's segments, in the order of the JSON."""
        annotation = self._annotations[number]
        return panoptic_segments(
            _id_map(self._folder, annotation.png),
            size,
            self.labels,
            ids=annotation.ids,
            classes=[self._index[id_] for id_ in annotation.categories],
            scores=annotation.scores,
        )


@dataclass(frozen=True)
class _Annotation:
    """One image's segments: the PNG of their ids, and what each of them is."""

    image_id: int | str
    png: str
    ids: list[int]
    categories: list[int]
    scores: list[float]  # NaN for none


def _annotation(row: Fields) -> _Annotation:
    png = with_slashes(row.file_name("file_name"))
    if Path(png).is_absolute() or ".." in Path(png).parts:
        raise row.wrong("file_name", "a PNG below the folder of the PNGs")
    infos = [
        Fields(with_numbers(info.raw, "id", "category_id", "score"), info.where) for info in row.rows("segments_info")
    ]
    return _Annotation(
        image_id(row, "image_id"),
        png,
        [info.whole("id", most=2**24 - 1) for info in infos],
        [info.whole("category_id", least=-MOST_ID, most=MOST_ID) for info in infos],
        [np.nan if info.raw.get("score") is None else info.number("score") for info in infos],
    )


def _colour(value: Any) -> tuple[int, int, int] | None:
    """A colour, if there is one that can be shown."""
    parts = [whole(part, 0, 255) for part in value] if isinstance(value, list) and len(value) == 3 else []
    red, green, blue = parts or (None, None, None)
    return None if red is None or green is None or blue is None else (red, green, blue)


def _id_map(folder: Path, name: str) -> Path:
    """Its file, also where the photo's name is written (p1.jpg)."""
    file = folder / name
    return file if file.is_file() else file.with_suffix(".png")


def _png_folder(file: Path, name: str) -> Path:
    folders = [file.with_suffix(""), file.parent, *sorted(entry for entry in file.parent.iterdir() if entry.is_dir())]
    for folder in folders:
        if _id_map(folder, name).is_file():
            return folder
    raise InputError(f"{file}: its id map {name} is not in {file.with_suffix('')}; put the PNGs there")


def panoptic_segments(
    file: Path, size: tuple[int, int], labels: LabelSet, *, ids: list[int], classes: list[int], scores: list[float]
) -> Segments:
    """Segments from a PNG of ids. ids, classes (positions in `labels`), scores: of each segment.

    Raises:
        InputError: the PNG is missing, unreadable, not RGB, of another size; ids in only one of PNG and list.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file (id map of a prediction); copy it there, or predict the image again")
    pixels = read_panoptic_png(file)
    if pixels.shape != tuple(size):
        raise InputError(f"{file}: {in_pixels(pixels.shape)} pixels, the image has {in_pixels(size)}; they must agree")
    present, numbers = np.unique(pixels, return_inverse=True)
    number_of = {id_: number for number, id_ in enumerate(ids, start=1)}
    strange = set(present.tolist()) - number_of.keys() - {0}
    absent = number_of.keys() - set(present.tolist())
    if strange:
        raise InputError(f"{file}: holds segment id {min(strange)}, which its JSON does not list; export both again")
    if absent or len(number_of) < len(ids):
        what = f"lists segment id {min(absent)}, which it does not hold" if absent else "lists a segment id twice"
        raise InputError(f"{file}: its JSON {what}; export both again")
    table = np.array([number_of.get(value, 0) for value in present.tolist()], dtype=np.int32)
    return Segments(
        "panoptic",
        size,
        labels,
        np.array(classes, dtype=np.int64),
        np.array(scores, dtype=np.float64),
        table[numbers].reshape(size),
    )
