"""The base class of metrics, what they report, and the form in which they take the ground truth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from segcli.codecs.rle import RLE
from segcli.errors import InputError
from segcli.segments import Segments
from segcli.types import CocoObjects, LabelSet, Task


class ImageTruth(Protocol):
    """The truth of one image of N objects, as a data reader yields it."""

    @property
    def image_id(self) -> str:
        """Unique in the dataset."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""

    @property
    def rles(self) -> Sequence[RLE]:
        """The objects' masks, which may overlap."""

    @property
    def labels(self) -> np.ndarray:
        """int [N] class indices."""

    @property
    def crowd(self) -> np.ndarray:
        """bool [N], True where a mask covers a group of uncounted objects."""

    @property
    def stated(self) -> CocoObjects | None:
        """What a COCO instance file says of the objects, which AP goes by then; None = there is no such file."""

    def id_map(self) -> np.ndarray:
        """int [H, W]: i + 1 = object i, 0 = unlabelled or void; a crowd region never covers an object."""


@dataclass(frozen=True)
class MetricReport:
    """The numbers of one evaluation, as fractions; NaN where there was nothing to measure."""

    task: Task
    name: str  # of the headline: "PQ", "AP", "mIoU"
    summary: dict[str, float]  # every number over all classes, the headline first
    table: tuple[dict[str, Any], ...]  # a row per class: "id" (the dataset's own), "name", "isthing", its numbers

    @property
    def value(self) -> float:
        """The headline's value."""
        return self.summary[self.name]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file, null instead of NaN."""
        return {
            "task": self.task,
            "metric": self.name,
            "value": _plain(self.value),
            "summary": {name: _plain(value) for name, value in self.summary.items()},
            "per_class": [{name: _plain(value) for name, value in row.items()} for row in self.table],
        }


Counts = Mapping[str, Any]  # of one image: class id (a string, as in JSON) -> what the metric counts of the class
METRICS: dict[str, type[Metric]] = {}
COCO_DETS = 100  # the most instances of a class and image that COCO counts


class Metric(ABC):
    """Counts over a dataset, fed one image at a time; a metric can be pickled and merged with one of other images.

    A subclass with a `name` registers itself. A task may have several metrics; the first that registers for it has its
    headline and says what single images contribute.
    """

    name: ClassVar[str] = ""  # of its headline
    tasks: ClassVar[tuple[Task, ...]] = ()  # whose results it measures

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            METRICS[cls.name] = cls

    def __init__(self, labels: LabelSet, *, max_dets: int = COCO_DETS) -> None:
        """labels: the truth's classes. max_dets: the most instances of a class and image that AP counts."""
        self.labels, self.max_dets = labels, max_dets

    @abstractmethod
    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image.

        Raises:
            InputError: the two sides differ in size, or a class is unknown to the truth.
        """

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another metric of the same classes has seen."""

    @abstractmethod
    def compute(self) -> MetricReport:
        """The metrics so far; counting can continue afterwards."""

    @classmethod
    def of_image(cls, segments: Segments, truth: ImageTruth, labels: LabelSet, max_dets: int) -> ImageCounts:
        """What one image contributes; only the first metric of a task is asked. Raises as `update`."""
        raise NotImplementedError(f"{cls.name} does not tell what single images contribute")

    @classmethod
    def resample(cls, images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """The metric of each class for choices of images, by their counts -> float [R, K], NaN where nothing is.

        Only the first metric of a task is asked.

        images: the counts of N images. ids: the K classes. weights: int [R, N], how often each image is chosen.
        """
        raise NotImplementedError(f"{cls.name} cannot be resampled")


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """What one image contributes to a metric."""

    value: float  # the metric of this image alone, NaN where there is nothing to measure
    counts: dict[str, Any]  # see `Counts`; classes that occur on neither side have none
    metric: Metric | None = None  # over this image, to be merged; None where taking images in one by one is cheaper


def metrics_of(task: Task) -> list[type[Metric]]:
    """Every metric of a task, the one with its headline first."""
    return [metric for metric in METRICS.values() if task in metric.tasks]


class ClassIndex:
    """Finds the truth's class index of predicted segments: by the dataset's category id."""

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self._of_id = {label.id: index for index, label in enumerate(labels)}

    def of_id(self, category_id: int) -> int:
        """The class index of one category id."""
        return self._of_id[category_id]

    def of(self, segments: Segments, image_id: str) -> np.ndarray:
        """int64 [N] class indices.

        Raises:
            InputError: a category id that the truth does not have.
        """
        if segments.label_set == self.labels:
            return segments.labels
        ids = segments.category_ids()
        unknown = sorted(set(ids) - self._of_id.keys())
        if unknown:
            raise InputError(
                f"{image_id}: predicted category id {unknown[0]} is not among the truth's {len(self.labels)}"
            )
        return np.array([self._of_id[id_] for id_ in ids], dtype=np.int64)


def row_of(labels: LabelSet, index: int) -> dict[str, Any]:
    """The first columns of a class's table row."""
    label = labels[index]
    return {"id": label.id, "name": label.name, "isthing": label.isthing}


def check_size(segments: Segments, truth: ImageTruth) -> None:
    """Raises InputError unless both sides have the same size."""
    (height, width), (rows, columns) = segments.size, truth.size
    if (height, width) != (rows, columns):
        raise InputError(f"{truth.image_id}: the prediction is {width}×{height} pixels, the truth {columns}×{rows}")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
