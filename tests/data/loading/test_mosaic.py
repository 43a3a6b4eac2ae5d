"""Four pictures in one: each in its corner, its masks where its pixels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.data.loading.mosaic import GREY, mosaic
from segcli.data.loading.transforms import Example, boxes_of

THING, STUFF = 0, 1


def plain(number: int, size: tuple[int, int], label: int = THING) -> Example:
    """One colour, and one object all over it."""
    masks = np.ones((1, *size), dtype=bool)
    image = np.full((*size, 3), number, dtype=np.uint8)
    return Example(image, masks, np.array([label]), boxes_of(masks), np.zeros(1, dtype=bool), Path("a.png"), "a")


def test_corners_are_in_reading_order() -> None:
    found = mosaic([plain(i, (40, 60)) for i in (1, 2, 3, 4)], {STUFF}, np.random.default_rng(0))
    assert found.image.shape == (40, 60, 3)
    assert [found.image[y, x, 0] for y in (0, -1) for x in (0, -1)] == [1, 2, 3, 4]
    assert found.labels.tolist() == [THING] * 4
    for number, mask in enumerate(found.masks, start=1):
        np.testing.assert_array_equal(mask, found.image[..., 0] == number)


def test_stuff_is_one_segment_and_things_are_not() -> None:
    parts = [plain(1, (40, 40), STUFF), plain(2, (40, 40)), plain(3, (40, 40)), plain(4, (40, 40), STUFF)]
    found = mosaic(parts, {STUFF}, np.random.default_rng(0))
    assert found.labels.tolist() == [STUFF, THING, THING]
    np.testing.assert_array_equal(found.masks[0], np.isin(found.image[..., 0], (1, 4)))


def test_small_pictures_meet_in_the_middle_and_the_rest_is_grey() -> None:
    parts = [plain(1, (8, 8)), plain(2, (80, 80)), plain(3, (8, 8)), plain(4, (8, 8))]
    found = mosaic(parts, {STUFF}, np.random.default_rng(0))
    assert found.image[0, 0, 0] == GREY
    assert not found.masks[:, found.image[..., 0] == GREY].any()
    rows, columns = np.where(np.isin(found.image[..., 0], (1, 3, 4)))
    assert (np.ptp(rows), np.ptp(columns)) == (15, 15)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 9)), min_size=4, max_size=4),
    st.integers(0, 99),
)
def test_masks_are_disjoint_and_none_is_a_sliver(sizes: list[tuple[int, int, int]], seed: int) -> None:
    parts = []
    for height, width, start in sizes:
        ids = np.random.default_rng(start).integers(0, 4, (height, width))
        masks = np.array([ids == i for i in (1, 2, 3) if (ids == i).any()], dtype=bool).reshape(-1, height, width)
        labels = np.arange(len(masks)) % 2
        crowd = np.zeros(len(masks), dtype=bool)
        image = np.zeros((height, width, 3), dtype=np.uint8)
        parts.append(Example(image, masks, labels, boxes_of(masks), crowd, Path("a.png"), "a"))
    found = mosaic(parts, {STUFF}, np.random.default_rng(seed))
    assert found.image.shape == (max(s[0] for s in sizes), max(s[1] for s in sizes), 3)
    assert found.masks.shape == (len(found.labels), *found.image.shape[:2])
    assert found.masks.sum(axis=0).max(initial=0) <= 1
    assert found.masks.any(axis=(1, 2)).all()
    assert (found.labels == STUFF).sum() <= 1
    assert len(found.boxes) == len(found.crowd) == len(found.labels)
    assert found.masks.sum() <= sum(int(part.masks.sum()) for part in parts)
