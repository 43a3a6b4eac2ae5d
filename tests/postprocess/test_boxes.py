"""Boxes without masks: from queries to pixels of the photo, to COCO's form and back, drawn and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli import postprocess
from segcli.layers.masks import DenseMasks
from segcli.metrics import metric_for
from segcli.render import Style, overlay
from segcli.results.readers import open_predictions
from segcli.segments import Segments
from segcli.types import Frame, Label, LabelSet, MergeRule, QueryPredictions
from tests.fakes import Picture

LABELS = LabelSet((Label(1, "cat", True), Label(7, "sky", False), Label(17, "dog", True)))
FRAME = Frame(original=(40, 80), resized=(20, 40), padded=(32, 64))
DETR = MergeRule(score=0.85, overlap=0.0, mask_min=None, normalise="softmax", min_area=4, instances="queries")


def prediction() -> QueryPredictions:
    """Dog, cat, sky, nobody and a faint cat."""
    classes = torch.tensor([[[0, 0, 5, 0], [7, 0, 0, 0], [0, 9, 0, 0], [0, 0, 0, 9], [1, 0, 0, 1.0]]])
    boxes = [[0.5, 0.5, 0.25, 0.5], [0.9, 0.2, 0.4, 0.1], [0.5, 0.5, 1, 1], [0.1] * 4, [0.25, 0.5, 0.1, 0.1]]
    return QueryPredictions(classes, None, torch.tensor([boxes]))


def test_boxes_are_shares_of_the_photo_and_stuff_has_none() -> None:
    found = postprocess.detect(prediction(), 0, FRAME, LABELS)
    assert found.names() == ["cat", "dog", "cat", "cat"]  # nobody has a best class too, and no score
    assert found.scores == pytest.approx([0.9973, 0.9802, 0.3655, 0.0001], abs=1e-4)
    assert found.given_boxes is not None
    assert found.given_boxes[:3].round(3).tolist() == [[56, 6, 32, 4], [30, 10, 20, 20], [16, 18, 8, 4]]
    assert found.boxes()[:2].tolist() == [[56, 6, 80, 10], [30, 10, 50, 30]]  # inside the photo
    assert len(postprocess.detect(prediction(), 0, FRAME, LABELS, 0.5)) == 2
    entry = found.to_coco("a")[0]
    assert entry.keys() == {"image_id", "category_id", "score", "bbox"}
    assert entry["category_id"] == 1


def test_boxes_of_a_results_file(tmp_path: Path) -> None:
    found = postprocess.detect(prediction(), 0, FRAME, LABELS)
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(found.to_coco(3)), encoding="utf-8")
    predictions = open_predictions(file)
    assert predictions.task == "detect"
    again = predictions.read(0, FRAME.original)
    assert again.category_ids() == found.category_ids()
    assert again.given_boxes == pytest.approx(found.given_boxes)


def test_boxes_are_scored_as_boxes() -> None:
    """A box that fits scores in full, whatever the mask in it looks like."""
    masks = np.zeros((1, 40, 80), dtype=bool)
    masks[0, 10:30, 30] = masks[0, 10, 30:50] = masks[0, 29, 49] = True  # an angle and a dot in a box
    truth = Picture("a", masks, np.array([2]), np.zeros(1, dtype=bool))
    metric = metric_for("detect", LABELS)
    box = np.array([[30.0, 10, 20, 20]])
    metric.update(Segments.of_boxes((40, 80), LABELS, np.array([2]), np.array([0.9]), box), truth)
    report = metric.compute()
    assert (report.name, report.value) == ("box AP", pytest.approx(1))
    assert "AP" not in report.summary


def test_boxes_are_drawn_as_lines() -> None:
    photo = np.full((40, 80, 3), 90, dtype=np.uint8)
    boxes = Segments.of_boxes((40, 80), LABELS, np.array([2]), np.array([np.nan]), np.array([[20.0, 5, 40, 30]]))
    changed = (overlay(photo, boxes, Style(labels=False)) != photo).any(-1)
    assert changed[5, 22:58].all()
    assert not changed[10:30, 25:55].any()  # the inside is the photo's own


@given(st.lists(st.tuples(*[st.integers(-120, 480)] * 2, *[st.integers(1, 360)] * 2), max_size=5))
def test_masks_of_boxes_are_the_pixels_they_touch(boxes: list[tuple[int, int, int, int]]) -> None:
    xywh = np.array(boxes).reshape(-1, 4) / 4
    found = Segments.of_boxes((40, 80), LABELS, np.zeros(len(boxes), dtype=np.int64), np.zeros(len(boxes)), xywh)
    for (x, y, width, height), mask in zip(xywh, found.masks(), strict=True):
        expected = np.zeros((40, 80), dtype=bool)
        top, left = max(0, int(np.floor(y))), max(0, int(np.floor(x)))
        expected[top : max(0, int(np.ceil(y + height))), left : max(0, int(np.ceil(x + width)))] = True
        assert np.array_equal(mask, expected)


def test_instances_of_queries_have_the_score_of_their_class() -> None:
    logits = torch.full((1, 5, 8, 16), -4.0)
    logits[0, 0, :4] = 0.5
    answer = QueryPredictions(prediction().classes, DenseMasks(logits), prediction().boxes)
    found = postprocess.instance(answer, 0, FRAME, LABELS, DETR, 0.5)
    assert found.names() == ["cat", "dog"]
    assert found.scores == pytest.approx([0.9973, 0.9802], abs=1e-4)
    assert found.areas()[1] > 0


def original_panoptic(classes: torch.Tensor, masks: torch.Tensor) -> list[tuple[int, int]]:
    """DETR's `PostProcessPanoptic` in a few lines, at the size of the masks -> class and pixels of each segment."""
    scores, labels = classes.softmax(-1).max(-1)
    kept = (labels != len(LABELS)) & (scores > 0.85)
    labels, masks = labels[kept], masks[kept]
    while len(labels):
        owner = masks.softmax(0).argmax(0)
        for label in labels.unique().tolist():
            alike = (labels == label).nonzero().flatten().tolist()
            if not LABELS[label].isthing:
                for other in alike[1:]:
                    owner[owner == other] = alike[0]
        areas = torch.tensor([int((owner == query).sum()) for query in range(len(labels))])
        members = [
            q for q in range(len(labels)) if LABELS[int(labels[q])].isthing or q == labels.tolist().index(labels[q])
        ]
        small = [q for q in members if areas[q] <= 4]
        if not small:
            return sorted((int(labels[q]), int(areas[q])) for q in members)
        rest = [
            q for q in range(len(labels)) if int(labels[q]) not in {int(labels[s]) for s in small} or q not in small
        ]
        labels, masks = labels[rest], masks[rest]
    return []


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_panoptic_is_the_originals(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 6 * torch.randn(1, 8, 4, generator=generator)
    masks = torch.nn.functional.interpolate(
        3 * torch.randn(1, 8, 4, 6, generator=generator), size=(20, 30), mode="bilinear"
    )
    frame = Frame((20, 30), (20, 30), (20, 30))
    found = postprocess.panoptic(QueryPredictions(classes, DenseMasks(masks)), 0, frame, LABELS, DETR)
    segments = sorted(zip(found.labels.tolist(), found.areas().tolist(), strict=True))
    assert segments == original_panoptic(classes[0], masks[0])
