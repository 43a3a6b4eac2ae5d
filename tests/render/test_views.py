"""The views as pictures: drawn from arrays made up here, compared with what they looked like; the same bytes twice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from segcli.render.plots import encode
from segcli.render.views.attention import DecoderStep, Strip, draw_attention
from segcli.render.views.features import FeatureMap, Samples, draw_features
from segcli.render.views.matching import Assignment, draw_matching
from segcli.render.views.panels import Backdrop, cells, fitted, lit, smooth
from segcli.render.views.queries import QueryStatistics, draw_queries, kinds_of
from segcli.render.views.sheet import shortened
from tests.golden import assert_golden

PHOTO = np.dstack(np.broadcast_arrays(np.arange(60)[:, None] * 4, np.arange(90)[None] * 2, 120)).astype(np.uint8)


def blob(height: int, width: int, x: float = 0.4, size: float = 0.25) -> np.ndarray:
    """Logits of a disc at (x, 0.5), positive inside."""
    rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    return (20 * (size - np.hypot(rows - 0.5, columns - x))).astype(np.float32)


def attention() -> Figure:
    steps = []
    for stride in (32, 16, 8):
        region = blob(64 // stride, 96 // stride) > -2
        share = region * np.arange(1, region.size + 1, dtype=np.float32).reshape(region.shape)
        steps.append(DecoderStep(stride, region, share / share.sum()))
    steps.append(DecoderStep(32, np.ones((2, 3), dtype=bool), np.full((2, 3), 1 / 6, dtype=np.float32)))
    masks = np.stack([blob(16, 24, x) for x in (0.2, 0.3, 0.4, 2.0, 0.4)])
    names = ("no object", "a name that is much too long for its column", "cat", "$5_bill$", "cat")
    colours = ((150, 150, 150), (0, 0, 0), (0, 158, 115), (230, 159, 0), (0, 158, 115))
    return draw_attention(PHOTO, [Strip(7, names, (0.4, 0.5, 0.9, 0.3, 0.96), colours, masks, tuple(steps))], (0.9, 1))


def queries() -> Figure:
    wins = np.array([[3, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    means = np.stack([1 / (1 + np.exp(-blob(16, 16, x))) for x in (0.2, 0.7, 0.5)]).astype(np.float32)
    boxes = np.array([[0.2, 0.5, 0.02, 0.02], [0.3, 0.5, 0.6, 0.4], [0.4, 0.6, 0.2, 0.9]] * 2 + [[0.9, 0.1, 0.2, 0.2]])
    names = ("person", "car", "tree", "sky")
    owners = np.array([0, 0, 0, 1, 1, 1, 1])
    return draw_queries(QueryStatistics(4, names, wins, means, boxes.astype(np.float32), owners))


def matching() -> Figure:
    rows, columns = np.mgrid[:6, :2]
    terms = {
        name: (scale * np.abs(rows - 2 * columns)).astype(np.float32) for name, scale in (("class", 1), ("mask", 9))
    }
    truth = np.stack([blob(54, 90, x) > 0 for x in (0.3, 0.7)])
    masks = np.stack([blob(16, 24, x) for x in (0.3, 0.2)])
    says = tuple((name, 0.9) for name in ("cat", "no object", "cat", "dog", "cat", "dog"))
    ious = np.array([[0.9, 0.0], [0.1, 0.2]])
    colours = np.array([[230, 159, 0], [0, 0, 0]], dtype=np.uint8)
    found = Assignment(terms, ((0, 0), (2, 1)), ("cat", "dog"), colours, says, truth, masks, ious)
    return draw_matching(PHOTO, found, (0.9, 1))


def features() -> Figure:
    maps = []
    for part, stride in (("backbone", 4), ("backbone", 8), ("pixel decoder", 8), ("mask features", 4)):
        height, width = 64 // stride, 96 // stride
        rgb = np.dstack(np.broadcast_arrays(np.arange(height)[:, None] * stride, np.arange(width) * stride, 99))
        maps.append(FeatureMap(part, stride, 24, rgb.astype(np.uint8), 0.5, (0.9, 1)))
    points = np.array([[0.5, 0.5], [0.2, 0.3], [0.9, 0.9], [1.5, 0.5]], dtype=np.float32)
    weights = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    return draw_features(PHOTO, maps, [Samples(8, (0.5, 0.5), points, weights, np.array([0, 0, 1, 1]), (16, 8))])


@pytest.mark.parametrize("draw", [attention, queries, matching, features])
def test_the_picture_is_as_it_was_and_the_same_twice(draw: Callable[[], Figure]) -> None:
    picture = encode(draw(), ".png")
    assert_golden(f"view-{draw.__name__}", picture)
    assert encode(draw(), ".png") == picture


def test_maps_are_laid_where_they_belong() -> None:
    """A map of 2×4 cells of which the photo covers the left half."""
    values = np.array([[0.0, 1.0, 5.0, 5.0], [2.0, 3.0, 5.0, 5.0]])
    assert cells(values, (1, 0.5), (2, 4)).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    np.testing.assert_allclose(smooth(values, (1, 0.5), (2, 2)), [[0, 1], [2, 3]], atol=1e-6)
    np.testing.assert_allclose(smooth(values, (1, 0.5), (1, 1)), 1.5, atol=1e-6)


def test_light_falls_where_it_is_asked_for() -> None:
    backdrop = Backdrop.of(np.full((4, 8, 3), 200, dtype=np.uint8), (8, 8))
    assert backdrop.size == (4, 8)
    picture = lit(backdrop, np.repeat([0.0, 1.0], 4)[None].repeat(4, 0))
    assert (picture[:, 4:] == 200).all()
    assert (picture[:, :4] < 100).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (37, 53)])
def test_photos_of_any_shape_have_a_panel(size: tuple[int, int]) -> None:
    height, width = fitted(size, (100, 100))
    assert 1 <= height <= 100
    assert 1 <= width <= 100
    assert max(height, width) == 100
    assert Backdrop.of(np.zeros((*size, 3), dtype=np.uint8), (100, 100)).size == (height, width)


def test_kinds_of_boxes() -> None:
    boxes = np.array([[0.5, 0.5, 0.01, 0.01], [0.5, 0.5, 0.8, 0.2], [0.5, 0.5, 0.2, 0.8]])
    assert kinds_of(boxes).tolist() == [0, 1, 2]


def test_nothing_used_is_a_picture_too() -> None:
    none = np.zeros((2, 1), dtype=np.int64)
    empty = QueryStatistics(1, ("a",), none, np.zeros((2, 4, 4), np.float32), np.zeros((0, 4), np.float32), none[:0, 0])
    assert encode(draw_queries(empty), ".png")
    assert empty.dead == [0, 1]


def test_names_are_shortened_to_one_line() -> None:
    assert shortened("traffic\nlight", 20) == "traffic light"
    assert shortened("non-building-infrastructure", 12) == "non-buildin…"
