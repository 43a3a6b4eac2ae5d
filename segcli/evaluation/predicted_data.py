"""Predictions read as a dataset, so that they can be converted and corrected in labelling tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.data.checking.facts import Facts
from segcli.data.checking.stats import SplitStats, counted
from segcli.data.detect import detect
from segcli.data.records import DatasetInfo, Fault, Record
from segcli.data.truth import VOID, MapTruth, ShapeTruth, Truth
from segcli.errors import InputError, UsageError
from segcli.files.image_places import ImagePlaces
from segcli.files.image_ref import FileRef
from segcli.files.text import some
from segcli.results.readers import LabelMaps, PredictedImage, Predictions, Records, open_predictions
from segcli.types import Label, LabelSet, Task

_TASKS: dict[Task, tuple[Task, ...]] = {
    "panoptic": ("panoptic", "semantic", "instance"),
    "instance": ("instance",),
    "detect": ("detect",),
    "semantic": ("semantic",),
}


def open_source(path: Path, photos: Path | None, format: str | None, *, binary: bool = False) -> DatasetInfo:
    """What is to be converted: a dataset, or with `photos` the predictions for them. binary: as `detect` has it.

    Raises:
        UsageError: neither a dataset nor predictions; predictions without their photos, or with a format of datasets.
    """
    if photos is not None and format is not None:
        raise UsageError("--format and --images: the first is for a dataset, the second for predictions; give one")
    if photos is not None and binary:
        raise UsageError("--binary and --images: the first is for a dataset, the second for predictions; give one")
    if photos is not None:
        return predicted_data(path, photos)
    try:
        return detect(path, format=format, training=False, binary=binary)
    except UsageError as error:
        if not _are_predictions(path):
            raise
        raise UsageError(
            f"{path}: looks like predictions, which do not hold the photos; give their folder with --images"
        ) from error


def _are_predictions(path: Path) -> bool:
    """Whether the files here are certainly predictions; PNGs alone could be anything."""
    try:
        return not isinstance(open_predictions(path), LabelMaps)
    except (UsageError, InputError):
        return False


def predictions_to_count(path: Path) -> Records | None:
    """What `segcli predict` wrote in a folder; None if there is none.

    Raises:
        UsageError: predictions of another form, which do not tell how large their images are.
    """
    try:
        predictions = open_predictions(path, thresholded=True)
    except UsageError:
        return None
    if isinstance(predictions, Records):
        return predictions
    if isinstance(predictions, LabelMaps):  # PNGs could be anything
        return None
    raise UsageError(
        f"{path}: {predictions.what} do not tell how large their images are; predict with --save json, or write them "
        "as a dataset first: segcli data convert IN OUT --to coco --images PHOTOS"
    )


def count_predictions(predictions: Records, progress: Callable[[], None]) -> SplitStats:
    """Count predictions as `segcli data stats` counts truth. What no segment covers counts as void, but for instances.

    Progress is told after each image. A result that cannot be read counts as unusable.
    """
    ids = [label.id for label in predictions.labels]
    rows = []
    for number, size in enumerate(predictions.sizes):
        try:
            segments = predictions.read(number, size)
        except InputError as error:
            rows.append(Facts((0, 0), faults=[Fault("unreadable", str(error))]))
        else:
            areas = segments.areas().tolist()
            objects = [(ids[place], area, False) for place, area in zip(segments.labels.tolist(), areas, strict=True)]
            void = size[0] * size[1] - sum(areas) if segments.map is not None else 0
            rows.append(Facts(size, [row for row in objects if row[1]], void))
        progress()
    return counted(predictions.labels, predictions.task, "predicted", rows)


def predicted_data(path: Path, photos: Path) -> DatasetInfo:
    """Predictions of `segcli predict` or another tool for the photos in a folder, as a dataset without splits.

    Raises:
        UsageError: no predictions, no such folder, predictions of a photo that is not in it.
    """
    if not photos.is_dir():
        raise UsageError(f"--images {photos}: no such folder; give the one that holds the photos of {path}")
    predictions = open_predictions(path, thresholded=True)
    places = ImagePlaces(photos)
    records = [
        Record(str(number), FileRef(str(_photo(places, image, path, photos))), str(number))
        for number, image in enumerate(predictions.images)
    ]
    notes: list[str] = []
    labels = _named(predictions, notes)
    classes = f"{len(labels)} class" + "es" * (len(labels) != 1)
    tasks = _TASKS[predictions.task]
    return DatasetInfo(
        root=path,
        format=predictions.what,
        found=f"{predictions.what}: {some(len(records), 'image')}; {classes}; task {predictions.task}",
        task=predictions.task,
        tasks=tasks,
        labels=labels,
        source_labels=labels,
        splits={"all": records},
        reader=PredictionReader(predictions),
        notes=tuple(notes),
    )


def _named(predictions: Predictions, notes: list[str]) -> LabelSet:
    """The predicted classes; those of COCO results have no names, and instances are always things."""
    labels = predictions.labels
    if not len(labels):
        raise UsageError(f"{predictions.path}: nothing was predicted in any image; there is nothing to convert")
    if not all(labels.names):
        notes.append("the predictions hold no class names: classes are called by their ids")
    if predictions.least_score is not None and predictions.least_score < 0.1:
        notes.append(
            f"instances of every score are included (the lowest: {predictions.least_score:.2g}); "
            "predict --save json writes only those above its threshold"
        )
    isthing = {"instance": True, "semantic": False}.get(predictions.task)
    return LabelSet(
        tuple(
            Label(
                label.id, label.name or f"class {label.id}", label.isthing if isthing is None else isthing, label.color
            )
            for label in labels
        )
    )


def _photo(places: ImagePlaces, image: PredictedImage, source: Path, photos: Path) -> Path:
    """The photo that a prediction is of. Raises UsageError if there is none, or more than one."""
    found = places.of_result(image.file, image.id)
    if len(found) > 1:
        raise UsageError(
            f"{source}: predictions of {image} could be of {found[0]} or {found[1]}; "
            "give the folder that the photos were predicted from"
        )
    if not found:
        raise UsageError(f"{source}: has predictions of {image}, which is not below {photos}; give its folder")
    return found[0]


@dataclass(frozen=True)
class PredictionReader:
    """Reads a prediction as ground truth. What no panoptic or semantic segment covers is void."""

    predictions: Predictions

    def files(self, record: Record) -> list[Path]:
        """What the predictions are in."""
        return [self.predictions.path]

    def read(self, record: Record, size: tuple[int, int]) -> Truth:
        """The segments, labelled with their ids."""
        segments = self.predictions.read(int(str(record.truth)), size)
        labels = np.array(segments.category_ids(), dtype=np.int64)
        crowd = np.zeros(len(labels), dtype=bool)
        if segments.rles is not None:
            scores = segments.scores if np.isfinite(segments.scores).all() else None
            return ShapeTruth(size, list(segments.rles), labels, crowd, scores=scores)
        ids = segments.id_map()
        ids[ids == 0] = VOID
        return MapTruth(ids, labels, crowd)
