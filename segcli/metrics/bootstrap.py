"""A dataset's metric again from what each image contributed, for any choice of its images, a thousand choices at once.

Each image's contribution is what `per_image.jsonl` holds under "counts". A choice is a weight for each image: how
often it is in it. All ones give the dataset's own number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segcli.types import OBJECT_TASKS, Task

Counts = Mapping[str, Any]  # of one image: class id -> what the task counts
_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's
_IGNORED = 2
_BLOCK = 1 << 22  # detections times choices that are looked at together


def values(task: Task, images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """PQ, mIoU or AP of each class for each choice, float [R, K], NaN where there is nothing to measure.

    images: the counts of N images. ids: the K classes. weights: int [R, N].
    """
    if task in OBJECT_TASKS:
        columns = [_in_blocks(_Detections.of(images, str(id_)), weights) for id_ in ids]
        return np.stack(columns, axis=1) if columns else np.zeros((len(weights), 0))
    width = 4 if task == "panoptic" else 3
    table = np.zeros((len(images), len(ids), width))
    place = {str(id_): index for index, id_ in enumerate(ids)}
    for row, counts in zip(table, images, strict=True):
        for id_, numbers in counts.items():
            row[place[id_]] = numbers
    sums = (weights.astype(float) @ table.reshape(len(images), len(ids) * width)).reshape(len(weights), len(ids), width)
    return _quality(sums) if task == "panoptic" else _iou(sums)


def mean(per_class: np.ndarray) -> np.ndarray:
    """The dataset's metric [R] from that of the classes [R, K]: the mean of those that could be measured."""
    measured = ~np.isnan(per_class)
    total, count = np.where(measured, per_class, 0).sum(axis=1), measured.sum(axis=1)
    return np.divide(total, count, out=np.full(len(per_class), np.nan), where=count > 0)


def _quality(sums: np.ndarray) -> np.ndarray:
    """[R, K, (summed IoU, matched, false positives, missed)] -> PQ."""
    iou, matched, invented, missed = np.moveaxis(sums, -1, 0)
    total = matched + 0.5 * invented + 0.5 * missed
    return np.divide(iou, total, out=np.full_like(iou, np.nan), where=total > 0)


def _iou(sums: np.ndarray) -> np.ndarray:
    """[R, K, (intersection, predicted, true)] -> IoU; a class absent from the truth is left out, as in detectron2."""
    common, predicted, true = np.moveaxis(sums, -1, 0)
    return np.divide(common, predicted + true - common, out=np.full_like(common, np.nan), where=true > 0)


@dataclass(frozen=True)
class _Detections:
    """The instances of one class, in descending order of score, of equal ones in the order of the images.

    image: int [D]. matched: uint8 [T, D], per IoU threshold 0 = false positive, 1 = matched, 2 = ignored. true: int [N]
    objects in each image.
    """

    image: np.ndarray
    matched: np.ndarray
    true: np.ndarray

    @classmethod
    def of(cls, images: Sequence[Counts], id_: str) -> _Detections:
        entries = [(number, counts[id_]) for number, counts in enumerate(images) if id_ in counts]
        true = np.zeros(len(images), dtype=np.int64)
        for number, entry in entries:
            true[number] = entry["true"]
        found = [(number, entry) for number, entry in entries if entry["scores"]]
        if not found:
            return cls(np.zeros(0, dtype=np.int64), np.zeros((1, 0), dtype=np.uint8), true)
        scores = np.concatenate([np.asarray(entry["scores"], dtype=float) for _, entry in found])
        matched = np.concatenate([np.asarray(entry["matched"], dtype=np.uint8) for _, entry in found], axis=1)
        image = np.repeat([number for number, _ in found], [len(entry["scores"]) for _, entry in found])
        order = np.argsort(-scores, kind="stable")
        return cls(image[order], matched[:, order], true)


def _in_blocks(detections: _Detections, weights: np.ndarray) -> np.ndarray:
    """`_average_precision` of so many choices at a time that memory stays bounded."""
    rows = max(1, _BLOCK // max(1, len(detections.image)))
    blocks = [weights[start : start + rows] for start in range(0, len(weights), rows)]
    return np.concatenate([_average_precision(detections, block) for block in blocks])


def _average_precision(detections: _Detections, weights: np.ndarray) -> np.ndarray:
    """AP of one class, the mean over its IoU thresholds, for each choice -> float [R]; NaN without a true object.

    The interpolated precision changes at matched detections only, so that everything is looked at there alone: how many
    thresholds of recall one of them passes, times the best precision at it or behind it.
    """
    true = weights @ detections.true
    chosen = weights[:, detections.image]  # [R, D] how often each detection is there
    ranked = np.cumsum(chosen, axis=1)
    total = np.zeros(len(weights))
    for row in detections.matched:
        places = np.flatnonzero(row == 1)
        if not len(places):
            continue
        hits = np.cumsum(chosen[:, places], axis=1)
        ignored = np.flatnonzero(row == _IGNORED)
        seen = ranked[:, places]
        if len(ignored):
            before = np.concatenate([np.zeros((len(weights), 1), chosen.dtype), chosen[:, ignored].cumsum(axis=1)], 1)
            seen = seen - before[:, np.searchsorted(ignored, places)]
        precision = hits / np.maximum(seen, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        passed = np.searchsorted(_RECALLS, hits / np.maximum(true, 1)[:, None], side="right")
        total += (best * np.diff(passed, axis=1, prepend=0)).sum(axis=1)
    mean_ = total / (len(_RECALLS) * len(detections.matched))
    return np.where(true > 0, mean_, np.nan)
