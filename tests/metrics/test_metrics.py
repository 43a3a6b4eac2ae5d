"""What the metrics do beside agreeing with the official tools: merge, travel between ranks, refuse, name the empty."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from segcli.codecs.rle import encode, shared_pixels
from segcli.errors import InputError
from segcli.metrics import (
    METRICS,
    ImageTruth,
    InstanceMetric,
    Metric,
    PanopticMetric,
    SemanticMetric,
    metric_for,
    metrics_of,
)
from segcli.segments import Segments
from segcli.types import MASK_TASKS, Label, LabelSet, Task
from tests.fakes import Picture

LABELS = LabelSet((Label(7, "cat", True), Label(90, "sky", False), Label(18, "dog", True)))
SIZE = (6, 9)


def truth(image_id: str = "a", **changes: Any) -> Picture:
    """Three columns side by side: cat, sky, dog."""
    masks = np.zeros((3, *SIZE), dtype=bool)
    for index in range(3):
        masks[index, :, 3 * index : 3 * index + 3] = True
    return replace(Picture(image_id, masks, np.arange(3), np.zeros(3, dtype=bool)), **changes)


def found(task: Task, keep: tuple[int, ...] = (0, 1, 2), labels: LabelSet = LABELS, shift: int = 0) -> Segments:
    """Some of the same columns, moved to the right."""
    masks = np.roll(truth().masks, shift, axis=2)[list(keep)]
    scores = np.linspace(0.9, 0.5, len(keep)).astype(np.float32)
    if task == "instance":
        rles = tuple(encode(mask) for mask in masks)
        return Segments(task, SIZE, labels, np.array(keep, dtype=np.int64), scores, rles=rles)
    ids = (masks * np.arange(1, len(keep) + 1, dtype=np.uint16)[:, None, None]).max(axis=0, initial=0)
    return Segments(task, SIZE, labels, np.array(keep, dtype=np.int64), scores, ids)


@pytest.mark.parametrize("task", MASK_TASKS)
def test_a_perfect_copy(task: Task) -> None:
    metric = metric_for(task, LABELS)
    metric.update(found(task), truth())
    report = metric.compute()
    assert report.value == pytest.approx(1)
    assert (report.task, report.name) == (task, {"panoptic": "PQ", "instance": "AP", "semantic": "mIoU"}[task])
    assert [row["name"] for row in report.table] == (["cat", "dog"] if task == "instance" else ["cat", "sky", "dog"])


@pytest.mark.parametrize("task", MASK_TASKS)
def test_ranks_give_what_one_process_gives(task: Task) -> None:
    """Metrics that were pickled and merged: with an image that is empty on both sides, and a rank without images."""
    nothing = truth("c", masks=np.zeros((0, *SIZE), dtype=bool), labels=np.zeros(0, int), crowd=np.zeros(0, bool))
    images = [(found(task, shift=1), truth("a")), (found(task, (0,)), truth("b")), (found(task, ()), nothing)]
    whole, ranks = metric_for(task, LABELS), [metric_for(task, LABELS) for _ in range(3)]
    for number, (segments, true) in enumerate(images):
        whole.update(segments, true)
        ranks[number % 2].update(segments, true)
    gathered: list[Metric] = [pickle.loads(pickle.dumps(rank)) for rank in ranks]
    gathered[0].merge(gathered[1])
    gathered[0].merge(gathered[2])
    assert repr(gathered[0].compute()) == repr(whole.compute())


@pytest.mark.parametrize("task", MASK_TASKS)
def test_counting_goes_on_after_a_report(task: Task) -> None:
    metric = metric_for(task, LABELS)
    metric.update(found(task, (0,)), truth("a"))
    first = metric.compute()
    assert repr(metric.compute()) == repr(first)
    metric.update(found(task), truth("b"))
    assert metric.compute().value > first.value


@pytest.mark.parametrize("task", MASK_TASKS)
def test_nothing_to_measure_is_not_zero(task: Task) -> None:
    report = metric_for(task, LABELS).compute()
    assert all(math.isnan(value) for value in report.summary.values())
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert written["value"] is None
    assert [row["id"] for row in written["per_class"]] == [row["id"] for row in report.table]


@pytest.mark.parametrize("task", MASK_TASKS)
def test_classes_meet_by_the_id_of_the_dataset(task: Task) -> None:
    """A model with the same classes in another order; one with a class that the truth lacks."""
    metric = metric_for(task, LABELS)
    turned = LabelSet((LABELS[2], LABELS[1], LABELS[0]))
    metric.update(replace(found(task), label_set=turned, labels=np.array([2, 1, 0])), truth())
    assert metric.compute().value == pytest.approx(1)
    foreign = LabelSet((LABELS[0], LABELS[1], Label(19, "horse", True)))
    with pytest.raises(InputError, match="a: predicted category id 19 is not among the truth's 3"):
        metric.update(found(task, labels=foreign), truth())


@pytest.mark.parametrize("task", MASK_TASKS)
def test_sizes_must_agree(task: Task) -> None:
    true = truth(masks=np.zeros((3, 5, 9), dtype=bool))
    with pytest.raises(InputError, match="a: the prediction is 9×6 pixels, the truth 9×5"):
        metric_for(task, LABELS).update(found(task), true)


def test_void_and_crowd_of_panoptic_truth() -> None:
    """A dog where nothing is known is forgiven, and one on a crowd of dogs; a cat there is not."""
    void, crowd = truth().masks[2], np.array([False, False, True])
    for true in (truth(void=void), truth(crowd=crowd)):
        metric = PanopticMetric(LABELS)
        metric.update(found("panoptic"), true)
        assert metric.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    metric = PanopticMetric(LABELS)
    metric.update(replace(found("panoptic"), labels=np.array([0, 1, 0])), truth(crowd=crowd))
    assert metric.counts.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_a_crowd_region_never_covers_an_object() -> None:
    masks = truth().masks.copy()
    masks[2] = True
    metric = PanopticMetric(LABELS)
    metric.update(found("panoptic"), truth(masks=masks, crowd=np.array([False, False, True])))
    assert metric.counts[:, 0].tolist() == [1, 1, 0]


def test_what_a_panoptic_result_leaves_open_is_a_miss() -> None:
    metric = SemanticMetric(LABELS)
    metric.update(found("panoptic", (0, 1)), truth())
    summary = metric.compute().summary
    assert summary["pAcc"] == pytest.approx(2 / 3)
    assert summary["mIoU"] == pytest.approx(2 / 3)


def test_a_score_that_is_no_number_is_named() -> None:
    metric = metric_for("instance", LABELS)
    with pytest.raises(InputError, match=r"a.*NaN score"):
        metric.update(replace(found("instance"), scores=np.array([np.nan, 0.9, 0.5])), truth())
    metric.update(found("instance"), truth())
    assert metric.compute().value == pytest.approx(1)


def test_results_with_and_without_boxes_in_turn() -> None:
    """Images wait to be matched together, but results come as an array or as dictionaries, never as both."""
    plain = found("instance", (0,))
    boxed = replace(plain, given_boxes=np.array([[0.0, 0.0, 3.0, 6.0]]))
    together, at_once = InstanceMetric(LABELS), InstanceMetric(LABELS)
    for number, segments in enumerate((plain, plain, boxed, found("instance", ()), plain)):
        for metric in (together, at_once):
            metric.update(segments, truth(str(number)))
        at_once.compute()
    np.testing.assert_equal(together.compute().summary, at_once.compute().summary)
    assert together.compute().summary["AR@100"] == pytest.approx(0.4)  # four of five cats, no dog


def test_a_task_may_have_several_metrics() -> None:
    """One registers itself by its name, behind the one that has the task's headline."""
    try:

        class Pixels(SemanticMetric):
            name = "pixels right"

        assert [metric.name for metric in metrics_of("semantic")] == ["mIoU", "pixels right"]
        assert isinstance(metric_for("semantic", LABELS), SemanticMetric)
        assert metric_for("semantic", LABELS).name == "mIoU"
        assert [metric.name for metric in metrics_of("detect")] == ["box AP"]
    finally:
        METRICS.pop("pixels right", None)


def test_memory_does_not_follow_the_pixels() -> None:
    """A thousand times the pixels, the same few kilobytes kept of an image."""
    kept = []
    for side in (8, 256):
        masks = np.zeros((2, side, side), dtype=bool)
        masks[0, : side // 2], masks[1, side // 2 :] = True, True
        true: ImageTruth = Picture("a", masks, np.array([0, 2]), np.zeros(2, dtype=bool))
        segments = Segments(
            "instance", (side, side), LABELS, np.array([0, 2]), np.ones(2, np.float32), rles=tuple(map(encode, masks))
        )
        metric = InstanceMetric(LABELS)
        metric.update(segments, true)
        metric.compute()  # the last few images wait to be matched together
        kept.append(len(pickle.dumps(metric)))
    assert abs(kept[1] - kept[0]) < 100
    assert kept[1] < 20_000


def test_pixels_that_masks_share() -> None:
    """Of masks without a pixel too, and where there is nothing on one side."""
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]], [[0, 0, 0]]], dtype=bool)
    rles = [encode(mask) for mask in masks]
    assert shared_pixels(rles, rles[:2]).tolist() == [[2, 1], [1, 2], [0, 0]]
    assert shared_pixels(rles[:1], rles[2:]).tolist() == [[0]]
    assert (shared_pixels([], rles).shape, shared_pixels(rles, []).shape) == ((0, 3), (3, 0))
