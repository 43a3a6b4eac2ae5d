"""Charts are legible and say the truth: no two names on top of each other, the numbers those of the field's tools."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hotcoco.metrics import average_precision, calibration_error
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segcli.evaluation.observers import Evaluated
from segcli.evaluation.pictures import EvalPictures, _precision
from segcli.render.charts import bars, histogram
from segcli.render.eval_charts import RECALLS, calibration, confusion, expected_error, precision_recall
from segcli.render.plots import STYLE, encode
from segcli.types import MASK_TASKS, Task
from tests.evaluation.test_explain import LABELS, SIZE, found, truth
from tests.fakes import Picture


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def assert_names_apart(figure: Figure) -> None:
    """No two tick labels of an axis cover each other, and each is large enough to be read."""
    with matplotlib.rc_context(STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for axes in figure.axes:
            for labels in (axes.get_yticklabels(), axes.get_xticklabels()):
                boxes = [label.get_window_extent() for label in labels if label.get_text()]
                for one, other in pairwise(boxes):
                    shared = (
                        min(one.y1, other.y1) - max(one.y0, other.y0),
                        min(one.x1, other.x1) - max(one.x0, other.x0),
                    )
                    assert min(shared) < 1, f"{axes.get_title()}: names cover each other"
            assert all(label.get_fontsize() >= 5 for label in axes.get_yticklabels())


@pytest.mark.parametrize("count", [1, 2, 150])
def test_bars_and_confusions_are_legible(count: int) -> None:
    names = [f"class {i}" + " with a name that goes on and on" * (i % 7 == 0) for i in range(count)]
    values = np.linspace(100, 0, count)
    assert_names_apart(bars(names, values, "PQ by class", unit="PQ", marks={"SQ": values / 2}))
    assert_names_apart(bars(names, {"train": values * 10, "val": values}, "Objects", log=True))
    matrix = np.pad(np.eye(count, dtype=np.int64) * 5 + 1, ((0, 1), (0, 1)), constant_values=3)
    picture = confusion(matrix, [*names, "(invented)"], [*names, "(missed)"], "Confusion", "segments")
    assert_names_apart(picture)


def test_bars_say_their_values() -> None:
    assert texts(bars(["a", "b"], [12.34, float("nan")], "t")) == ["12.3", "–"]
    assert texts(bars(["a", "b"], {"train": [1200, 0], "val": [3, 4]}, "t", log=True)) == ["1,200", "0", "3", "4"]
    assert texts(bars([], [], "nothing")) == []


def test_a_histogram_counts_every_value() -> None:
    picture = histogram(np.array([1, 1, 2, 5]), "objects", xlabel="objects in an image")
    assert [patch.get_height() for patch in picture.axes[0].patches] == [2, 1, 0, 0, 1]
    assert picture.axes[0].get_xlabel() == "objects in an image"
    logged = histogram({"train": [0.0, 1.0, 10.0], "val": [5.0]}, "areas", xlabel="pixels", log=True)
    assert logged.axes[0].get_xlabel() == "pixels; 1 that are 0 or less left out"
    assert encode(histogram(np.zeros(0), "nothing"), ".png")


def test_the_same_numbers_are_the_same_bytes() -> None:
    first, second = (encode(bars(["a", "b"], [1.0, 2.0], "t"), ".png") for _ in range(2))
    assert first == second


def test_confusions_are_shares_of_the_true_class() -> None:
    matrix = np.array([[3, 1, 0], [0, 0, 2], [0, 5, 0]])
    picture = confusion(matrix, ["cat", "dog", "(invented)"], ["cat", "dog", "(missed)"], "t", "segments")
    assert texts(picture) == ["75", "25", "100", "100"]
    assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == ["cat (4)", "dog (2)", "(invented) (5)"]


SCORED = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40)


@given(scored=SCORED)
def test_the_calibration_error_is_the_field_s(scored: list[tuple[float, bool]]) -> None:
    pictures = EvalPictures("panoptic", LABELS)
    scores, right = np.array([s for s, _ in scored]), np.array([r for _, r in scored])
    pictures._count(scores, right)
    assert pictures._bins[0].sum() == len(scored)
    expected, _ = calibration_error(scores.tolist(), right.tolist(), n_bins=len(pictures._bins[0]))
    edge = np.isclose(scores * len(pictures._bins[0]) % 1, 0)  # on the border of two bins either may have it
    if not edge.any():
        assert expected_error(*pictures._bins) == pytest.approx(expected, abs=1e-6)


@given(scored=SCORED, missed=st.integers(0, 5))
def test_the_area_below_a_curve_is_ap(scored: list[tuple[float, bool]], missed: int) -> None:
    scores, right = [s for s, _ in scored], [int(r) for _, r in scored]
    true = sum(right) + missed
    if not true:
        return
    curve = _precision(scores, right, true)
    assert curve.shape == RECALLS.shape
    assert curve.mean() == pytest.approx(average_precision(scores, [r == 1 for r in right], true))


def test_curves_and_calibrations_of_few_and_many_classes() -> None:
    for count in (1, 80):
        classes = {"IoU 0.5": {f"class {i}": np.linspace(1, 0, 101) * i / count for i in range(count)}}
        picture = precision_recall({"IoU 0.5": np.linspace(1, 0, 101)}, classes, "Precision against recall")
        names = [text.get_text() for text in picture.axes[0].get_legend().get_texts()]
        assert len(names) == (1 if count == 1 else 11)
    empty = np.zeros(20)
    assert encode(calibration(empty, empty, empty, "t", "right", "segments"), ".png")


@pytest.mark.parametrize("task", MASK_TASKS)
def test_what_became_of_each_class(task: Task) -> None:
    """A cat taken for a dog, a cat missed, the dog right; of stuff the sky right and no sea."""
    picture = truth(task)
    kept = [0, *range(2, len(picture.labels) - (task != "instance"))]
    masks, labels = picture.masks[kept], [1, *picture.labels[kept][1:]]
    ranks = [EvalPictures(task, LABELS) for _ in range(2)]
    for number, rank in enumerate(ranks):
        sample: Any = Photo(picture, number)
        rank.see(Evaluated(number, {task: sample}, {task: found(task, masks, labels)}, 0.0))
    ranks[0].merge(pickle.loads(pickle.dumps(ranks[1])))
    cells = {(int(r), int(c)): int(n) for (r, c), n in np.ndenumerate(ranks[0]._matrix) if n}
    if task == "semantic":  # in pixels, of two images
        expected = {(0, 1): 128, (0, 4): 128, (1, 1): 128, (2, 2): 448, (3, 4): 576}
    else:
        expected = {(0, 1): 2, (0, 4): 2, (1, 1): 2} | ({(2, 2): 2, (3, 4): 2} if task == "panoptic" else {})
    assert cells == expected
    assert [key[1] for key in sorted(ranks[0]._worst, reverse=True)] == [0, -1]


class Photo:
    """A sample with an image, for pictures."""

    def __init__(self, picture: Picture, number: int) -> None:
        self.image = np.full((*SIZE, 3), 128, dtype=np.uint8)
        self.file, self.image_id, self.size = Path(f"{number}.png"), str(number), SIZE
        self.rles, self.labels, self.crowd, self.id_map = picture.rles, picture.labels, picture.crowd, picture.id_map
        self.stated = None
