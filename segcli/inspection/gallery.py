"""Where `segcli viz overlays` takes images and segments from: results on disk, a dataset, a model, or two of them.

A gallery lists its images without reading any; each is read when it is drawn, so that a folder of any size takes the
memory of one photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import numpy as np

from segcli.codecs.image import MAX_PIXELS, read_image
from segcli.data.dataset import Dataset, Sample, open_split, truth_segments
from segcli.data.detect import detect_for_checking, is_dataset
from segcli.data.records import DatasetInfo
from segcli.errors import InputError, UsageError
from segcli.evaluation.class_colours import in_colours_of
from segcli.evaluation.match_predictions import match, truth_of
from segcli.files.own_pictures import refusal_of_pictures
from segcli.inference.sources import Source, find_sources
from segcli.metrics.match_classes import ClassMatch, match_classes
from segcli.results.own import holds_id_maps, is_own, newest
from segcli.results.photo_finder import PhotoFinder
from segcli.results.plan import plan
from segcli.results.readers import LabelMaps, Predictions, open_predictions
from segcli.results.readers.predict_records import first_record
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, Task

if TYPE_CHECKING:
    from segcli.weights.checkpoint import LoadedModel

View = Literal["overlay", "truth", "compare"]
UNSURE = 0.5  # instances are shown from this score on where nobody says from which
LEAST_SCORE = 0.05  # what is kept of results that hold every score, for a threshold that can be moved


@dataclass(frozen=True, eq=False)
class Shown:
    """An image, uint8 RGB [H, W, 3], and what is drawn over it: segments, or truth and segments side by side."""

    image: np.ndarray
    segments: Segments
    truth: Segments | None = None


@dataclass(frozen=True)
class GalleryItem:
    """One image of a gallery. place: where its picture goes, without a suffix. read: raises InputError."""

    name: str
    place: Path
    read: Callable[[], Shown]


@dataclass(frozen=True)
class Gallery:
    """Images to draw."""

    view: View
    items: Sequence[GalleryItem]
    labels: LabelSet  # the classes of their segments
    scored: bool  # whether those have scores
    notes: tuple[str, ...] = ()  # what should be said before
    broken: tuple[str, ...] = ()  # why files cannot be read; their images are not among the items
    threshold: float = 0.0  # the score from which segments are shown, unless somebody chooses another


def open_gallery(
    source: str | None,
    *,
    truth: Path | None = None,
    split: str | None = None,
    photos: Path | None = None,
    recursive: bool = False,
    task: Task | None = None,
    model: Callable[[], LoadedModel],
    with_model: bool = False,
    skip: Path | None = None,
    every_score: bool = False,
) -> Gallery:
    """What the user asks to see.

    Args:
        source: predictions, photos or a dataset; None: the newest that `segcli predict` wrote here.
        truth: a dataset to set beside it. split: of the dataset.
        photos: where the photos of predictions are. recursive: look for photos in the folders of folders.
        model: loads the model; called only if something has to be predicted. with_model: the user named one.
        skip: a folder in which no photos are looked for.
        every_score: with the predictions below the threshold that they are shown from, as far as there are any.

    Raises:
        UsageError: there is nothing there, or it contradicts the rest.
        InputError, CheckpointError, WeightsUnavailable: as reading files and loading a model do.
    """
    kind = _kind(source, photos)
    if kind == "dataset" and with_model and truth is None:
        kind, truth, source = "nothing", Path(str(source)), None
    if kind == "dataset" and truth is None:
        return of_truth(Path(str(source)), task, split)
    if kind == "photos" or (kind == "nothing" and with_model):
        sources = _photos(source, recursive, skip) if source is not None else None
        if truth is not None:
            return model_beside_truth(model(), truth, sources, task, split)
        if sources is None:
            raise UsageError("--model: there are no photos to predict; give a photo or a folder")
        return of_model(model(), sources, task)
    if kind == "dataset":
        raise UsageError(f"{source} and --truth {truth}: both hold ground truth; give predictions or --model instead")
    if with_model:
        raise UsageError(f"{source}: holds predictions already; leave out --model, or give photos")
    if source is None:
        found = newest(Path())
        if found is None:
            raise UsageError("there are no results of segcli predict here; give their folder, a photo or a dataset")
        gallery = _of_results(found, truth, photos, task, split, every_score)
        return replace(gallery, notes=(f"{found}: the newest results of segcli predict here", *gallery.notes))
    return _of_results(Path(source), truth, photos, task, split, every_score)


def _of_results(
    folder: Path, truth: Path | None, photos: Path | None, task: Task | None, split: str | None, every_score: bool
) -> Gallery:
    if truth is not None:
        return predictions_beside_truth(folder, truth, task, split, every_score=every_score)
    return of_predictions(folder, photos, task, every_score=every_score)


def _photos(source: str, recursive: bool, skip: Path | None) -> list[Source]:
    """Photos, before a model is loaded for them. Raises UsageError if there is none."""
    sources = find_sources([source], recursive=recursive, skip=skip)
    if all(found.missing for found in sources):
        raise UsageError(sources[0].missing)
    return sources


def _kind(source: str | None, photos: Path | None) -> Literal["predictions", "dataset", "photos", "nothing"]:
    """What a path on the command line is. A dataset's annotations can look like predictions: names decide.

    photos: where the photos of it are: it is none then.
    """
    if source is None:
        return "nothing"
    path = Path(source)
    if photos is not None or path.suffix.lower() == ".json":
        return "predictions"
    if not path.is_dir():
        return "photos"
    if is_own(path) or (path / "metrics.json").is_file() or holds_id_maps(path):
        return "predictions"
    if refusal := refusal_of_pictures(path):
        raise UsageError(refusal)
    return "dataset" if is_dataset(path) else "photos"


def of_predictions(path: Path, photos: Path | None, task: Task | None, *, every_score: bool = False) -> Gallery:
    """What `segcli predict` or another tool found, from its files. every_score: see `open_gallery`.

    Raises UsageError or InputError for files that are not predictions, or damaged.
    """
    broken: list[InputError] = []
    predictions = open_predictions(path, task, thresholded=not every_score, broken=broken.append)
    if isinstance(predictions, LabelMaps):
        raise UsageError(
            f"{path}: holds only PNGs, which do not say what their values mean; predict with "
            f"--save png,json, or compare label maps with their data: segcli viz overlays {path} --truth DATA"
        )
    finder = PhotoFinder(path if path.is_dir() else path.parent, photos)
    threshold, notes = _threshold(predictions)
    least = min(threshold, LEAST_SCORE) if every_score else threshold
    names = [str(image.file if image.file is not None else image.id) for image in predictions.images]

    def read(number: int) -> Shown:
        photo = finder.find(predictions.images[number])
        image = read_image(photo)
        try:
            return Shown(image, _above(predictions.read(number, image.shape[:2]), least))
        except InputError as error:
            raise InputError(f"{error} (photo: {photo})") from error

    items = _items([(Path(name), Path()) for name in names], read)
    failed = tuple(map(str, broken))
    return Gallery("overlay", items, predictions.labels, predictions.task != "semantic", notes, failed, threshold)


def of_truth(path: Path, task: Task | None, split: str | None) -> Gallery:
    """What is annotated in a dataset. Raises UsageError as `detect` does, and for a split that is not there."""
    info = detect_for_checking(path, task=task)
    name = chosen_split(info, split)
    dataset = open_split(info, name)
    notes = (f"{path}: {info.found}", *info.notes, *_of_splits(info, name))

    def read(number: int) -> Shown:
        sample = dataset[number]
        return Shown(sample.image, truth_segments(sample, info.task, dataset.labels))

    return Gallery("truth", _items(_files(dataset), read), dataset.labels, False, notes)


def of_model(loaded: LoadedModel, sources: Sequence[Source], task: Task | None) -> Gallery:
    """What a model finds in photos. Raises UsageError for a task that it does not support."""
    find, scored = _predictor(loaded, task)

    def read(number: int) -> Shown:
        source, levels = sources[number], loaded.spec.levels
        image = read_image(source.open(), name=str(source), max_pixels=MAX_PIXELS, levels=levels)
        return Shown(image, find(image))

    items = _items([(source.path, source.folder) for source in sources], read)
    return Gallery("overlay", items, loaded.spec.labels, scored)


def predictions_beside_truth(
    path: Path, truth: Path, task: Task | None, split: str | None, *, every_score: bool = False
) -> Gallery:
    """Predictions from files beside the truth of the same images, as far as there are predictions. Those of classes
    that the data does not have are shown too. every_score: see `open_gallery`.

    Raises UsageError or InputError: files or data that cannot be read, a prediction of an image that the data does not
    have, classes that are not the data's.
    """
    broken: list[InputError] = []
    predictions = open_predictions(path, task, thresholded=not every_score, broken=broken.append)
    with nullcontext() if task else truth_of(predictions, truth):
        info = detect_for_checking(truth, task=task or predictions.task)
    splits = [split] if split else list(info.splits)
    matches = [match(predictions, info, name, may_be_none=split is None) for name in splits]
    info = in_colours_of(predictions.labels, info, matches[0].classes)
    if not any(label.name for label in predictions.labels):
        info = _in_recorded_colours(predictions.path, info)
    datasets = [open_split(info, name) for name in splits]
    classes = matches[0].classes.onto(datasets[0].labels)
    threshold, notes = _threshold(predictions)
    least = min(threshold, LEAST_SCORE) if every_score else threshold
    notes += _beside(classes, predictions.labels, info.task)
    classes = classes.keeping(predictions.labels)
    records = {
        place: (dataset, record)
        for dataset, matched in zip(datasets, matches, strict=True)
        for record, place in matched.places.items()
    }
    places = [(*records[place], place) for place in sorted(records)]

    def read(number: int) -> Shown:
        dataset, record, place = places[number]
        sample = dataset[record]
        found = _above(predictions.read(place, sample.size), least)
        return Shown(sample.image, classes.apply(found), _truth(sample, info.task, dataset, classes.labels))

    items = _items([(dataset.records[record].image.place, None) for dataset, record, _ in places], read)
    failed = tuple(map(str, broken))
    return Gallery("compare", items, classes.labels, info.task != "semantic", notes, failed, threshold)


def _in_recorded_colours(folder: Path, info: DatasetInfo) -> DatasetInfo:
    """The data in the colours that the records of an evaluation hold, beside results without names."""
    record = first_record(folder)
    rows = record["classes"] if record and isinstance(record.get("classes"), list) else []
    given = {(row.get("id"), row.get("name")): row.get("color") for row in rows if isinstance(row, dict)}

    def coloured(labels: LabelSet) -> LabelSet:
        colours = [given.get((label.id, label.name)) for label in labels]
        return LabelSet(
            tuple(
                replace(label, color=(colour[0], colour[1], colour[2])) if _is_colour(colour) else label
                for label, colour in zip(labels, colours, strict=True)
            )
        )

    return replace(info, labels=coloured(info.labels), source_labels=coloured(info.source_labels))


def _is_colour(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part < 256 for part in value)


def model_beside_truth(
    loaded: LoadedModel, truth: Path, sources: Sequence[Source] | None, task: Task | None, split: str | None
) -> Gallery:
    """What a model finds beside the truth: in all images of a split, or in the photos named, wherever they lie.

    Raises UsageError: data that cannot be read, classes that are not the data's; InputError: a photo that the data does
    not have.
    """
    info = replace(detect_for_checking(truth, task=task), levels=loaded.spec.levels)
    find, scored = _predictor(loaded, info.task)
    classes = match_classes(loaded.spec.labels, info.source_labels, loaded.name, info.task)
    info = in_colours_of(loaded.spec.labels, info, classes)
    onto = classes.onto(info.labels)
    notes = _beside(onto, loaded.spec.labels, info.task)
    onto = onto.keeping(loaded.spec.labels)
    if sources is None:
        name = chosen_split(info, split)
        dataset = open_split(info, name)
        notes += _of_splits(info, name)
        places = [(dataset, record) for record in range(len(dataset))]
    else:
        datasets = {name: open_split(info, name) for name in ([split] if split else info.splits)}
        found = [info.find(source.path, split) for source in sources]
        places = [(datasets[name], number) for name, number in found]

    def read(number: int) -> Shown:
        dataset, record = places[number]
        sample = dataset[record]
        return Shown(sample.image, onto.apply(find(sample.image)), _truth(sample, info.task, dataset, onto.labels))

    items = _items([(dataset.records[record].image.place, None) for dataset, record in places], read)
    return Gallery("compare", items, onto.labels, scored, notes)


def _truth(sample: Sample, task: Task, dataset: Dataset, labels: LabelSet) -> Segments:
    """The truth, with `labels`, which begin with the dataset's, as its classes."""
    return replace(truth_segments(sample, task, dataset.labels), label_set=labels)


def _beside(classes: ClassMatch, predicted: LabelSet, task: Task) -> tuple[str, ...]:
    """Notes on classes that only one side has."""
    added = [
        label.name or str(label.id)
        for label, index in zip(predicted, classes.index, strict=True)
        if index < 0 and (task not in OBJECT_TASKS or label.isthing)
    ]
    if not added:
        return ()
    some = ", ".join(added[:5]) + (", …" if len(added) > 5 else "")
    return (f"the data does not have {len(added)} of the predicted classes, which are drawn anyway: {some}",)


def chosen_split(info: DatasetInfo, split: str | None) -> str:
    """The split that was asked for; else val, else the first. `open_split` checks it."""
    return split or ("val" if "val" in info.splits else next(iter(info.splits)))


def _of_splits(info: DatasetInfo, name: str) -> tuple[str, ...]:
    """Notes on the images in splits that are not drawn."""
    others = [f"--split {other}" for other in info.splits if other != name]
    if not others:
        return ()
    count, total = len(info.splits[name]), sum(len(records) for records in info.splits.values())
    return (f"showing the split {name}, {count} of {total} images; for the others use {' or '.join(others)}",)


def _predictor(loaded: LoadedModel, task: Task | None) -> tuple[Callable[[np.ndarray], Segments], bool]:
    """(photo -> segments, whether they have scores)."""
    from segcli.inference.predict import resolve, segment_photo

    settings = resolve(loaded.spec, task)
    return lambda image: segment_photo(loaded, image, settings), settings.task != "semantic"


def _files(dataset: Dataset) -> list[tuple[Path, Path | None]]:
    return [(record.image.place, None) for record in dataset.records]


def _items(files: Sequence[tuple[Path, Path | None]], read: Callable[[int], Shown]) -> list[GalleryItem]:
    """One item per file; the tree below a file's folder is kept, and no two have one place."""
    return [
        GalleryItem(photo.file_name, photo.stem, lambda number=number: read(number))  # type: ignore[misc]
        for number, photo in enumerate(plan(files))
    ]


def _threshold(predictions: Predictions) -> tuple[float, tuple[str, ...]]:
    """The score from which instances are shown, and what to say of it: the model's own, where its records tell."""
    if predictions.task not in OBJECT_TASKS or predictions.least_score is None:
        return 0.0, ()
    record = first_record(predictions.path)
    own = (record.get("rule") or {}).get("instance_score") if record else None
    if isinstance(own, int | float):
        return float(own), ()
    if predictions.least_score >= UNSURE / 2:
        return 0.0, ()
    note = f"{predictions.path}: holds instances of every score; shown are those above {UNSURE:g} (--threshold)"
    return UNSURE, (note,)


def _above(segments: Segments, least: float) -> Segments:
    return segments.filter(segments.scores >= least) if least else segments
