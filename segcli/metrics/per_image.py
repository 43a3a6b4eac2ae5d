"""What one image contributes to a metric: its own value, and counts that the metric over any set of images is made of.

    panoptic  {class id: [summed IoU, matched, false positives, missed]}
    semantic  {class id: [pixels right, pixels predicted, pixels true]}
    instance  {class id: {"scores": [D], "matched": [10][D], "true": objects}}, D instances in descending order of
              score, at COCO's ten IoU thresholds 1 matched, 0 not, 2 ignored (a crowd region's)

Keys are strings, as they are in JSON; classes that occur on neither side have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from segcli.metrics.base import ImageTruth, Metric, check_size
from segcli.metrics.instance import coco_entries
from segcli.metrics.panoptic import PanopticMetric
from segcli.metrics.semantic import SemanticMetric
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet

_ALL_AREAS = [[0.0, 1e10]]


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """value: PQ, mIoU or mask AP of the image alone, NaN where there is nothing to measure. counts: see above.

    metric: the metric over this image, to be merged into that of the dataset; None for instances, whose metric takes
    images in one by one more cheaply.
    """

    value: float
    counts: dict[str, Any]
    metric: Metric | None = None


def count_image(segments: Segments, truth: ImageTruth, labels: LabelSet, *, max_dets: int = 100) -> ImageCounts:
    """Count one image for the task that `segments` answer.

    labels: the truth's classes; those of `segments` are among them. Raises as `Metric.update`.
    """
    if segments.task in OBJECT_TASKS:
        return _instance(segments, truth, labels, max_dets)
    return (_panoptic if segments.task == "panoptic" else _semantic)(segments, truth, labels)


def _panoptic(segments: Segments, truth: ImageTruth, labels: LabelSet) -> ImageCounts:
    metric = PanopticMetric(labels)
    metric.update(segments, truth)
    counts = {
        str(label.id): [float(iou), *map(int, numbers)]
        for label, iou, numbers in zip(labels, metric.iou, metric.counts, strict=True)
        if numbers.any()
    }
    return ImageCounts(metric.compute().value, counts, metric)


def _semantic(segments: Segments, truth: ImageTruth, labels: LabelSet) -> ImageCounts:
    metric = SemanticMetric(labels)
    metric.update(segments, truth)
    hit = np.diagonal(metric.confusion)
    predicted, true = metric.confusion[:, :-1].sum(axis=0), metric.confusion.sum(axis=1)
    counts = {
        str(label.id): [int(hit[i]), int(predicted[i]), int(true[i])]
        for i, label in enumerate(labels)
        if predicted[i] or true[i]
    }
    return ImageCounts(metric.compute().value, counts, metric)


def _instance(segments: Segments, truth: ImageTruth, labels: LabelSet, max_dets: int) -> ImageCounts:
    check_size(segments, truth)
    image, annotations, results = coco_entries(segments, truth, labels)
    occurring = {entry["category_id"] for entry in (*annotations, *results)}
    if not occurring:
        return ImageCounts(float("nan"), {})
    categories = [{"id": label.id, "name": label.name} for label in labels if label.id in occurring]
    base = {"images": [image], "categories": categories}
    kind = "bbox" if segments.task == "detect" else "segm"
    numbered = [
        {"bbox": [0.0] * 4} | result | {"id": number, "area": 0.0, "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    evaluation = COCOeval(COCO(base | {"annotations": annotations}), COCO(base | {"annotations": numbered}), kind)
    evaluation.params.max_dets = [max_dets]
    evaluation.params.area_rng, evaluation.params.area_rng_lbl = _ALL_AREAS, ["all"]
    evaluation.evaluate()
    counts = {str(entry["category_id"]): _matches(entry) for entry in evaluation.eval_imgs if entry is not None}
    evaluation.accumulate()
    assert evaluation.eval is not None
    precision = evaluation.eval["precision"]
    measured = precision[precision > -1]
    return ImageCounts(float(measured.mean()) if measured.size else float("nan"), counts)


def _matches(entry: dict[str, Any]) -> dict[str, Any]:
    # The id of the object, as pycocotools asks: it never credits the one whose id is 0 (zero_id.py).
    matched, ignored = np.array(entry["dtMatches"]) != 0, np.array(entry["dtIgnore"], dtype=bool)
    return {
        "scores": entry["dtScores"],
        "matched": np.where(ignored, 2, matched.astype(int)).tolist(),
        "true": sum(not ignored for ignored in entry["gtIgnore"]),
    }
