"""A class has one colour, alone and beside the truth of data that calls it the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcli.data.records import DatasetInfo
from segcli.evaluation.class_colours import in_colours_of
from segcli.metrics.match_classes import match_classes
from segcli.render.colours import class_colours
from segcli.types import Label, LabelSet

RED, BLUE = (200, 10, 10), (10, 10, 200)


def info(*labels: Label) -> DatasetInfo:
    every = LabelSet(labels)
    things = LabelSet(tuple(label for label in labels if label.isthing))
    return DatasetInfo(Path("data"), "any", "", "panoptic", ("panoptic",), things, every, {}, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("palette", [None, BLUE])
def test_a_models_colours_go_onto_the_data(palette: tuple[int, int, int] | None) -> None:
    model = LabelSet((Label(5, "cat", True, RED), Label(6, "dog", True), Label(7, "sky", False, BLUE)))
    data = info(Label(1, "dog", True, palette), Label(2, "cat", True, BLUE), Label(3, "tree", False, RED))
    found = in_colours_of(model, data, match_classes(model, data.source_labels, "the model"))
    dog = palette or tuple(class_colours(model)[1].tolist())  # what the data say goes before what nobody says
    assert [label.color for label in found.source_labels] == [dog, RED, RED]
    assert [label.color for label in found.labels] == [dog, RED]


def test_files_without_names_leave_the_datas_colours() -> None:
    data = info(Label(1, "dog", True, BLUE), Label(2, "cat", True))
    files = LabelSet((Label(1, "", True), Label(2, "", True)))
    assert in_colours_of(files, data, match_classes(files, data.source_labels, "files")) == data
