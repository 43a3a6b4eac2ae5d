"""Matches predictions from files to the images and classes of a dataset.

Images are found by the file name where the files tell it, by the dataset's id, or, as COCO names its files, by the
number in the file name: by whichever fits most of them. One that fits none is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from segcli.data.detect import NoSuchTask
from segcli.data.formats.semantic_png import SemanticReader
from segcli.data.records import DatasetInfo, Record
from segcli.errors import UsageError
from segcli.files.image_places import COCO_NAME, SPELLINGS, with_slashes
from segcli.metrics.match_classes import ClassMatch, match_classes
from segcli.results.readers import LabelMaps, PredictedImage, Predictions
from segcli.types import OBJECT_TASKS, Task

_THRESHOLDED = 0.1  # the field's tools keep scores down to 0.05 or lower in files that are meant for scoring
_ANSWERS: dict[Task, tuple[Task, ...]] = {
    "panoptic": ("panoptic", "semantic"),
    "instance": ("instance", "detect"),
    "detect": ("detect",),
    "semantic": ("semantic",),
}


@dataclass(frozen=True, eq=False)
class Matched:
    """Predictions beside the split they are of.

    places: record number -> number of its prediction. classes: theirs -> all classes of the dataset. notes, warnings:
    messages for the user, printed before the result.
    """

    predictions: Predictions
    places: dict[int, int]
    classes: ClassMatch
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@contextmanager
def truth_of(predictions: Predictions, data: Path) -> Iterator[None]:
    """While data are opened for the task of predictions, which nobody asked for by name: what is said if they do not
    serve it. Raises UsageError."""
    try:
        yield
    except NoSuchTask as error:
        possible = ", ".join(error.possible)
        raise UsageError(
            f"{predictions.path}: its predictions are {predictions.task}, and the annotations in {data} serve "
            f"{possible}; predict with --task {error.possible[0]}, or give the annotations of these images"
        ) from error


def tasks_of(predictions: Predictions, info: DatasetInfo, task: str | None) -> tuple[Task, ...]:
    """The tasks to score, `info.task` first; for "all" every one that predictions and data support."""
    others = [own for own in _ANSWERS[predictions.task] if own in info.tasks and own != info.task]
    return (info.task, *(others if task == "all" else ()))


def match(
    predictions: Predictions, info: DatasetInfo, split: str, *, images: int | None = None, may_be_none: bool = False
) -> Matched:
    """Find each prediction's image in a split, and its classes among the dataset's.

    images: how many will be looked at, the first of the split. Predictions of images in other splits are left out;
    may_be_none: even if that is all of them. Raises UsageError if they are for another task, are of an image that the
    dataset does not have, twice of one image, or of no class that it has.
    """
    if info.task not in _ANSWERS[predictions.task]:
        raise UsageError(
            f"{predictions.path}: {predictions.what} can be scored for "
            f"--task {' or '.join(_ANSWERS[predictions.task])}, not {info.task}"
        )
    if isinstance(predictions, LabelMaps):  # their values say nothing of what they mean
        predictions.labels, predictions.ignored = info.source_labels, info.ignore
        predictions.black_and_white = isinstance(info.reader, SemanticReader) and info.reader.binary
    places, notes, doubts = _match_images(predictions, info, split, images)
    if not places and len(predictions.images) and not may_be_none:
        other = f"no prediction belongs to the split {split}; they belong to others, such as {predictions.images[0]}"
        raise UsageError(f"{predictions.path}: {other}; choose theirs with --split")
    classes = _match_classes(predictions, info)
    return Matched(predictions, places, classes, (*notes, *classes.notes), (*doubts, *_warnings(predictions)))


def _match_classes(predictions: Predictions, info: DatasetInfo) -> ClassMatch:
    if not len(predictions.labels):  # nothing was found in any image
        return ClassMatch(info.source_labels, np.zeros(0, dtype=np.int64), "id")
    return match_classes(predictions.labels, info.source_labels, str(predictions.path), info.task)


def _warnings(predictions: Predictions) -> Iterator[str]:
    least = predictions.least_score
    if predictions.task not in OBJECT_TASKS or least is None or least < _THRESHOLDED:
        return
    remedy = "AP is lower for it; write instances of every score (segcli predict --save coco)"
    yield f"{predictions.path}: no instance has a score below {least:g}, lower ones were dropped: {remedy}"


# -------------------------------------------------------------------------------------------------------------- images

_Place = tuple[str, int]  # split, number of the record


def _match_images(
    predictions: Predictions, info: DatasetInfo, split: str, images: int | None
) -> tuple[dict[int, int], list[str], list[str]]:
    """(record number of the split -> prediction number, notes, warnings)."""
    others = [name for name in info.splits if name != split]
    records = [  # the wanted split last: its images win over those of the same id in others
        (name, number, record) for name in (*others, split) for number, record in enumerate(info.splits[name])
    ]
    ways = (_by_name(records, split), _by_id(records), _by_number(records))
    found = [[find(image) for image in predictions.images] for find in ways]
    counts = [sum(place is not None for place in places) for places in found]
    best = counts.index(max(counts))  # of equals the first
    if ways[best] is ways[1]:
        _refuse_shared(predictions, records)
    doubts = []
    if best == 1 and counts[1] == counts[2] < len(info.splits[split]) and found[1] != found[2]:
        number = next(n for n, (one, other) in enumerate(zip(found[1], found[2], strict=True)) if one != other)
        read_as = [info.splits[place[0]][place[1]].image.name for way in found[1:] if (place := way[number])]
        doubts.append(
            f"{predictions.path}: its image ids are taken for the data's ids; they could as well be the numbers in "
            f'file names ({predictions.images[number]}: {" or ".join(read_as)}); file names under "images" in it, or '
            "in place of the ids, leave no doubt"
        )
    return *_places(predictions, info, split, images, found[best]), doubts


def _refuse_shared(predictions: Predictions, records: Sequence[tuple[str, int, Record]]) -> None:
    """Raise UsageError if an id belongs to several images, as where the parts of a split were numbered each by itself:
    a reader puts the part's number before those that came later."""
    parts = [
        record.image_id.partition("-")[2]
        for _, _, record in records
        if isinstance(record.truth, tuple) and record.image_id.startswith(f"{record.truth[0]}-")
    ]
    shared = set(parts) & {record.image_id for _, _, record in records}
    for image in predictions.images:
        if image.id is not None and str(image.id) in shared:
            raise UsageError(
                f"{predictions.path}: image {image.id} could be several, as parts of the data number their images "
                'alike; write the file names under "images" in it, or in place of the ids'
            )


def _places(
    predictions: Predictions, info: DatasetInfo, split: str, images: int | None, found: Sequence[_Place | None]
) -> tuple[dict[int, int], list[str]]:
    where = predictions.path
    places: dict[int, int] = {}
    elsewhere: list[PredictedImage] = []
    for number, (image, place) in enumerate(zip(predictions.images, found, strict=True)):
        if place is None:
            raise UsageError(
                f"{where}: a prediction of image {image}, which {info.root} does not have; "
                "give the dataset that was predicted, or remove this prediction"
            )
        if place[0] != split:
            elsewhere.append(image)
        elif place[1] in places:
            first, file = predictions.images[places[place[1]]], info.splits[split][place[1]].image
            raise UsageError(f"{where}: {first} and {image} are both predictions of {file}; keep one of them")
        else:
            places[place[1]] = number
    records, notes = info.splits[split][:images], []
    if elsewhere:
        notes.append(f"left out: {len(elsewhere)} predictions of images of other splits, such as {elsewhere[0]}")
    missing = [record for number, record in enumerate(records) if number not in places]
    if missing:
        count = f"{len(missing)} of {len(records)} images have no prediction and count as empty"
        notes.append(f"{count}, such as {missing[0].image.name}")
    return places, notes


_Find = Callable[[PredictedImage], _Place | None]


def _by_id(records: Sequence[tuple[str, int, Record]]) -> _Find:
    known = {record.image_id: (split, number) for split, number, record in records}
    return lambda image: None if image.id is None else known.get(str(image.id))


def _by_number(records: Sequence[tuple[str, int, Record]]) -> _Find:
    """As COCO names its files, and as `segcli predict` takes ids from such names."""
    known = {}
    for split, number, record in records:
        if name := COCO_NAME.fullmatch(record.image.place.stem):
            known[int(name[1])] = (split, number)

    def find(image: PredictedImage) -> _Place | None:
        number = int(image.id) if isinstance(image.id, str) and image.id.isdecimal() else image.id
        return known.get(number) if isinstance(number, int) else None

    return find


def _by_name(records: Sequence[tuple[str, int, Record]], split: str) -> _Find:
    """By the file's name with its ending, else without, in other letters only if none has these; of equal names, by
    the folders before it."""
    tables: list[dict[str, list[tuple[tuple[str, ...], _Place]]]] = [{}, {}]
    for part, number, record in records:
        path = PurePosixPath(record.image.place.as_posix())
        for table, spelled in zip(tables, SPELLINGS[:2], strict=True):
            for name in {spelled(path.name), spelled(path.stem)}:
                table.setdefault(name, []).append((path.parts[-2::-1], (part, number)))

    def find(image: PredictedImage) -> _Place | None:
        if image.file is None:
            return None
        path = PurePosixPath(with_slashes(image.file))
        candidates: list[tuple[tuple[str, ...], _Place]] = []
        for spelling, spelled in enumerate(SPELLINGS):
            table = tables[min(spelling, 1)]
            candidates = candidates or table.get(spelled(path.name)) or table.get(spelled(path.stem)) or []
        best = max((_shared(folders, path.parts[-2::-1]) for folders, _ in candidates), default=0)
        kept = [place for folders, place in candidates if _shared(folders, path.parts[-2::-1]) == best]
        here = [place for place in kept if place[0] == split]
        if len(here or kept) > 1:
            raise UsageError(f"{image.file}: {len(here or kept)} images of the data have this name; keep their folders")
        return next(iter(here or kept), None)

    return find


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many folders agree, counted from the file."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
