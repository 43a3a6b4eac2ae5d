"""Classes of a model and of a dataset are brought together by id, else by name, else not at all."""

from __future__ import annotations

import numpy as np
import pytest

from segcli.errors import UsageError
from segcli.metrics.match_classes import match_classes
from segcli.segments import Segments
from segcli.types import Label, LabelSet


def classes(**ids: int) -> LabelSet:
    return LabelSet(tuple(Label(id_, name.replace("_", " "), True) for name, id_ in ids.items()))


DATA = classes(cat=17, dining_table=67, sky=187)


@pytest.mark.parametrize(
    ("predicted", "by", "index"),
    [
        (classes(sky=187, cat=17, diningtable=67), "id", [2, 0, 1]),  # another order, another spelling
        (classes(cat=17, couch=67), "id", [0, 1]),  # most names agree
        (classes(cat=0, sky=1, banana=2), "name", [0, 2, -1]),
        (classes(cat=67, dining_table=17), "name", [0, 1]),  # the same ids for other classes
        (LabelSet((Label(67, "class 67", True), Label(17, "17", True))), "id", [1, 0]),  # nothing but ids
    ],
)
def test_matched_by_id_else_by_name(predicted: LabelSet, by: str, index: list[int]) -> None:
    match = match_classes(predicted, DATA, "the model")
    assert (match.by, match.index.tolist()) == (by, index)


def test_what_does_not_fit_is_said() -> None:
    notes = match_classes(classes(cat=1, banana=2), DATA, "the model").notes
    assert notes == (
        "classes are matched by name, as the ids differ (cat is 1 in the model, 17 in the data)",
        "left out: 1 of the 2 classes of the model, which the data does not have: banana",
        "always missed: 2 of the data's 3 classes, of which the model has none: dining table, sky",
    )
    assert match_classes(DATA, DATA, "the model").notes == ()


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (
            classes(banana=17, apple=67),
            "no class in common, neither by id nor by name: 17 banana, 67 apple; and 17 cat",
        ),
        (LabelSet((Label(17, "", True), Label(99, "", True))), "category id 99 is not a class of the data"),
        (
            LabelSet((Label(1, "cat", True), Label(2, "sky", False), Label(3, "", True))),
            "category id 3 has no name, and the others fit the data by their names alone",
        ),
    ],
)
def test_what_fits_neither_way_is_refused(predicted: LabelSet, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        match_classes(predicted, DATA, "results.json")


def test_a_class_without_a_name_is_known_by_its_id() -> None:
    data = LabelSet((Label(1, "object", True),))
    match = match_classes(classes(nucleus=1), data, "the model")
    assert match.notes == ("taken as the same class by their id, though the names differ: 1 nucleus / object",)
    with pytest.raises(UsageError, match="no class in common"):
        match_classes(classes(banana=1, apple=2), data, "the model")


def test_segments_change_their_classes() -> None:
    predicted = classes(banana=1, cat=2)
    segments = Segments("panoptic", (1, 3), predicted, np.array([0, 1]), np.ones(2), map=np.array([[1, 2, 0]]))
    moved = match_classes(predicted, DATA, "the model").onto(LabelSet(DATA.labels[:2])).apply(segments)
    assert (moved.names(), moved.category_ids(), moved.id_map().tolist()) == (["cat"], [17], [[0, 1, 0]])
