"""Panoptic quality as panopticapi counts it, one image at a time.

hotcoco takes a dataset on disk or segments as run-length masks. PQ depends on a pixel only through its pair of ids
(truth, prediction), so for maps in memory the pixels are first sorted by pair: the pairs are counted in one pass, and
each segment becomes a handful of runs, which costs a fifth of encoding the masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from hotcoco.metrics import panoptic_quality, pixel_confusion
from hotcoco.panoptic import PanopticEval

from segcli.errors import InputError
from segcli.metrics.bootstrap import summed
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
from segcli.segments import Segments
from segcli.types import LabelSet


class PanopticMetric(Metric):
    """PQ, SQ and RQ over all classes, things, stuff and each class. Keeps four numbers a class.

    The rules are panopticapi's: a pair of equal class matches above IoU 0.5, void pixels leave the union, a predicted
    segment more than half on void or on a crowd region of its class is no false positive, crowd regions are never
    missed. Averages run over the classes that occur on either side.
    """

    name = "PQ"
    tasks = ("panoptic",)

    def __init__(self, labels: LabelSet, *, max_dets: int = COCO_DETS) -> None:
        super().__init__(labels, max_dets=max_dets)
        self.counts = np.zeros((len(labels), 3), dtype=np.int64)  # matched, false positives, missed
        self.iou = np.zeros(len(labels))  # summed over the matched pairs
        self._index = ClassIndex(labels)
        self._categories = [{"id": x.id, "name": x.name, "isthing": int(x.isthing)} for x in labels]

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image. Segments that lost every pixel do not count on either side."""
        check_size(segments, truth)
        pairs = pixel_confusion(truth.id_map(), segments.id_map(), max(len(truth.labels), len(segments)) + 1)
        stops = np.cumsum(pairs, dtype=np.int64).reshape(pairs.shape)
        starts = stops - pairs.astype(np.int64)
        predicted = self._index.of(segments, truth.image_id)
        true_side = self._side(truth.labels, truth.crowd, starts, stops)
        predicted_side = self._side(predicted, np.zeros(len(predicted), dtype=bool), starts.T, stops.T)
        self._add(PanopticEval(true_side, predicted_side), truth.image_id)

    def _side(self, labels: np.ndarray, crowd: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> dict[str, Any]:
        """One side as a dataset of one image, whose pixels stand in a column: segment i + 1 is the runs of row i + 1.

        labels, crowd: [N]; starts, stops: int64 [> N, pairs], where a pair that does not occur is an empty run.
        """
        total = int(stops.max(initial=0))
        annotations = []
        for index, (label, grouped) in enumerate(zip(labels.tolist(), crowd.tolist(), strict=True)):
            occurs = stops[index + 1] > starts[index + 1]
            if occurs.any():
                runs = zip(starts[index + 1][occurs].tolist(), stops[index + 1][occurs].tolist(), strict=True)
                mask = {"segmentation": {"size": [total, 1], "counts": _counts(runs, total)}, "bbox": [0, 0, 0, 0]}
                area = int((stops[index + 1] - starts[index + 1]).sum())
                annotation = {"id": index + 1, "image_id": 1, "category_id": self.labels[label].id}
                annotations.append(annotation | mask | {"area": area, "iscrowd": int(grouped)})
        image = {"id": 1, "height": total, "width": 1}
        return {"images": [image], "categories": self._categories, "annotations": annotations}

    def _add(self, evaluation: PanopticEval, name: str) -> None:
        try:
            evaluation.evaluate()
        except (ValueError, KeyError, OSError) as error:
            raise InputError(f"{name}: {error}") from error
        per_class = evaluation.results()["per_class"]
        for index, label in enumerate(self.labels):
            row = per_class[label.id]
            self.counts[index] += (row["tp"], row["fp"], row["fn"])
            self.iou[index] += row["iou"]

    def merge(self, other: PanopticMetric) -> None:
        """Add the counts of other images."""
        self.counts += other.counts
        self.iou += other.iou

    def compute(self) -> MetricReport:
        """PQ, SQ and RQ so far."""
        seen = self.counts.sum(axis=1) > 0
        quality = np.full((len(self.labels), 3), np.nan)
        for index in np.flatnonzero(seen):
            quality[index] = panoptic_quality(float(self.iou[index]), *self.counts[index].tolist())
        isthing = np.array(self.labels.isthing, dtype=bool)
        summary: dict[str, float] = {}
        for suffix, group in (("", seen), (" things", seen & isthing), (" stuff", seen & ~isthing)):
            means = quality[group].mean(axis=0) if group.any() else np.full(3, np.nan)
            summary |= {name + suffix: float(mean) for name, mean in zip(("PQ", "SQ", "RQ"), means, strict=True)}
        table = tuple(
            row_of(self.labels, index)
            | dict(zip(("PQ", "SQ", "RQ"), quality[index].tolist(), strict=True))
            | dict(zip(("matched", "false positives", "missed"), self.counts[index].tolist(), strict=True))
            for index in range(len(self.labels))
        )
        return MetricReport("panoptic", self.name, summary, table)

    @classmethod
    def of_image(cls, segments: Segments, truth: ImageTruth, labels: LabelSet, max_dets: int) -> ImageCounts:
        """Counts: {class id: [summed IoU, matched, false positives, missed]}."""
        metric = cls(labels, max_dets=max_dets)
        metric.update(segments, truth)
        counts = {
            str(label.id): [float(iou), *map(int, numbers)]
            for label, iou, numbers in zip(labels, metric.iou, metric.counts, strict=True)
            if numbers.any()
        }
        return ImageCounts(metric.compute().value, counts, metric)

    @classmethod
    def resample(cls, images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """PQ of each class for each choice."""
        iou, matched, invented, missed = np.moveaxis(summed(images, ids, weights, columns=4), -1, 0)
        total = matched + 0.5 * invented + 0.5 * missed
        return np.divide(iou, total, out=np.full_like(iou, np.nan), where=total > 0)


def _counts(runs: Iterable[tuple[int, int]], total: int) -> list[int]:
    """COCO's uncompressed counts of ascending runs (start, stop) in `total` pixels; runs that touch become one."""
    counts: list[int] = []
    last = 0
    for start, stop in runs:
        if counts and start == last:
            counts[-1] += stop - start
        else:
            counts += [start - last, stop - start]
        last = stop
    return [*counts, total - last]
