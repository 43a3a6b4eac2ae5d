"""mIoU and its relatives are those of a confusion matrix counted pixel by pixel, by the formulas of both evaluators."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from segcli.metrics import SemanticMetric
from segcli.segments import Segments
from segcli.types import LabelSet
from tests.fakes import Picture
from tests.parity.official import LABELS, Case, cases, same

IGNORE = 255


def detectron2_numbers(pairs: Counter[tuple[int, int]], classes: int) -> dict[str, float]:
    """`SemSegEvaluator.evaluate` over counts of (truth, prediction): classes absent from the truth are left out."""
    iou, accuracy, weights = [], [], []
    pixels = sum(n for (truth, _), n in pairs.items() if truth != IGNORE)
    for index in range(classes):
        hit = pairs[index, index]
        truth = sum(n for (t, _), n in pairs.items() if t == index)
        found = sum(n for (t, p), n in pairs.items() if p == index and t != IGNORE)
        if truth:
            iou.append(hit / (truth + found - hit))
            accuracy.append(hit / truth)
            weights.append(truth / pixels)
    if not pixels:
        return dict.fromkeys(("mIoU", "fwIoU", "mAcc", "pAcc"), math.nan)
    return {
        "mIoU": sum(iou) / len(iou),
        "fwIoU": sum(w * i for w, i in zip(weights, iou, strict=True)),
        "mAcc": sum(accuracy) / len(accuracy),
        "pAcc": sum(pairs[i, i] for i in range(classes)) / pixels,
    }


def mmseg_number(pairs: Counter[tuple[int, int]], classes: int) -> dict[str, float]:
    """`IoUMetric.intersect_and_union`: histograms over the pixels that are not ignored, then a mean without NaN."""
    iou = []
    for index in range(classes):
        truth = sum(n for (t, _), n in pairs.items() if t == index)
        found = sum(n for (t, p), n in pairs.items() if p == index and t != IGNORE)
        union = truth + found - pairs[index, index]
        if union:
            iou.append(pairs[index, index] / union)
    return {"mIoU mmseg": sum(iou) / len(iou) if iou else math.nan}


def check(metric: SemanticMetric, maps: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """maps: (prediction, truth) of class indices, 255 = ignored."""
    pairs: Counter[tuple[int, int]] = Counter()
    for found, truth in maps:
        pairs.update(zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True))
    summary = metric.compute().summary
    same(summary, detectron2_numbers(pairs, len(metric.labels)))
    same(summary, mmseg_number(pairs, len(metric.labels)))


def class_maps(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.append(IGNORE, found.labels)[found.id_map()], np.append(IGNORE, truth.labels)[truth.id_map()])
        for found, truth in case
    ]


@settings(max_examples=60)
@given(cases("panoptic", side=6))
def test_panoptic_turned_semantic(case: Case) -> None:
    parts = [SemanticMetric(LABELS), SemanticMetric(LABELS)]
    for number, (found, truth) in enumerate(case):
        parts[number % 2].update(found, truth)
    parts[0].merge(parts[1])
    check(parts[0], class_maps(case))


def test_hotcoco_agrees_where_it_answers() -> None:
    """Its mean is mmsegmentation's, and every prediction must be a class."""
    hotcoco = pytest.importorskip("hotcoco.metrics")
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 3, (9, 9)), rng.integers(0, 2, (9, 9))  # class 2 only predicted, class 3 nowhere
    metric = SemanticMetric(LABELS)
    masks = np.stack([truth == label for label in range(len(LABELS))])
    segments = Segments(
        "semantic", truth.shape, LABELS, np.arange(3), np.full(3, np.nan), (found + 1).astype(np.uint16)
    )
    metric.update(segments, Picture("a", masks, np.arange(len(LABELS)), np.zeros(len(LABELS), dtype=bool)))
    theirs = hotcoco.mean_iou(hotcoco.pixel_confusion(truth, found, len(LABELS)))
    ours = metric.compute().summary
    same(ours, {"mIoU mmseg": theirs["mIoU"], "fwIoU": theirs["fwIoU"], "mAcc": theirs["mAcc"], "pAcc": theirs["aAcc"]})
    assert ours["mIoU"] > ours["mIoU mmseg"]


def test_real_predictions(facade: tuple[LabelSet, list[dict[str, Any]]]) -> None:
    """The panoptic answers of a model turned semantic, and its semantic ones."""
    labels, pictures = facade
    for task in ("panoptic", "semantic"):
        metric = SemanticMetric(labels)
        for picture in pictures:
            metric.update(picture[task], picture["truth"])
        check(metric, class_maps([(picture[task], picture["truth"]) for picture in pictures]))
        assert metric.compute().value > 0.1
