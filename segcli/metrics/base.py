"""What a metric is, what it reports, and the form in which it takes the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
        """bool [N], True where a mask covers a group nobody counted."""

    @property
    def stated(self) -> CocoObjects | None:
        """What a COCO instance file says of the objects, which AP goes by then; None = there is no such file."""

    def id_map(self) -> np.ndarray:
        """int [H, W]: i + 1 = object i, 0 = unlabelled or void; a crowd region never covers an object."""


@dataclass(frozen=True)
class MetricReport:
    """The numbers of one evaluation, as fractions; NaN where there was nothing to measure.

    name, value: the headline ("PQ", "AP", "mIoU").
    summary: every number over all classes, the headline first.
    table: one row per class: "id" (the dataset's own), "name", "isthing", then its numbers.
    """

    task: Task
    name: str
    summary: dict[str, float]
    table: tuple[dict[str, Any], ...]

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


class Metric(Protocol):
    """Counts over a dataset, fed one image at a time; a metric can be pickled and merged with one of other images."""

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image.

        Raises:
            InputError: the two sides differ in size, or a class is unknown to the truth.
        """

    def merge(self, other: Any) -> None:
        """Add what another metric of the same classes has seen."""

    def compute(self) -> MetricReport:
        """The numbers so far; counting can go on afterwards."""


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
    """Raises InputError unless both sides are of one size."""
    (height, width), (rows, columns) = segments.size, truth.size
    if (height, width) != (rows, columns):
        raise InputError(f"{truth.image_id}: the prediction is {width}×{height} pixels, the truth {columns}×{rows}")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
