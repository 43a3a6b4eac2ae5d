"""A dataset's metric recomputed from each image's contribution, for any choice of images, a thousand at once.

Each image's contribution is what `per_image.jsonl` holds under "counts". A choice is a weight for each image: how
often it is in it. All ones give the dataset's own number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segcli.metrics.metric import Counts

_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's
_IGNORED = 2
_BLOCK = 1 << 22  # detections times choices that are looked at together


def summed(images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray, columns: int) -> np.ndarray:
    """Counts that are `columns` numbers a class, summed over each choice of images -> float [R, K, columns].

    images: of N images. ids: the K classes. weights: int [R, N], how often each image is chosen.
    """
    table = np.zeros((len(images), len(ids), columns))
    place = {str(id_): index for index, id_ in enumerate(ids)}
    for row, counts in zip(table, images, strict=True):
        for id_, numbers in counts.items():
            row[place[id_]] = numbers
    return (weights.astype(float) @ table.reshape(len(images), len(ids) * columns)).reshape(
        len(weights), len(ids), columns
    )


def average_precision(images: Sequence[Counts], id_: int, weights: np.ndarray) -> np.ndarray:
    """AP of one class by the instances' counts for each choice of images, [R]; a block at a time to bound memory."""
    detections = _Detections.of(images, str(id_))
    rows = max(1, _BLOCK // max(1, len(detections.image)))
    blocks = [weights[start : start + rows] for start in range(0, len(weights), rows)]
    return np.concatenate([_average_precision(detections, block) for block in blocks])


def mean(per_class: np.ndarray) -> np.ndarray:
    """The dataset's metric [R] from that of the classes [R, K]: the mean of those that could be measured."""
    measured = ~np.isnan(per_class)
    total, count = np.where(measured, per_class, 0).sum(axis=1), measured.sum(axis=1)
    return np.divide(total, count, out=np.full(len(per_class), np.nan), where=count > 0)


@dataclass(frozen=True)
class _Detections:
    """The instances of one class, in descending order of score, of equal ones in the order of the images."""

    image: np.ndarray  # int [D] the image each is in
    matched: np.ndarray  # uint8 [T, D], per IoU threshold 0 = false positive, 1 = matched, 2 = ignored
    true: np.ndarray  # int [N] objects in each image

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
