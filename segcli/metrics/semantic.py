"""Semantic segmentation from one confusion matrix: detectron2's mIoU, mmsegmentation's beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco.metrics import pixel_confusion

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


class SemanticMetric(Metric):
    """mIoU, frequency-weighted IoU, mean and pixel accuracy, and IoU and accuracy of each class.

    The headline leaves out the classes that are absent from the truth (detectron2); "mIoU mmseg" counts those that
    were predicted anyway, with IoU 0 (mmsegmentation). Unlabelled and void pixels of the truth count nowhere. A pixel
    for which nothing was predicted, as a panoptic result may have, is a miss of its true class and of no other class
    a false positive, as in mmsegmentation (in detectron2 there are no such pixels).
    """

    name = "mIoU"
    tasks = ("semantic",)

    def __init__(self, labels: LabelSet, *, max_dets: int = COCO_DETS) -> None:
        super().__init__(labels, max_dets=max_dets)
        self.confusion = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)  # truth × (prediction | nothing)
        self._index = ClassIndex(labels)

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image; a crowd region is of its class like any other."""
        check_size(segments, truth)
        nothing, ignored = len(self.labels), len(self.labels) + 1
        predicted = np.append(nothing, self._index.of(segments, truth.image_id))
        true = np.append(ignored, truth.labels)
        classes = len(self.labels)
        matrix = pixel_confusion(true[truth.id_map()], predicted[segments.ids()], classes + 1, ignore_index=classes + 1)
        self.confusion += matrix[:classes].astype(np.int64)

    def merge(self, other: SemanticMetric) -> None:
        """Add the counts of other images."""
        self.confusion += other.confusion

    def compute(self) -> MetricReport:
        """The numbers so far."""
        hit = np.diagonal(self.confusion).astype(float)
        true = self.confusion.sum(axis=1).astype(float)
        predicted = self.confusion[:, :-1].sum(axis=0).astype(float)
        union = true + predicted - hit
        iou = np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)
        accuracy = np.divide(hit, true, out=np.full_like(hit, np.nan), where=true > 0)
        present, pixels = true > 0, true.sum()
        nan = float("nan")
        summary = {
            "mIoU": float(iou[present].mean()) if pixels else nan,
            "mIoU mmseg": float(iou[union > 0].mean()) if union.any() else nan,
            "fwIoU": float((true[present] * iou[present]).sum() / pixels) if pixels else nan,
            "mAcc": float(accuracy[present].mean()) if pixels else nan,
            "pAcc": float(hit.sum() / pixels) if pixels else nan,
        }
        table = tuple(
            row_of(self.labels, index)
            | {"IoU": float(iou[index]), "Acc": float(accuracy[index]), "pixels": int(true[index])}
            for index in range(len(self.labels))
        )
        return MetricReport("semantic", self.name, summary, table)

    @classmethod
    def of_image(cls, segments: Segments, truth: ImageTruth, labels: LabelSet, max_dets: int) -> ImageCounts:
        """Counts: {class id: [pixels right, pixels predicted, pixels true]}."""
        metric = cls(labels, max_dets=max_dets)
        metric.update(segments, truth)
        hit = np.diagonal(metric.confusion)
        predicted, true = metric.confusion[:, :-1].sum(axis=0), metric.confusion.sum(axis=1)
        counts = {
            str(label.id): [int(hit[i]), int(predicted[i]), int(true[i])]
            for i, label in enumerate(labels)
            if predicted[i] or true[i]
        }
        return ImageCounts(metric.compute().value, counts, metric)

    @classmethod
    def resample(cls, images: Sequence[Counts], ids: Sequence[int], weights: np.ndarray) -> np.ndarray:
        """IoU of each class for each choice; a class absent from the truth is left out, as in detectron2."""
        common, predicted, true = np.moveaxis(summed(images, ids, weights, columns=3), -1, 0)
        return np.divide(common, predicted + true - common, out=np.full_like(common, np.nan), where=true > 0)
