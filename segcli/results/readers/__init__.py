"""Predictions from disk, in the formats the field writes and segcli too, read an image at a time.

    predictions = open_predictions(path)
    predictions.task, predictions.images, predictions.labels
    segments = predictions.read(number, size)

Which image of a dataset a prediction is of, and which of its classes, is `segcli.engine.score`'s to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from segcli.codecs.json_stream import walk
from segcli.errors import UsageError
from segcli.results.readers.base import PredictedImage, Predictions
from segcli.results.readers.coco import CocoResultsFile
from segcli.results.readers.masks import MaskFolders, mask_folders
from segcli.results.readers.panoptic import PanopticFiles
from segcli.results.readers.records import Records
from segcli.results.readers.semantic import LabelMaps
from segcli.types import Task

__all__ = ["LabelMaps", "PredictedImage", "Predictions", "open_predictions"]

Kind = Literal["results", "panoptic", "record"]

_WHOLE: dict[Kind, Callable[[Path, Path], Predictions]] = {"results": CocoResultsFile, "panoptic": PanopticFiles}
_READABLE = (
    "COCO results JSON, COCO panoptic JSON beside its PNGs, a folder of semantic label maps, or a folder that "
    "segcli predict wrote"
)


def open_predictions(path: Path, task: Task | None = None, *, thresholded: bool = False) -> Predictions:
    """The predictions in a file or folder.

    task: what they shall answer, where a folder holds results of several kinds (`predict --save coco,json`).
    thresholded: rather those that were shown than those of every score.

    Raises:
        UsageError: no such path, or nothing in it that can be read as predictions.
        InputError: a file that is damaged or is not what it seems.
    """
    if path.is_dir():
        inside = path / "predictions"  # of an evaluation's folder
        return _in_folder(inside if (path / "metrics.json").is_file() and inside.is_dir() else path, task, thresholded)
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; predictions are {_READABLE}")
    kind = _kind(path) if path.suffix.lower() == ".json" else None
    if kind is None:
        raise UsageError(f"{path}: cannot be read as predictions; give {_READABLE}")
    return Records(path, [path]) if kind == "record" else _WHOLE[kind](path, path)


def _in_folder(folder: Path, task: Task | None, thresholded: bool) -> Predictions:
    """Files for all images go before those of each: instances are unthresholded there."""
    whole: dict[Kind, Path] = {}
    records: list[Path] = []
    for file in _below(folder, ".json"):
        kind = _kind(file)
        if kind == "record":
            records.append(file)
        elif kind and file.parent == folder:
            if kind in whole:
                raise UsageError(
                    f"{folder}: both {whole[kind].name} and {file.name} could be meant; give the file itself"
                )
            whole[kind] = file
    predicted = Records(folder, records) if records else None
    instances = (task or (predicted and predicted.task)) == "instance"
    order: tuple[Kind, ...] = ("results", "record", "panoptic") if instances else ("panoptic", "record", "results")
    for kind in ("record", *order) if thresholded else order:
        if kind == "record" and predicted:
            return predicted
        if kind in whole:
            return _WHOLE[kind](folder, whole[kind])
    if masks := mask_folders(folder):
        return MaskFolders(folder, masks)
    maps = _below(folder, ".png")
    if not maps:
        raise UsageError(f"{folder}: holds no predictions; looked for {_READABLE}")
    return LabelMaps(folder, maps)


def _below(folder: Path, suffix: str) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() == suffix and file.is_file())
    return sorted(file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _kind(file: Path) -> Kind | None:
    """What a JSON file holds, by its first entries. Raises InputError if they are no JSON."""
    empty: Kind | None = "results"  # [] is: nothing found
    for element in walk(file):
        empty = None
        if element.key is None:
            return "results"
        if element.key == "annotations":
            return "panoptic" if isinstance(element.value, dict) and "segments_info" in element.value else None
        if element.key == "task":
            return "record"
    return empty
