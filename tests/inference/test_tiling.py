"""A scene cut into windows and merged again is the scene."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.codecs.rle import encode
from segcli.errors import UsageError
from segcli.inference.tiling import Box, Merger, windows
from segcli.segments import Segments
from segcli.types import Label, LabelSet, Task

PERSON, CAT, SKY, GRASS = range(4)
LABELS = LabelSet(tuple(Label(i + 1, name, i < SKY) for i, name in enumerate(["person", "cat", "sky", "grass"])))
SIZE = (90, 130)


def scene() -> tuple[np.ndarray, list[int], list[float]]:
    """Ids [H, W] from 1 (0 = void), the class of each and its score."""
    ids = np.zeros(SIZE, dtype=np.uint16)
    ids[:40] = 1  # sky over every window of the upper row
    ids[60:] = 2  # grass
    ids[30:62, 42:70] = 3  # a person where four windows meet
    ids[45:58, 5:41] = 4  # a cat across two windows
    ids[64:80, 20:48] = 5  # two persons that touch, both across the same band
    ids[64:80, 48:76] = 6
    ids[5:9, 100:104] = 7  # a person inside one window
    return ids, [SKY, GRASS, PERSON, CAT, PERSON, PERSON, PERSON], [0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.89]


def cut(ids: np.ndarray, labels: list[int], scores: list[float], box: Box, task: Task) -> Segments:
    """What a perfect model says of one window."""
    here = ids[box.y0 : box.y1, box.x0 : box.x1]
    found = [i for i in np.unique(here).tolist() if i]
    if task == "semantic":
        classes = sorted({labels[i - 1] for i in found})
        number = np.array([0, *(classes.index(label) + 1 if label in classes else 0 for label in labels)])
        return Segments(
            task,
            here.shape,
            LABELS,
            np.array(classes),
            np.full(len(classes), np.nan),
            map=number[here].astype(np.uint16),
        )
    if task == "instance":
        found = [i for i in found if LABELS[labels[i - 1]].isthing]
        rles = tuple(encode(here == i) for i in found)
        return Segments(task, here.shape, LABELS, *arrays(found, labels, scores), rles=rles)
    number = np.zeros(len(labels) + 1, dtype=np.uint16)
    number[found] = np.arange(1, len(found) + 1)
    return Segments(task, here.shape, LABELS, *arrays(found, labels, scores), map=number[here], best_score=0.99)


def arrays(found: list[int], labels: list[int], scores: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([labels[i - 1] for i in found], int), np.array([scores[i - 1] for i in found], np.float32)


def merged(task: Task, tile: int = 56, overlap: float = 0.25, backwards: bool = False) -> Segments:
    boxes = windows(SIZE, tile, overlap)
    merger = Merger(boxes)
    for box in reversed(boxes) if backwards else boxes:
        merger.add(box, cut(*scene(), box, task))
    return merger.result()


def test_what_windows_show_twice_is_there_once() -> None:
    boxes = windows(SIZE, 56, 0.25)
    merger = Merger(boxes)
    for box in boxes:
        seen = cut(*scene(), box, "instance")
        assert seen.rles is not None
        twice = Segments(
            "instance",
            seen.size,
            LABELS,
            np.tile(seen.labels, 2),
            np.concatenate([seen.scores, seen.scores / 2]),
            rles=seen.rles * 2,
        )
        merger.add(box, twice)
    got, expected = merger.result(), merged("instance")
    assert got.scores.tolist() == expected.scores.tolist()
    assert [mask.tolist() for mask in got.masks()] == [mask.tolist() for mask in expected.masks()]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("tile", [40, 56, 1000])
@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_windows_merge_into_the_scene(task: Task, tile: int, backwards: bool) -> None:
    truth = cut(*scene(), Box(0, 0, SIZE[1], SIZE[0]), task)
    if task != "semantic":  # a result comes by descending score
        assert truth.scores.tolist() == sorted(truth.scores, reverse=True)
    got = merged(task, tile, backwards=backwards)
    assert got.labels.tolist() == truth.labels.tolist()
    np.testing.assert_array_equal(got.scores, truth.scores)
    np.testing.assert_array_equal(got.id_map(), truth.id_map())
    if task == "panoptic":
        assert got.best_score == 0.99


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(16, 40),
    st.sampled_from([0.1, 0.3, 0.6]),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=4),
)
def test_overlapping_rectangles_survive(
    size: tuple[int, int], tile: int, overlap: float, corners: list[tuple[float, ...]]
) -> None:
    """Instances of different classes may overlap, cross any number of windows and touch the photo's edges."""
    labels = LabelSet(tuple(Label(i, str(i), True) for i in range(len(corners))))
    masks = np.zeros((len(corners), *size), dtype=bool)
    for mask, (a, b, c, d) in zip(masks, corners, strict=True):
        # 1.0 is the last pixel, not the one after it.
        y0, y1 = sorted(min(int(v * size[0]), size[0] - 1) for v in (a, b))
        x0, x1 = sorted(min(int(v * size[1]), size[1] - 1) for v in (c, d))
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    boxes = windows(size, tile, overlap)
    merger = Merger(boxes)
    for box in boxes:
        here = masks[:, box.y0 : box.y1, box.x0 : box.x1]
        found = np.flatnonzero(here.any((1, 2)))
        rles = tuple(encode(here[i]) for i in found)
        merger.add(box, Segments("instance", here.shape[1:], labels, found, 1 - found / 10, rles=rles))
    segments = merger.result()
    assert segments.labels.tolist() == list(range(len(corners)))
    for got, mask in zip(segments.masks(), masks, strict=True):
        np.testing.assert_array_equal(got, mask)


def test_a_view_that_is_cut_short_is_still_the_same_thing() -> None:
    """Masks are poorer at a window's rim: one view may miss half of the other's part."""
    boxes = windows((20, 50), 30, 0.33)
    assert boxes == [Box(0, 0, 30, 20), Box(20, 0, 50, 20)]
    left, right = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    left[5:15, 10:25] = True  # x 10..24 of the photo, 5 columns in the band
    right[5:15, 2:22] = True  # x 22..41, 8 in the band, 3 in common
    merger = Merger(boxes)
    for box, mask, score in zip(boxes, (left, right), (0.7, 0.9), strict=True):
        merger.add(
            box, Segments("instance", (20, 30), LABELS, np.array([CAT]), np.array([score]), rles=(encode(mask),))
        )
    segments = merger.result()
    assert segments.boxes().tolist() == [[10, 5, 42, 15]]
    assert segments.areas().tolist() == [320]
    assert segments.scores.tolist() == [pytest.approx(0.9)]


def test_what_only_one_window_sees_is_not_cut_at_the_middle_of_the_band() -> None:
    boxes = windows((20, 50), 30, 0.33)
    seen = np.zeros((20, 30), np.uint16)
    seen[5:15, 18:30] = 1
    for first in (0, 1):
        merger = Merger(boxes)
        for i in (first, 1 - first):
            ids = seen if i == 0 else np.zeros_like(seen)
            found = np.zeros(int(ids.max()), int)
            merger.add(boxes[i], Segments("panoptic", (20, 30), LABELS, found, np.ones(len(found)), map=ids))
        assert merger.result().boxes().tolist() == [[18, 5, 30, 15]]


def test_one_blob_is_not_joined_to_both_of_its_persons() -> None:
    boxes = windows((20, 50), 30, 0.33)
    blob, person, other = (np.zeros((20, 30), bool) for _ in range(3))
    blob[2:18, 15:30], person[2:11, 0:15], other[11:18, 0:15] = True, True, True
    merger = Merger(boxes)
    merger.add(boxes[0], Segments("instance", (20, 30), LABELS, np.zeros(1, int), np.ones(1), rles=(encode(blob),)))
    rles = (encode(person), encode(other))
    merger.add(boxes[1], Segments("instance", (20, 30), LABELS, np.zeros(2, int), np.array([0.9, 0.8]), rles=rles))
    assert len(merger.result()) == 2


def test_a_shadow_of_low_score_does_not_take_the_partner() -> None:
    """Files for evaluation hold every candidate, so one thing comes several times, each a little different."""
    boxes = windows((20, 50), 30, 0.33)
    thing, wide = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    thing[5:15, 22:28], wide[3:17, 20:30] = True, True
    merger = Merger(boxes)
    rles = (encode(thing), encode(thing), encode(wide))
    scores = np.array([0.9, 0.2, 0.1])
    merger.add(boxes[0], Segments("instance", (20, 30), LABELS, np.zeros(3, int), scores, rles=rles))
    thing, wide = np.roll(thing, -20, axis=1), np.roll(wide, -20, axis=1)
    rles = (encode(thing), encode(wide))
    merger.add(boxes[1], Segments("instance", (20, 30), LABELS, np.zeros(2, int), np.array([0.8, 0.05]), rles=rles))
    segments = merger.result()
    assert [round(float(score), 2) for score in segments.scores] == [0.9, 0.1]  # the one of 0.2 is the first again
    assert segments.areas().tolist() == [60, 140]


def test_a_shadow_that_fits_better_does_not_take_the_partner() -> None:
    """The second window is sure of a thing that is a little wider in the band, and unsure of the band's part alone."""
    boxes = windows((20, 50), 30, 0.33)  # columns 0 … 29 and 20 … 49
    left, right, shadow = (np.zeros((20, 30), bool) for _ in range(3))
    left[5:15, 24:30], right[4:15, 4:20], shadow[5:15, 4:10] = True, True, True
    merger = Merger(boxes)
    merger.add(
        boxes[0], Segments("instance", (20, 30), LABELS, np.zeros(1, int), np.array([0.9]), rles=(encode(left),))
    )
    rles = (encode(right), encode(shadow))
    merger.add(boxes[1], Segments("instance", (20, 30), LABELS, np.zeros(2, int), np.array([0.8, 0.1]), rles=rles))
    segments = merger.result()
    assert [round(float(score), 2) for score in segments.scores] == [0.9, 0.1]
    assert segments.areas().tolist() == [11 * 16, 10 * 6]


def test_more_segments_than_sixteen_bits_hold() -> None:
    ids = np.arange(1, 401, dtype=np.uint16).reshape(20, 20)
    boxes = windows((20, 20 * 165), 20, 0.0)
    merger = Merger(boxes)
    for box in boxes:
        merger.add(box, Segments("panoptic", (20, 20), LABELS, np.zeros(400, int), np.ones(400), map=ids))
    segments = merger.result()
    assert len(segments) == 400 * 165 > np.iinfo(np.uint16).max
    assert segments.map is not None
    assert len(np.unique(segments.map)) == segments.map.size


def test_nothing_found_anywhere() -> None:
    boxes = windows((10, 10), 6, 0.2)
    for task in ("panoptic", "instance"):
        merger = Merger(boxes)
        for i, box in enumerate(boxes):
            size = (box.y1 - box.y0, box.x1 - box.x0)
            empty = {"rles": ()} if task == "instance" else {"map": np.zeros(size, np.uint16)}
            merger.add(box, Segments(task, size, LABELS, np.zeros(0, int), np.zeros(0), best_score=i / 10, **empty))
        segments = merger.result()
        assert len(segments) == 0
        assert segments.best_score == pytest.approx((len(boxes) - 1) / 10)


@given(st.tuples(st.integers(1, 300), st.integers(1, 300)), st.integers(1, 120), st.floats(0, 0.9))
def test_windows_cover_the_photo_and_share_enough(size: tuple[int, int], tile: int, overlap: float) -> None:
    tile = max(tile, min(size) // 8, 2)
    boxes = windows(size, tile, overlap)
    covered = np.zeros(size, dtype=int)
    for x0, y0, x1, y1 in boxes:
        assert (y1 - y0, x1 - x0) == (min(tile, size[0]), min(tile, size[1]))
        covered[y0:y1, x0:x1] += 1
    assert covered.all()
    assert len(set(boxes)) == len(boxes)
    for axis in (0, 1):
        spans = sorted({(box[axis], box[axis + 2]) for box in boxes})
        shares = [before[1] - after[0] for before, after in pairwise(spans)]
        assert all(share >= min(overlap * tile - 1e-9, tile - 1) for share in shares)


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.2), (64, 1.0), (64, -0.1)])
def test_impossible_windows(tile: int, overlap: float) -> None:
    with pytest.raises(UsageError, match="overlap"):
        windows((100, 100), tile, overlap)
