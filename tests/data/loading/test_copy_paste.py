"""What is pasted lies on top, hides what is below, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segcli.data.loading.copy_paste import with_pasted
from segcli.data.loading.transforms import Example, boxes_of

THING, STUFF = 0, 1


def example(rows: list[str], labels: dict[str, int], colour: int) -> Example:
    """Each letter is an object, a dot is none of them."""
    letters = np.array([list(row) for row in rows])
    masks = np.array([letters == letter for letter in labels], dtype=bool).reshape(-1, *letters.shape)
    return Example(
        np.full((*letters.shape, 3), colour, dtype=np.uint8), masks, np.array(list(labels.values()), dtype=np.int64),
        boxes_of(masks), np.zeros(len(labels), dtype=bool), Path("a.png"), "a",
    )  # fmt: skip


def drawn(found: Example) -> list[str]:
    """Its masks, by their numbers."""
    ids = (found.masks * np.arange(1, len(found.masks) + 1)[:, None, None]).sum(axis=0)
    return ["".join(".123456789"[i] for i in row) for row in ids]


BELOW = example(["aaabbb", "aaabbb", "cc.bbb", "ssssss"], {"a": THING, "b": THING, "c": THING, "s": STUFF}, 10)


def test_what_is_below_loses_what_is_hidden() -> None:
    """a is hidden, c untouched, b loses a corner; the stuff above stays where it was."""
    above = example(["xxxx..", "xxxx..", "......", "..tttt"], {"x": THING, "t": STUFF}, 200)
    found = with_pasted(BELOW, above, {THING}, np.random.default_rng(0))
    assert found.labels.tolist() == [THING, THING, STUFF, THING]
    assert drawn(found) == ["444411", "444411", "22.111", "333333"]
    np.testing.assert_array_equal(found.boxes, boxes_of(found.masks))
    assert found.image[0, 0, 0] > 180
    assert found.image[3, 5, 0] <= 11
    softened = found.image[0, :, 0].astype(int)
    assert (np.diff(softened) <= 0).all()
    assert 10 < softened[4] < softened[3] < 200
    assert (BELOW.image == 10).all()


def test_a_sliver_is_no_object_but_stuff_is_stuff_to_its_last_pixel() -> None:
    below = example(["a" * 12, "s" * 12], {"a": THING, "s": STUFF}, 0)
    above = example(["x" * 11 + ".", "x" * 11 + "."], {"x": THING}, 9)
    found = with_pasted(below, above, {THING}, np.random.default_rng(0))
    assert drawn(found) == ["2" * 11 + ".", "2" * 11 + "1"]
    assert found.labels.tolist() == [STUFF, THING]


def test_crowds_and_stuff_are_never_pasted() -> None:
    above = example(["xx....", "tttttt", "......", "......"], {"x": THING, "t": STUFF}, 9)
    above.crowd[0] = True
    assert with_pasted(BELOW, above, {THING}, np.random.default_rng(0)) is BELOW


def test_a_smaller_picture_lies_anywhere_within_and_a_larger_one_is_cut() -> None:
    small, large = example(["x"], {"x": THING}, 200), example(["x" * 9] * 9, {"x": THING}, 200)
    draws = [with_pasted(BELOW, small, {THING}, np.random.default_rng(seed)) for seed in range(250)]
    assert len({tuple(np.argwhere(found.masks[-1])[0]) for found in draws}) == 24
    assert drawn(with_pasted(BELOW, large, {THING}, np.random.default_rng(0))) == ["111111"] * 4


@st.composite
def examples(draw: st.DrawFn) -> Example:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    ids = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 5, (height, width))
    masks = np.array([ids == i for i in range(1, 5) if (ids == i).any()], dtype=bool).reshape(-1, height, width)
    labels = np.array([draw(st.integers(0, 1)) for _ in masks], dtype=np.int64)
    image = np.full((height, width, 3), draw(st.integers(0, 255)), dtype=np.uint8)
    return Example(image, masks, labels, boxes_of(masks), np.zeros(len(masks), dtype=bool), Path("a.png"), "a")


@settings(max_examples=60)
@given(examples(), examples(), st.integers(0, 2**31))
def test_masks_stay_disjoint_and_nothing_is_made_up(below: Example, above: Example, seed: int) -> None:
    found = with_pasted(below, above, {THING}, np.random.default_rng(seed))
    assert found.image.shape == below.image.shape
    assert found.masks.shape == (len(found.labels), *below.image.shape[:2])
    assert found.masks.sum(axis=0).max(initial=0) <= 1
    assert found.masks.any(axis=(1, 2)).all()
    assert len(found.boxes) == len(found.crowd) == len(found.labels)
    things = (above.labels == THING).sum()
    assert len(found.labels) <= len(below.labels) + things
    assert (found.labels == STUFF).sum() <= (below.labels == STUFF).sum()
    same = with_pasted(below, above, {THING}, np.random.default_rng(seed))
    np.testing.assert_array_equal(found.image, same.image)
    np.testing.assert_array_equal(found.masks, same.masks)
