"""Pictures as they should look: every renderer on a tiny scene, beside what it drew before.

After a change that is meant, draw them anew, look at them and keep them:

    UPDATE_GOLDEN=1 python -m pytest tests/render/test_pictures.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from segcli.codecs.rle import encode
from segcli.render import Style, overlay
from segcli.render.curves import Curve, RunCurves, curves_figure, summary
from segcli.render.error_map import compare, error_map, error_panels, triptych
from segcli.render.legend import annotated, side_by_side
from segcli.render.plots import encode as encode_figure
from segcli.render.term import chart_lines
from segcli.segments import Segments
from segcli.types import Label, LabelSet
from tests.golden import assert_golden

LABELS = LabelSet((Label(1, "cat", True), Label(2, "dog", True), Label(9, "grass", False, (60, 140, 40))))
HEIGHT, WIDTH = 72, 96


def photo() -> np.ndarray:
    """Dark on the left, bright on the right."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 2.5, 60 + y + x, 255 - 2 * y], axis=2).astype(np.uint8)


def disc(row: int, column: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def panoptic(*, shift: int = 0, second: int = 1) -> Segments:
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    ids[48:] = 3
    ids[disc(28, 26 + shift, 20)] = 1
    ids[disc(36, 72, 16)] = 2
    scores = np.array([0.98, 0.71, 0.9], dtype=np.float32)
    return Segments("panoptic", ids.shape, LABELS, np.array([0, second, 2]), scores, ids)


def instances() -> Segments:
    masks = (disc(34, 40, 26), disc(34, 60, 26), disc(40, 50, 8))
    scores = np.array([0.95, 0.8, 0.55], dtype=np.float32)
    rles = tuple(encode(mask) for mask in masks)
    return Segments("instance", (HEIGHT, WIDTH), LABELS, np.array([0, 0, 1]), scores, rles=rles)


def crowd() -> Segments:
    """Many of one class, and a class too small and too late for a name."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ids = np.where((y % 12 > 1) & (x % 12 > 1), 1 + y // 12 * 8 + x // 12, 0).astype(np.uint16)
    labels = np.zeros(48, dtype=np.int64)
    labels[47] = 1
    return Segments("panoptic", ids.shape, LABELS, labels, np.full(48, 0.9, dtype=np.float32), ids)


def curves() -> list[RunCurves]:
    steps = np.arange(1, 201)
    runs = []
    for number, name in enumerate(("small", "large")):
        loss = 3 * np.exp(-steps / (60 - 20 * number)) + 0.2 * np.sin(steps * 2.1)
        metric = Curve(np.array([100, 200]), np.array([20.0, 31.5 + 4 * number]))
        runs.append(RunCurves(name, {"loss": Curve(steps, loss)}, {"PQ on validation (%)": metric}))
    return runs


PICTURES: dict[str, Callable[[], np.ndarray | bytes]] = {
    "overlay-panoptic": lambda: overlay(photo(), panoptic()),
    "overlay-instances-boxes": lambda: overlay(photo(), instances(), Style("instance", labels=False, boxes=True)),
    "overlay-plain": lambda: overlay(photo(), panoptic(), Style(alpha=0.8, labels=False, outlines=False)),
    "legend-scores": lambda: annotated(photo(), panoptic(), Style("score"), "photo.jpg"),
    "legend-crowd": lambda: annotated(photo(), crowd(), Style()),
    "error-map": lambda: error_map(photo(), panoptic(), panoptic(shift=14, second=0)),
    "triptych": lambda: triptych(photo(), panoptic(), panoptic(shift=14, second=0)),
    "error-panels": lambda: side_by_side(error_panels(photo(), panoptic(), panoptic(shift=3), Style()), columns=2),
    "curves": lambda: encode_figure(curves_figure(curves()), ".png"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_before(name: str) -> None:
    assert_golden(name, PICTURES[name](), shrunk=4 if name == "curves" else 1)


@pytest.mark.parametrize("name", ["overlay-panoptic", "legend-crowd", "error-panels"])
def test_the_same_input_gives_the_same_bytes(name: str) -> None:
    first, second = PICTURES[name](), PICTURES[name]()
    assert bytes(first) == bytes(second)


def test_svg_has_no_date_and_no_random_ids() -> None:
    assert encode_figure(curves_figure(curves()), ".svg") == encode_figure(curves_figure(curves()), ".svg")


# -------------------------------------------------------------------------------------------------------------- errors


def maps(rows: list[str], labels: list[int], task: str = "panoptic") -> Segments:
    ids = np.array([[int(c) for c in row] for row in rows], dtype=np.uint16)
    scores = np.full(len(labels), 0.9, dtype=np.float32)
    if task == "instance":
        rles = tuple(encode(ids == i + 1) for i in range(len(labels)))
        return Segments("instance", ids.shape, LABELS, np.array(labels), scores, rles=rles)
    return Segments(task, ids.shape, LABELS, np.array(labels), scores, ids)  # type: ignore[arg-type]


def kinds(truth: Segments, predicted: Segments) -> list[str]:
    """A letter a pixel: Right, wrong Class, wrong Object, Missed, Invented, Void; . for nothing."""
    return ["".join(".RCOMIV"[kind] for kind in row) for row in compare(truth, predicted)]


def test_kinds_of_errors() -> None:
    truth = maps(["1112220333", "1112220333"], [0, 1, 2])
    assert kinds(truth, truth) == ["RRRRRRVRRR"] * 2
    # The cat split in two, the dog called a cat, and grass where half of it is found.
    seen = maps(["1123334450", "1123334450"], [0, 0, 0, 1, 2])
    assert kinds(truth, seen) == ["RROCCCVIRM"] * 2
    # Nothing found at all, and stuff where the cat is.
    assert kinds(truth, maps(["1110000000"] * 2, [2])) == ["MMMMMMVMMM"] * 2


def test_semantic_errors_know_classes_only() -> None:
    truth = maps(["11220"], [0, 1], "semantic")
    assert kinds(truth, maps(["11110"], [0], "semantic")) == ["RRCCV"]
    assert kinds(truth, maps(["10210"], [0, 1], "semantic")) == ["RMRCV"]


def test_objects_that_overlap_are_judged_each_by_itself() -> None:
    """A small cat on a large dog: missing the cat makes the dog no worse, and inventing one neither."""
    dog = encode(np.ones((1, 8), bool))
    cat = encode(np.array([[0, 0, 1, 1, 0, 0, 0, 0]], bool))
    scores = np.array([0.9, 0.8], dtype=np.float32)
    both = Segments("instance", (1, 8), LABELS, np.array([1, 0]), scores, rles=(dog, cat))
    one = both.filter(np.array([True, False]))
    assert kinds(both, one) == ["RRMMRRRR"]
    assert kinds(one, both) == ["RRIIRRRR"]
    assert kinds(both, both) == ["RRRRRRRR"]
    assert kinds(one, one.filter(np.array([False]))) == ["MMMMMMMM"]
    assert kinds(maps(["0011"], [0], "instance"), maps(["0110"], [0], "instance")) == [".IOM"]


def test_sizes_and_tasks_must_agree() -> None:
    with pytest.raises(ValueError, match="prediction"):
        compare(maps(["11"], [0]), maps(["111"], [0]))
    with pytest.raises(ValueError, match="semantic"):
        compare(maps(["11"], [0]), maps(["11"], [0], "semantic"))


# -------------------------------------------------------------------------------------------------------------- curves


def test_smoothing_keeps_length_mean_and_gaps() -> None:
    steps = np.arange(1000)
    noisy = Curve(steps, np.where(steps % 2, 1.0, 3.0))
    np.testing.assert_allclose(noisy.smoothed()[20:-20], 2, atol=0.06)
    few = Curve(np.arange(3), np.array([1.0, np.nan, 5.0]))
    np.testing.assert_array_equal(few.smoothed(), few.values)


def test_charts_in_the_terminal() -> None:
    lines = chart_lines(curves()[:1], 40, colour=False)
    assert lines[0] == "small: best PQ 31.5 % at step 200"
    assert lines[2] == "loss"
    assert max(map(len, lines)) <= 40
    chart = [line[12:] for line in lines[3:11]]
    first = [line.rstrip()[:1] for line in chart]
    assert first.index(next(c for c in first if c.strip())) == 0  # begins at the top left …
    assert chart[-1].rstrip()[-1:].strip()  # … and ends at the bottom right
    assert lines[11].endswith(" 200 steps")
    coloured = chart_lines(curves(), 60, colour=True)
    assert sum("\x1b[33m" in line for line in coloured) > 3


def test_a_run_without_a_single_finite_value_is_drawn() -> None:
    nothing = RunCurves("x", {"loss": Curve(np.arange(3), np.full(3, np.nan))})
    assert chart_lines([nothing], 60, colour=False)
    assert encode_figure(curves_figure([nothing]), ".png")


def test_a_metric_of_two_words_is_named_whole() -> None:
    run = RunCurves("x", metric={"box AP on validation (%)": Curve(np.array([5, 9]), np.array([1.0, 3.0]))})
    assert summary(run) == "x: best box AP 3.0 % at step 9"
