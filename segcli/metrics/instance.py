"""Average precision of instances, masks and boxes, as pycocotools computes it, streamed.

hotcoco matches each image as it comes and keeps the outcome (match flags and scores, no masks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from hotcoco import COCO, COCOeval, Params, StreamingEval
from hotcoco import mask as coco_mask

from segcli.errors import InputError
from segcli.metrics.bootstrap import average_precision
from segcli.metrics.metric import (
    COCO_DETS,
    ClassIndex,
    Counts,
    ImageCounts,
    ImageTruth,
    Metric,
    MetricReport,
    check_size,
    row_of,
)
from segcli.metrics.overlap import compressed
from segcli.metrics.zero_id import ZeroClass
from segcli.segments import Segments
from segcli.types import CocoObjects, LabelSet, Task

_TOGETHER = 8  # images that hotcoco takes in a call: a sixth faster than one by one, and nothing to speak of in memory
_AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # suffix of a number -> COCO's area range: all, < 32², < 96², above


@dataclass(frozen=True)
class _Image:
    """An image that waits to be matched. rows: see `_rows`."""

    name: str
    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    results: list[dict[str, Any]]
    rows: np.ndarray | None


class InstanceMetric(Metric):
    """AP, AP50, AP75, AP and AR by size, of masks and of boxes, over all things and each of them.

    Instances must not be thresholded. At most `max_dets` instances of a class and image count; pycocotools prints −1
    for anything but 100, here the numbers are taken from the precision array, where they are right.

    Truth that comes from a COCO file is taken as it states itself: its polygons as pycocotools fills them, its areas,
    boxes and ids, of which pycocotools never credits 0 (see `zero_id`).
    """

    name = "AP"
    tasks: ClassVar[tuple[Task, ...]] = ("instance",)
    kinds: ClassVar[dict[str, str]] = {"segm": "", "bbox": "box "}  # COCO's comparisons -> prefix of their numbers

    def __init__(self, labels: LabelSet, *, max_dets: int = COCO_DETS) -> None:
        super().__init__(labels, max_dets=max_dets)
        self.instances = np.zeros(len(labels), dtype=np.int64)  # of the truth, without crowd regions
        self._index = ClassIndex(labels)
        self._zero: ZeroClass | None = None
        self._waiting: list[_Image] = []
        self._limits = [limit for limit in (1, 10) if limit < max_dets] + [max_dets]
        categories = [{"id": x.id, "name": x.name} for x in labels if x.isthing]
        self._things: set[int] = {label.id for label in labels if label.isthing}
        self._evaluators = {}
        for kind in self.kinds:
            params = Params(kind)
            params.max_dets = self._limits
            self._evaluators[kind] = StreamingEval(categories, kind, params=params)

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image. Stuff does not count on either side."""
        check_size(segments, truth)
        self._index.of(segments, truth.image_id)
        zero = truth.stated.zero if truth.stated else None
        self._count(*coco_entries(segments, truth, self.labels), truth.image_id, zero)

    def _count(
        self,
        image: dict[str, Any],
        annotations: list[dict[str, Any]],
        results: list[dict[str, Any]],
        name: str,
        zero: int | None,
    ) -> None:
        if zero is not None and zero in self._things and self._zero is None:
            self._zero = ZeroClass(zero, self._limits)
        try:
            if self._zero:
                self._zero.update(image, annotations, results)
            rows = _rows(results)
        except (ValueError, KeyError) as error:
            raise InputError(f"{name}: {error}") from error
        new = _Image(name, image, annotations, results, rows)
        if rows is None:  # a call takes rows or dictionaries
            self._match()
        self._waiting.append(new)
        if rows is None or len(self._waiting) == _TOGETHER:
            self._match()
        for annotation in annotations:
            self.instances[self._index.of_id(annotation["category_id"])] += not annotation.get("iscrowd", 0)

    def _match(self) -> None:
        """Hand the images that wait to hotcoco."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        images = [item.image for item in waiting]
        annotations = [entry for item in waiting for entry in item.annotations]
        results = [entry for item in waiting for entry in item.results]
        rows = [item.rows for item in waiting if item.rows is not None]
        try:
            for kind, evaluator in self._evaluators.items():
                if kind == "segm" and rows:
                    masks = [result["segmentation"] for result in results]
                    evaluator.update(images, annotations, np.concatenate(rows), segmentation=masks)
                else:
                    evaluator.update(images, annotations, results)
        except (ValueError, KeyError) as error:
            raise InputError(f"{', '.join(item.name for item in waiting)}: {error}") from error

    def merge(self, other: InstanceMetric) -> None:
        """Add what another metric with the same classes and `max_dets` counted on other images."""
        self._match()
        other._match()
        for kind, evaluator in self._evaluators.items():
            self._evaluators[kind] = StreamingEval.merge([evaluator, other._evaluators[kind]])
        self.instances += other.instances
        if self._zero and other._zero:
            self._zero.merge(other._zero)
        self._zero = self._zero or other._zero

    def compute(self) -> MetricReport:
        """The metrics so far."""
        self._match()
        summary: dict[str, float] = {}
        things = [index for index, label in enumerate(self.labels) if label.isthing]
        rows = [row_of(self.labels, index) for index in things]
        for kind, prefix in self.kinds.items():
            evaluation = StreamingEval.merge([self._evaluators[kind]]).finalize()  # finalizing ends an evaluator
            evaluation.accumulate()
            assert evaluation.eval is not None
            precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # [T, R, K, A, M], [T, K, A, M]
            if self._zero:
                place = sorted(self._things).index(self._zero.category)  # hotcoco sorts classes by id
                precision[:, :, place], recall[:, place] = self._zero.arrays(kind)
            summary |= {prefix + name: value for name, value in self._numbers(precision, recall).items()}
            order = np.argsort(np.argsort([row["id"] for row in rows]))
            for row, place in zip(rows, order, strict=True):
                one = slice(place, place + 1)
                row |= {prefix + key: v for key, v in self._numbers(precision[:, :, one], recall[:, one]).items()}
        for row, index in zip(rows, things, strict=True):
            row["instances"] = int(self.instances[index])
        return MetricReport(self.tasks[0], self.name, summary, tuple(rows))

    def _numbers(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """COCO's twelve numbers of some classes."""
        numbers = {"AP": _mean(precision[..., 0, -1])}
        numbers |= {"AP50": _mean(precision[0, ..., 0, -1]), "AP75": _mean(precision[5, ..., 0, -1])}
        numbers |= {f"AP{size}": _mean(precision[..., area, -1]) for size, area in _AREAS.items() if size}
        numbers |= {f"AR@{limit}": _mean(recall[..., 0, place]) for place, limit in enumerate(self._limits)}
        numbers |= {f"AR{size}": _mean(recall[..., area, -1]) for size, area in _AREAS.items() if size}
        return numbers

    @classmethod
    def of_image(cls, segments: Segments, truth: ImageTruth, labels: LabelSet, max_dets: int) -> ImageCounts:
        """Counts: {class id: {"scores": [D], "matched": [10][D], "true": objects}}, D instances in descending order of
        score; at COCO's ten IoU thresholds 1 = matched, 0 = not, 2 = ignored, as it is a crowd region's.
        """
        check_size(segments, truth)
        image, annotations, results = coco_entries(segments, truth, labels)
        occurring = {entry["category_id"] for entry in (*annotations, *results)}
        if not occurring:
            return ImageCounts(float("nan"), {})
        categories = [{"id": label.id, "name": label.name} for label in labels if label.id in occurring]
        base = {"images": [image], "categories": categories}
        numbered = [
            {"bbox": [0.0] * 4} | result | {"id": number, "area": 0.0, "iscrowd": 0}
            for number, result in enumerate(results, start=1)
        ]
        truth_side, result_side = COCO(base | {"annotations": annotations}), COCO(base | {"annotations": numbered})
        evaluation = COCOeval(truth_side, result_side, next(iter(cls.kinds)))
        evaluation.params.max_dets = [max_dets]
        evaluation.params.area_rng, evaluation.params.area_rng_lbl = [[0.0, 1e10]], ["all"]
        evaluation.evaluate()
        counts = {str(entry["category_id"]): _matches(entry) for entry in evaluation.eval_imgs if entry is not None}
        evaluation.accumulate()
        assert evaluation.eval is not None
        return ImageCounts(_mean(evaluation.eval["precision"]), counts)

    @classmethod
    def resample(cls, images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """AP of each class for each choice."""
        columns = [average_precision(images, id_, weights) for id_ in ids]
        return np.stack(columns, axis=1) if columns else np.zeros((len(weights), 0))


class BoxMetric(InstanceMetric):
    """The same of boxes alone, for results that have no masks."""

    name = "box AP"
    tasks = ("detect",)
    kinds: ClassVar[dict[str, str]] = {"bbox": "box "}


def _matches(entry: dict[str, Any]) -> dict[str, Any]:
    """One class of one image as hotcoco matched it -> its counts."""
    # The id of the object, as pycocotools asks: it never credits the one whose id is 0 (zero_id.py).
    matched, ignored = np.array(entry["dtMatches"]) != 0, np.array(entry["dtIgnore"], dtype=bool)
    return {
        "scores": entry["dtScores"],
        "matched": np.where(ignored, 2, matched.astype(int)).tolist(),
        "true": sum(not ignored for ignored in entry["gtIgnore"]),
    }


def coco_entries(
    segments: Segments, truth: ImageTruth, labels: LabelSet
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """One image as COCO files have it: its "images" entry, its annotations and its results; things only.

    labels: the truth's classes.
    """
    number = _number(truth.image_id)
    things = {label.id for label in labels if label.isthing}
    listed = _made(truth, labels) if truth.stated is None else _completed(truth.stated, segments.size)
    annotations = [entry | {"image_id": number} for entry in listed if entry["category_id"] in things]
    results: list[dict[str, Any]] = []
    for index, (category, mask) in enumerate(zip(segments.category_ids(), compressed(segments.to_rles()), strict=True)):
        if category in things:
            result = {"image_id": number, "category_id": category, "score": float(segments.scores[index])}
            given = {} if segments.given_boxes is None else {"bbox": segments.given_boxes[index].tolist()}
            results.append(result | {"segmentation": mask} | given)
    return {"id": number, "height": segments.size[0], "width": segments.size[1]}, annotations, results


def _made(truth: ImageTruth, labels: LabelSet) -> list[dict[str, Any]]:
    """Annotations of masks, whose areas and boxes are the masks'."""
    return [
        {"id": number, "category_id": labels[label].id, "iscrowd": int(crowd)}
        | {"segmentation": mask, "area": rle.area, "bbox": list(rle.bbox)}
        for number, (label, crowd, rle, mask) in enumerate(
            zip(truth.labels.tolist(), truth.crowd.tolist(), truth.rles, compressed(truth.rles), strict=True), start=1
        )
    ]


def _completed(stated: CocoObjects, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Annotations of a file, with the area and the box of the mask where it does not state them.

    Of the ids only 0 means anything to an evaluator; others need not be numbers, or there at all.
    """
    annotations = []
    for number, annotation in enumerate(stated.annotations, start=1):
        facts: dict[str, Any] = {}
        if "area" not in annotation or "bbox" not in annotation:
            shape = coco_mask.frPyObjects(annotation["segmentation"], *size)
            rle = coco_mask.merge(shape) if isinstance(shape, list) else shape
            facts = {"area": float(coco_mask.area(rle)), "bbox": coco_mask.to_bbox(rle).tolist()}
        annotations.append(facts | annotation | {"id": 0 if annotation["id"] == 0 else number})
    return annotations


def _rows(results: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Results as the array [N, 7] of image, box, score and class that hotcoco takes in beside their masks, in half the
    time of dictionaries. It takes their areas from the boxes, so that each box is one of its mask's area.

    None for results that have boxes of their own, or polygons.
    """
    masks: list[Any] = [result.get("segmentation") for result in results]
    plain = all(isinstance(mask, dict) for mask in masks) and not any("bbox" in result for result in results)
    if not masks or not plain or results[0]["image_id"] >= 1 << 53:  # more than a float can hold
        return None
    rows = np.zeros((len(results), 7))
    rows[:, 3], rows[:, 4] = coco_mask.area(masks), 1
    for column, key in ((0, "image_id"), (5, "score"), (6, "category_id")):
        rows[:, column] = [result[key] for result in results]
    if np.isnan(rows[:, 5]).any():
        raise ValueError(f"result {int(np.isnan(rows[:, 5]).argmax())} has a NaN score")
    return rows


def _mean(values: np.ndarray) -> float:
    """Mean over the measured values (COCO marks the rest with −1), NaN if that is nothing."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else float("nan")


def _number(image_id: int | str) -> int:
    """hotcoco's images have numbers: the id itself if it is one, else 52 bits of its hash, the same on every rank."""
    if isinstance(image_id, int):
        return image_id
    if image_id.isdecimal() and str(int(image_id)) == image_id:
        return int(image_id)
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest()) >> 12
