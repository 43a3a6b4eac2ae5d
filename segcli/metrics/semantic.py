"""Semantic segmentation from one confusion matrix: detectron2's mIoU, mmsegmentation's beside it."""

from __future__ import annotations

import numpy as np
from hotcoco.metrics import pixel_confusion

from segcli.errors import InputError
from segcli.metrics.base import ClassIndex, ImageTruth, MetricReport, check_size, row_of
from segcli.segments import Segments
from segcli.types import LabelSet


class SemanticMetric:
    """mIoU, frequency-weighted IoU, mean and pixel accuracy, and IoU and accuracy of each class.

    The headline leaves out the classes that are absent from the truth (detectron2); "mIoU mmseg" counts those that
    were predicted anyway, with IoU 0 (mmsegmentation). Unlabelled and void pixels of the truth count nowhere. A pixel
    for which nothing was predicted, as a panoptic result may have, is a miss of its true class and of no other class
    a false positive, as in mmsegmentation (in detectron2 there are no such pixels).
    """

    def __init__(self, labels: LabelSet) -> None:
        self.labels = labels
        self.confusion = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)  # truth × (prediction | nothing)
        self._index = ClassIndex(labels)

    def update(self, segments: Segments, truth: ImageTruth) -> None:
        """Count one image; a crowd region is of its class like any other."""
        check_size(segments, truth)
        nothing, ignored = len(self.labels), len(self.labels) + 1
        predicted = np.append(nothing, self._index.of(segments, truth.image_id))
        true = np.append(ignored, truth.labels)
        self._count(predicted[segments.id_map()], true[truth.id_map()], truth.image_id)

    def update_maps(self, predicted: np.ndarray, truth: np.ndarray, name: str, *, ignore: int = 255) -> None:
        """Count one pair of label maps [H, W] of class indices; `ignore` marks unlabelled pixels of the truth.

        The same value in the prediction means that nothing was predicted there.

        Raises:
            InputError: maps of different sizes, or a value that is neither a class nor `ignore`.
        """
        if predicted.shape != truth.shape:
            raise InputError(f"{name}: the prediction is {predicted.shape} pixels, the truth {truth.shape}")
        nothing, ignored = len(self.labels), len(self.labels) + 1
        maps = []
        for side, label_map, other in (("prediction", predicted, nothing), ("truth", truth, ignored)):
            wrong = (label_map != ignore) & ((label_map < 0) | (label_map >= len(self.labels)))
            if wrong.any():
                value, allowed = int(label_map[wrong][0]), f"0 to {len(self.labels) - 1} or {ignore} for ignore"
                raise InputError(f"{name}: the {side} has value {value}; allowed are {allowed}")
            maps.append(np.where(label_map == ignore, other, label_map))
        self._count(maps[0], maps[1], name)

    def _count(self, predicted: np.ndarray, truth: np.ndarray, name: str) -> None:
        classes = len(self.labels)
        matrix = pixel_confusion(truth, predicted, classes + 1, ignore_index=classes + 1)
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
        return MetricReport("semantic", "mIoU", summary, table)
