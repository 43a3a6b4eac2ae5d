"""The oracle ladder: each planted fault is repaired by its own rung and by no other, and no repair does harm."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.codecs.rle import encode
from segcli.evaluation.dataset import open_data, open_tasks
from segcli.evaluation.explain import Explain, Explanation
from segcli.evaluation.from_model import of_model
from segcli.evaluation.observers import Evaluated
from segcli.evaluation.protocol import Protocol
from segcli.inference.predict import predict
from segcli.metrics.match_classes import match_classes
from segcli.segments import Segments
from segcli.training.validate import other_thresholds
from segcli.types import MASK_TASKS, OBJECT_TASKS, Label, LabelSet, MergeRule, Task
from tests.evaluation.scored import write_scored
from tests.fakes import FakeLoaded, Picture

LABELS = LabelSet((Label(7, "cat", True), Label(18, "dog", True), Label(90, "sky", False), Label(91, "sea", False)))
SIZE = (24, 32)
MAPS: tuple[Task, Task] = ("panoptic", "instance")


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Masks [N, H, W] of boxes x0, y0, x1, y1."""
    masks = np.zeros((len(corners), *SIZE), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def truth(task: Task) -> Picture:
    """Two cats, a dog, and (but for instances) the sky above and the sea below them, with a gap of void between."""
    masks = boxes((2, 2, 10, 10), (20, 2, 28, 10), (8, 14, 16, 22), (0, 0, 32, 11), (0, 13, 32, 24))
    labels = np.array([0, 0, 1, 2, 3])
    masks[3] &= ~masks[:3].any(0)
    masks[4] &= ~masks[:3].any(0)
    if task == "instance":
        masks, labels = masks[:3], labels[:3]
    return Picture("a", masks, labels, np.zeros(len(labels), dtype=bool), ~masks.any(0))


def found(task: Task, masks: np.ndarray, labels: Any, scores: Any = None) -> Segments:
    """A prediction; later masks lie on top of earlier ones in a map."""
    labels = np.asarray(labels, dtype=np.int64)
    scores = np.linspace(0.9, 0.5, len(labels)) if scores is None else np.asarray(scores)
    scores = scores.astype(np.float32)
    if task == "instance":
        return Segments(task, SIZE, LABELS, labels, scores, rles=tuple(encode(mask) for mask in masks))
    ids = (masks * np.arange(1, len(labels) + 1)[:, None, None]).max(axis=0, initial=0).astype(np.int32)
    return Segments(task, SIZE, LABELS, labels, scores if task == "panoptic" else scores * np.nan, ids)


def explain(task: Task, *pairs: tuple[Segments, Picture]) -> Explanation:
    observer = Explain(task, LABELS)
    for number, (segments, picture) in enumerate(pairs):
        named: Any = replace(picture, image_id=str(number))
        observer.see(Evaluated(number, {task: named}, {task: segments}, 0.0))
    return observer.report()


def gains(explanation: Explanation) -> dict[str, float]:
    """Those that are not nil, in points."""
    known = {rung.name: 100 * explanation.gain(rung) for rung in explanation.rungs if rung.report}
    return {name: round(gain, 6) for name, gain in known.items() if abs(gain) > 1e-9}


# ------------------------------------------------------------------------------------------------------ planted faults


@pytest.mark.parametrize("task", MASK_TASKS)
def test_a_perfect_prediction_gains_nothing(task: Task) -> None:
    picture = truth(task)
    explanation = explain(task, (found(task, picture.masks, picture.labels), picture))
    assert explanation.plain.value == pytest.approx(1)
    assert gains(explanation) == {}
    assert explanation.sentence().startswith("None of these limits the model")


@pytest.mark.parametrize("task", MASK_TASKS)
def test_swapped_classes_are_repaired_by_the_class_rung_alone(task: Task) -> None:
    picture = truth(task)
    swapped = np.array([1, 0, 3, 2])[picture.labels]
    explanation = explain(task, (found(task, picture.masks, swapped), picture))
    assert gains(explanation) == {"classes": pytest.approx(100)}
    assert "Classes hold this model back most" in explanation.sentence()


@pytest.mark.parametrize("task", MASK_TASKS)
def test_eroded_masks_are_repaired_by_the_mask_rung_alone(task: Task) -> None:
    picture = truth(task)
    inner = boxes((3, 3, 9, 9), (22, 4, 26, 8), (9, 15, 14, 20), (0, 0, 32, 9), (0, 15, 32, 24))[: len(picture.labels)]
    explanation = explain(task, (found(task, inner & picture.masks, picture.labels), picture))
    assert set(gains(explanation)) == {"masks"}
    assert explanation.plain.value + gains(explanation)["masks"] / 100 == pytest.approx(1)
    assert "Masks hold this model back most" in explanation.sentence()


@pytest.mark.parametrize("task", MASK_TASKS)
def test_dropped_objects_are_repaired_by_recall_alone(task: Task) -> None:
    picture = truth(task)
    explanation = explain(task, (found(task, picture.masks[2:], picture.labels[2:]), picture))
    assert set(gains(explanation)) == {"recall"}
    assert explanation.plain.value + gains(explanation)["recall"] / 100 == pytest.approx(1)
    assert next(rung.count for rung in explanation.rungs if rung.name == "recall") == 2
    assert "Recall, objects that are missed, holds this model back most" in explanation.sentence()


@pytest.mark.parametrize("task", MAPS)
def test_duplicates_are_repaired_by_their_rung_alone(task: Task) -> None:
    """Instances: the same cat twice, surer than the second cat. Panoptic: a piece cut off the cat."""
    picture = truth(task)
    again = boxes((2, 2, 10, 10)) if task == "instance" else boxes((2, 2, 10, 4))
    masks, labels = np.concatenate([picture.masks, again]), [*picture.labels, 0]
    scores = [*(0.9, 0.5, 0.7, 0.6, 0.6)[: len(picture.labels)], 0.8]
    explanation = explain(task, (found(task, masks, labels, scores), picture))
    plain = explanation.plain.summary
    assert set(gains(explanation)) == ({"duplicates"} if task == "instance" else {"duplicates", "masks"})
    rung = next(rung for rung in explanation.rungs if rung.name == "duplicates")
    assert rung.count == 1
    assert rung.report is not None
    quality = "AP" if task == "instance" else "RQ"
    assert plain[quality] < 1
    assert rung.report.summary[quality] == pytest.approx(1)


@pytest.mark.parametrize("task", MAPS)
def test_inventions_are_repaired_by_their_rung_alone(task: Task) -> None:
    """A cat on the sea, surer than all others; in a map it takes pixels from the sea."""
    picture = truth(task)
    masks = np.concatenate([picture.masks, boxes((22, 15, 30, 23))])
    scores = [*np.linspace(0.8, 0.5, len(picture.labels)), 0.95]
    explanation = explain(task, (found(task, masks, [*picture.labels, 0], scores), picture))
    assert set(gains(explanation)) == ({"invented"} if task == "instance" else {"invented", "masks"})
    assert next(rung.count for rung in explanation.rungs if rung.name == "invented") == 1


def test_what_lies_on_void_is_not_invented() -> None:
    picture = truth("instance")
    masks = np.concatenate([picture.masks, boxes((20, 14, 30, 22))])
    assert gains(explain("panoptic", (found("panoptic", masks, [*picture.labels, 0]), picture))) == {}


def test_crowds_and_their_parts_are_no_errors() -> None:
    """As COCO ignores them: a cat in a crowd of cats is neither invented, nor is the crowd missed."""
    for task in MAPS:
        picture = truth("instance")
        crowd = replace(picture, crowd=np.array([False, True, False]))
        masks = np.concatenate([picture.masks[[0, 2]], boxes((20, 2, 24, 10))])
        explanation = explain(task, (found(task, masks, [0, 1, 0]), crowd))
        assert gains(explanation) == {}
        assert all(not rung.count for rung in explanation.rungs if rung.name != "masks")


def test_nothing_to_measure() -> None:
    explanation = Explain("panoptic", LABELS).report()
    assert math.isnan(explanation.plain.value)
    assert explanation.sentence() == "There is no PQ to explain: nothing in these images can be measured."
    assert json.dumps(explanation.to_json(), allow_nan=False)


# ---------------------------------------------------------------------------------------------------------- properties

BOX = st.builds(
    lambda x, y, w, h: (x, y, min(x + w, SIZE[1]), min(y + h, SIZE[0])),
    st.integers(0, 28), st.integers(0, 20), st.integers(2, 16), st.integers(2, 12),
)  # fmt: skip
THING = st.tuples(BOX, st.integers(0, 3))


@st.composite
def scenes(draw: st.DrawFn, task: Task) -> tuple[Segments, Picture]:
    """Boxes on boxes on both sides; void and crowds as a dataset may have them."""
    sides = [draw(st.lists(THING, max_size=6)) for _ in range(2)]
    if task == "instance":
        sides = [[(box, label % 2) for box, label in side] for side in sides]
    (true, true_labels), (seen, seen_labels) = (
        (boxes(*(box for box, _ in side)), np.array([label for _, label in side], dtype=np.int64)) for side in sides
    )
    if task == "panoptic":  # stuff is one segment an image
        first = [label < 2 or label not in true_labels[:index] for index, label in enumerate(true_labels)]
        true, true_labels = true[first], true_labels[first]
    crowd = np.array(draw(st.lists(st.booleans(), min_size=len(true), max_size=len(true))), dtype=bool)
    void = boxes(draw(BOX))[0] if draw(st.booleans()) else None
    return found(task, seen, seen_labels), Picture("a", true, true_labels, crowd & (task != "semantic"), void)


@pytest.mark.parametrize("task", MASK_TASKS)
@settings(max_examples=40)
@given(data=st.data())
def test_no_repair_does_harm_and_all_together_are_perfect(task: Task, data: st.DataObject) -> None:
    """But for AP's stricter IoUs: a segment given its right class may fail there where a right one was counted."""
    pairs = data.draw(st.lists(scenes(task), min_size=1, max_size=2))
    explanation = explain(task, *pairs)
    if math.isnan(explanation.plain.value):
        return
    harmless = {name: gain for name, gain in gains(explanation).items() if (task, name) != ("instance", "classes")}
    assert min(harmless.values(), default=0) >= 0
    last = explanation.rungs[-1].ladder
    assert last is not None
    assert last == pytest.approx(1) or math.isnan(last)  # without an object, once what was invented is gone


@pytest.mark.parametrize("task", MASK_TASKS)
def test_ranks_give_what_one_process_gives(task: Task, tmp_path: Path) -> None:
    pairs = [
        (
            found(task, truth(task).masks[1:], truth(task).labels[[1, 1, *range(3, len(truth(task).labels))]]),
            truth(task),
        )
    ]
    pairs.append((found(task, np.roll(truth(task).masks, 2, axis=2), truth(task).labels), truth(task)))
    ranks = [Explain(task, LABELS) for _ in range(2)]
    for number, (segments, picture) in enumerate(pairs):
        named: Any = replace(picture, image_id=str(number))
        ranks[number].see(Evaluated(number, {task: named}, {task: segments}, 0.0))
    ranks[0].merge(pickle.loads(pickle.dumps(ranks[1])))
    assert repr(ranks[0].report()) == repr(explain(task, *pairs))
    ranks[0].finish(tmp_path)
    written = json.loads((tmp_path / "explain.json").read_text(encoding="utf-8"))
    assert written["sentence"] == ranks[0].report().sentence()
    assert [rung["name"] for rung in written["rungs"]] == [rung.name for rung in ranks[0].report().rungs]


# ---------------------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("tile", [None, 64])
def test_the_best_thresholds_are_those_that_show_a_hesitant_model(tile: int | None, tmp_path: Path) -> None:
    """A network that is never surer than 0.7 shows nothing at 0.8, and everything at 0.65; in tiles as well."""
    loaded: Any = FakeLoaded()
    loaded.model.confidence.data.fill_(1.95)  # e^1.95 / (e^1.95 + 3) = 0.70
    spec = replace(loaded.spec, size=replace(loaded.spec.size, tile=tile))
    info = open_data(write_scored(tmp_path), "panoptic", None, "val")
    classes = match_classes(loaded.labels, info.source_labels, "the model")
    datasets, protocol = open_tasks(info, "val", ["panoptic"]), Protocol.of(spec, ["panoptic"])
    rules = other_thresholds(spec.rule)
    evaluation = of_model(loaded, info, "val", datasets, protocol, classes, rules=rules)
    observer = Explain("panoptic", datasets["panoptic"].labels, rule=spec.rule, others=evaluation.rules)
    evaluation.watch("panoptic", observer)
    for evaluated in evaluation.run():
        theirs = predict(loaded, evaluated.sample.image, tile=tile, threshold=0.65, overlap_threshold=0.6)
        place = rules.index(replace(spec.rule, score=0.65, overlap=0.6))
        assert np.array_equal(evaluated.others[place].id_map(), theirs.id_map())
    explanation = observer.report()
    rung = next(rung for rung in explanation.rungs if rung.name == "thresholds")
    assert explanation.plain.value == 0
    assert explanation.gain(rung) > 0.5
    assert "--threshold 0.3 --overlap-threshold 0.6" in rung.note


@pytest.mark.parametrize("task", OBJECT_TASKS)
def test_the_threshold_that_is_named_is_of_the_same_task(task: Task) -> None:
    (note,) = [rung.note for rung in Explain(task, LABELS, rule=MergeRule()).report().rungs if rung.note]
    assert f"segcli predict --task {task} --threshold" in note
