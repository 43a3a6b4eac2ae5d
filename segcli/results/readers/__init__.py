"""Predictions from disk, in the common formats and segcli's own, read one image at a time.

    predictions = open_predictions(path)
    predictions.task, predictions.images, predictions.labels
    segments = predictions.read(number, size)

Which image of a dataset a prediction is of, and which of its classes, is `segcli.evaluation.from_files`'s to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from segcli.errors import InputError, UsageError
from segcli.files.image_places import COCO_NAME
from segcli.files.json_stream import LINES, walk
from segcli.files.own_pictures import refusal_of_pictures
from segcli.results.readers.coco import ENTRIES, CocoResultsFile
from segcli.results.readers.masks import MaskFolders, mask_folders
from segcli.results.readers.panoptic import PanopticFiles
from segcli.results.readers.predict_records import Records
from segcli.results.readers.predictions import PredictedImage, Predictions
from segcli.results.readers.semantic import LabelMaps
from segcli.types import TASKS, Task

__all__ = ["LabelMaps", "PredictedImage", "Predictions", "Records", "open_predictions"]

Kind = Literal["results", "panoptic", "record"]

_EVALUATION = "metrics.json"
_WHOLE: dict[Kind, Callable[[Path, Path], Predictions]] = {"results": CocoResultsFile, "panoptic": PanopticFiles}
_READABLE = (
    "COCO results JSON, COCO panoptic JSON beside its PNGs, a folder of semantic label maps, or a folder that "
    "segcli predict wrote"
)


def open_predictions(
    path: Path,
    task: Task | None = None,
    *,
    thresholded: bool = False,
    broken: Callable[[InputError], None] | None = None,
) -> Predictions:
    """The predictions in a file or folder.

    task: which task, where a folder holds results of several kinds (`predict --save coco,json`) or
    evaluations of several tasks. thresholded: rather those that were shown than those of every score. broken: called
    for a damaged file among others in a folder, which is left out; None: it is raised.

    Raises:
        UsageError: no such path, or nothing in it that can be read as predictions.
        InputError: a file that is damaged or is not what it seems.
    """
    if path.is_dir():
        return _in_folder(_of_evaluation(path, task), task, thresholded, broken)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; predictions are {_READABLE}")
    kind = _kind(path) if path.suffix.lower() in (".json", *LINES) else None
    if kind is None:
        raise UsageError(f"{path}: cannot be read as predictions; give {_READABLE}")
    return Records(path, [path]) if kind == "record" else _WHOLE[kind](path, path)


def _of_evaluation(folder: Path, task: Task | None) -> Path:
    """Where an evaluation's folder has its predictions, one of several tasks in that of its task; else the folder."""
    if not (folder / _EVALUATION).is_file():
        found = {own: folder / own for own in TASKS if (folder / own / _EVALUATION).is_file()}
        if not found:
            return folder
        if task not in found and len(found) > 1:
            raise UsageError(f"{folder}: holds evaluations of {', '.join(found)}; choose one with --task")
        folder = found[task] if task in found else next(iter(found.values()))
    inside = folder / "predictions"
    return inside if inside.is_dir() else folder


def _in_folder(
    folder: Path, task: Task | None, thresholded: bool, broken: Callable[[InputError], None] | None
) -> Predictions:
    """Files for all images go before those of each: instances are unthresholded there."""
    whole: dict[Kind, Path] = {}
    records: list[Path] = []
    damaged: list[InputError] = []
    for file in _below(folder, ".json"):
        try:
            kind = _kind(file)
        except InputError as error:
            damaged.append(error)
            continue
        if kind == "record":
            records.append(file)
        elif kind and file.parent == folder:
            if kind in whole:
                raise UsageError(
                    f"{folder}: both {whole[kind].name} and {file.name} could be meant; give the file itself"
                )
            whole[kind] = file
    if damaged and (broken is None or not (records or whole)):
        raise damaged[0]
    for problem in damaged:
        assert broken is not None  # else the first was raised
        broken(problem)
    predicted = Records(folder, records, broken) if records else None
    instances = (task or (predicted and predicted.task)) == "instance"
    order: tuple[Kind, ...] = ("results", "record", "panoptic") if instances else ("panoptic", "record", "results")
    for kind in ("record", *order) if thresholded else order:
        if kind == "record" and predicted:
            return predicted
        if kind == "results" and kind in whole:
            return CocoResultsFile(folder, whole[kind], _numbered(predicted))
        if kind in whole:
            return _WHOLE[kind](folder, whole[kind])
    if line_files := [file for file in sorted(folder.iterdir()) if file.suffix in LINES and _kind(file)]:
        return CocoResultsFile(folder, line_files[0])
    if masks := mask_folders(folder):
        return MaskFolders(folder, masks)
    maps = _below(folder, ".png")
    if not maps or refusal_of_pictures(folder):
        raise UsageError(refusal_of_pictures(folder) or f"{folder}: holds no predictions; looked for {_READABLE}")
    return LabelMaps(folder, maps)


def _numbered(records: Records | None) -> dict[int | str, str]:
    """Image id -> file, of results that segcli predict wrote beside its records: it numbers photos by their names."""
    files = [image.file for image in records.images if image.file] if records else []
    return {int(name[1]): file for file in files if (name := COCO_NAME.fullmatch(PurePosixPath(file).stem))}


def _below(folder: Path, suffix: str) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() == suffix and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _kind(file: Path) -> Kind | None:
    """What a JSON file holds, by its first entries. Raises InputError if they are not JSON."""
    empty: Kind | None = "results"  # [] is: nothing found
    for element in walk(file):
        empty = None
        if element.key is None:
            lines = file.suffix.lower() in LINES
            return "results" if not lines or _is_entry(element.value) else None
        if element.key in ENTRIES and element.place is not None:
            if not isinstance(element.value, dict):
                return None
            if "segments_info" in element.value:
                return "panoptic"
            return "results" if "score" in element.value else None  # without scores: a dataset, not predictions
        if element.key == "task":
            return "record"
    return empty


def _is_entry(value: Any) -> bool:
    """Whether a line is one of results, and not of a clip, a log or a list of images."""
    return (
        isinstance(value, dict)
        and {"category_id", "score"} <= value.keys()
        and bool({"image_id", "image"} & value.keys())
    )
