"""The class of the object whose annotation id is 0, counted as pycocotools does.

pycocotools notes beside each detection the id of the object it matched, and takes 0 for "none". So the object with the
id 0 is taken, but its detection counts as a false positive (or not at all, if its own area is outside of the range
that is looked at), and the object as missed. hotcoco credits the match. Exporters that number from 0 are many and the
official number is pycocotools', so this one class is counted here, from hotcoco's matches by pycocotools' rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's
_MISSED, _MATCHED, _IGNORED = 0, 1, 2


@dataclass(frozen=True)
class _ZeroIdImage:
    """One image's detections of the class, in descending order of score.

    flags: uint8 [A, T, D] for each area range and IoU threshold. true: int [A] objects that count.
    """

    number: int
    scores: np.ndarray
    flags: np.ndarray
    true: np.ndarray


@dataclass
class ZeroClass:
    """category: the dataset's id of the class. limits: pycocotools' maxDets."""

    category: int
    limits: list[int]
    _images: dict[str, list[_ZeroIdImage]] = field(default_factory=lambda: {"segm": [], "bbox": []})

    def update(self, image: dict[str, Any], annotations: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
        """Count one image of COCO entries, whatever their classes."""
        own = [[entry for entry in side if entry["category_id"] == self.category] for side in (annotations, results)]
        if not own[0] and not own[1]:
            return
        base = {"images": [image], "categories": [{"id": self.category, "name": "zero"}]}
        truth = COCO(base | {"annotations": own[0]})
        found = truth.load_res(own[1]) if own[1] else COCO(base | {"annotations": []})
        areas = {entry["id"]: entry["area"] for entry in found.anns.values()}
        for kind, images in self._images.items():
            evaluation = COCOeval(truth, found, kind)
            evaluation.params.max_dets = self.limits
            evaluation.evaluate()
            ranges = [entry for entry in evaluation.eval_imgs if entry is not None]
            flags = np.stack([_flags(entry, areas) for entry in ranges])
            true = np.array([len(entry["gtIgnore"]) - sum(entry["gtIgnore"]) for entry in ranges])
            images.append(_ZeroIdImage(image["id"], np.array(ranges[0]["dtScores"], dtype=float), flags, true))

    def merge(self, other: ZeroClass) -> None:
        """Add what was seen of other images."""
        for kind, images in self._images.items():
            images += other._images[kind]

    def arrays(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """pycocotools' precision [T, R, A, M] and recall [T, A, M] of the class; -1 where there is nothing to find."""
        images = sorted(self._images[kind], key=lambda image: image.number)
        areas, thresholds = images[0].flags.shape[:2] if images else (4, 10)
        precision = np.full((thresholds, len(_RECALLS), areas, len(self.limits)), -1.0)
        recall = np.full((thresholds, areas, len(self.limits)), -1.0)
        for area in range(areas):
            true = sum(int(image.true[area]) for image in images)
            for place, limit in enumerate(self.limits if true else ()):
                scores = np.concatenate([image.scores[:limit] for image in images])
                order = np.argsort(-scores, kind="stable")
                flags = np.concatenate([image.flags[area, :, :limit] for image in images], axis=1)[:, order]
                for threshold, row in enumerate(flags):
                    curve = _curve(row, true)
                    precision[threshold, :, area, place], recall[threshold, area, place] = curve
        return precision, recall


def _flags(entry: dict[str, Any], areas: dict[int, float]) -> np.ndarray:
    """uint8 [T, D]: what pycocotools makes of hotcoco's matches in one area range."""
    ids = entry["dtIds"]
    low, high = entry["aRng"]
    shape = (len(entry["dtMatches"]), len(ids))
    matched = np.array(entry["dtMatches"]).reshape(shape) != 0  # as pycocotools asks: 0, too, is an id
    outside = np.array([not low <= areas[id_] <= high for id_ in ids], dtype=bool)
    ignored = np.array(entry["dtIgnore"], dtype=bool).reshape(shape) | (~matched & outside)
    return np.where(ignored, _IGNORED, np.where(matched, _MATCHED, _MISSED)).astype(np.uint8)


def _curve(flags: np.ndarray, true: int) -> tuple[np.ndarray, float]:
    """(precision at COCO's recalls, final recall) of detections [D] in descending order of score."""
    hits, misses = np.cumsum(flags == _MATCHED), np.cumsum(flags == _MISSED)
    if not len(flags):
        return np.zeros(len(_RECALLS)), 0.0
    best = np.maximum.accumulate((hits / (hits + misses + np.spacing(1)))[::-1])[::-1]
    places = np.searchsorted(hits / true, _RECALLS, side="left")
    return np.append(best, 0.0)[places], float(hits[-1] / true)
