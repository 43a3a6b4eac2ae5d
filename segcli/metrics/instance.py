"""Average precision of instances, masks and boxes, as pycocotools computes it, streamed.

hotcoco matches each image as it comes and keeps the outcome (match flags and scores, no masks).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from hotcoco import Params, StreamingEval

from segcli.codecs.rle import encode
from segcli.errors import InputError
from segcli.metrics.base import ClassIndex, ImageTruth, MetricReport, check_size, row_of
from segcli.segments import Segments
from segcli.types import LabelSet

_KINDS = {"segm": "", "bbox": "box "}  # COCO's name of the comparison -> prefix of its numbers
_AREAS = {"": 0, "s": 1, "m": 2, "l": 3}  # suffix of a number -> COCO's area range: all, < 32², < 96², above


class InstanceMetric:
    """AP, AP50, AP75, AP and AR by size, of masks and of boxes, over all things and each of them.

    Scores must come unthresholded. At most `max_dets` instances of a class and image count; pycocotools prints −1
    for anything but 100, here the numbers are taken from the precision array, where they are right.

    Truth annotations with id 0 count like any other; pycocotools never credits a match with id 0 (it takes the id
    for "unmatched"), and gives the numbers seen here once annotations are numbered from 1.
    """

    def __init__(self, labels: LabelSet, *, max_dets: int = 100) -> None:
        self.labels = labels
        self.max_dets = max_dets
        self.instances = np.zeros(len(labels), dtype=np.int64)  # of the truth, without crowd regions
        self._index = ClassIndex(labels)
        self._limits = [limit for limit in (1, 10) if limit < max_dets] + [max_dets]
        categories = [{"id": x.id, "name": x.name} for x in labels if x.isthing]
        self._things = {category["id"] for category in categories}
        self._evaluators = {}
        for kind in _KINDS:
            params = Params(kind)
            params.max_dets = self._limits
            self._evaluators[kind] = StreamingEval(categories, kind, params=params)

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image. Stuff does not count on either side; an object's area and box are those of its mask."""
        check_size(segments, truth)
        self._index.of(segments, truth.image_id)
        self._count(*coco_entries(segments, truth, self.labels), truth.image_id)

    def update_coco(
        self, image: dict[str, Any], annotations: list[dict[str, Any]], results: list[dict[str, Any]]
    ) -> None:
        """Count one image of COCO files: its "images" entry, its annotations, and its entries of a results file.

        Raises:
            InputError: a category that is not a thing of the truth, a score that is NaN, a mask of another size.
        """
        name = str(image.get("file_name", image["id"]))
        for result in results:
            if result["category_id"] not in self._things:
                known = f"the truth's {len(self._things)} things"
                raise InputError(f"{name}: result with category id {result['category_id']}, which is not among {known}")
            size = result["segmentation"].get("size") if isinstance(result.get("segmentation"), dict) else None
            if size is not None and list(size) != [image["height"], image["width"]]:
                frame = f"{image['height']}×{image['width']}"
                raise InputError(f"{name}: result with a mask of {size[0]}×{size[1]} pixels, the image has {frame}")
        number = _number(image["id"])
        if number != image["id"]:
            image = image | {"id": number}
            annotations = [entry | {"image_id": number} for entry in annotations]
            results = [entry | {"image_id": number} for entry in results]
        self._count(image, annotations, results, name)

    def _count(
        self, image: dict[str, Any], annotations: list[dict[str, Any]], results: list[dict[str, Any]], name: str
    ) -> None:
        try:
            for evaluator in self._evaluators.values():
                evaluator.update([image], annotations, results)
        except (ValueError, KeyError) as error:
            raise InputError(f"{name}: {error}") from error
        for annotation in annotations:
            self.instances[self._index.of_id(annotation["category_id"])] += not annotation.get("iscrowd", 0)

    def merge(self, other: InstanceMetric) -> None:
        """Add what another metric with the same classes and `max_dets` has seen of other images."""
        for kind, evaluator in self._evaluators.items():
            self._evaluators[kind] = StreamingEval.merge([evaluator, other._evaluators[kind]])
        self.instances += other.instances

    def compute(self) -> MetricReport:
        """The numbers so far."""
        summary: dict[str, float] = {}
        things = [index for index, label in enumerate(self.labels) if label.isthing]
        rows = [row_of(self.labels, index) for index in things]
        for kind, prefix in _KINDS.items():
            evaluation = StreamingEval.merge([self._evaluators[kind]]).finalize()  # finalizing ends an evaluator
            evaluation.accumulate()
            assert evaluation.eval is not None
            precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # [T, R, K, A, M], [T, K, A, M]
            summary |= {prefix + name: value for name, value in self._numbers(precision, recall).items()}
            order = np.argsort(np.argsort([row["id"] for row in rows]))  # hotcoco sorts classes by id
            for row, place in zip(rows, order, strict=True):
                one = slice(place, place + 1)
                row |= {prefix + key: v for key, v in self._numbers(precision[:, :, one], recall[:, one]).items()}
        for row, index in zip(rows, things, strict=True):
            row["instances"] = int(self.instances[index])
        return MetricReport("instance", "AP", summary, tuple(rows))

    def _numbers(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
        """COCO's twelve numbers of some classes."""
        numbers = {"AP": _mean(precision[..., 0, -1])}
        numbers |= {"AP50": _mean(precision[0, ..., 0, -1]), "AP75": _mean(precision[5, ..., 0, -1])}
        numbers |= {f"AP{size}": _mean(precision[..., area, -1]) for size, area in _AREAS.items() if size}
        numbers |= {f"AR@{limit}": _mean(recall[..., 0, place]) for place, limit in enumerate(self._limits)}
        numbers |= {f"AR{size}": _mean(recall[..., area, -1]) for size, area in _AREAS.items() if size}
        return numbers


def coco_entries(
    segments: Segments, truth: ImageTruth, labels: LabelSet
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """One image as COCO files have it: its "images" entry, its annotations and its results; things only.

    labels: the truth's classes. An object's area and box are those of its mask.
    """
    number, masks = _number(truth.image_id), truth.masks
    annotations = []
    for index, (label, crowd) in enumerate(zip(truth.labels.tolist(), truth.crowd.tolist(), strict=True)):
        if labels[label].isthing:
            rle = encode(masks[index])
            mask = {"segmentation": rle.to_coco(), "area": rle.area, "bbox": list(rle.bbox)}
            object_ = {"id": index + 1, "image_id": number, "category_id": labels[label].id}
            annotations.append(object_ | mask | {"iscrowd": int(crowd)})
    things = {label.id for label in labels if label.isthing}
    results = [entry for entry in segments.to_coco(number) if entry["category_id"] in things]
    return {"id": number, "height": segments.size[0], "width": segments.size[1]}, annotations, results


def _mean(values: np.ndarray) -> float:
    """Mean over what could be measured (COCO marks the rest with −1), NaN if that is nothing."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else float("nan")


def _number(image_id: int | str) -> int:
    """hotcoco's images have numbers: the id itself if it is one, else 62 bits of its hash, the same on every rank."""
    if isinstance(image_id, int):
        return image_id
    if image_id.isdecimal() and str(int(image_id)) == image_id:
        return int(image_id)
    return int.from_bytes(hashlib.blake2b(image_id.encode(), digest_size=8).digest()) >> 2
