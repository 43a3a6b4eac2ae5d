"""Counting on runs equals counting pixels; maps of overlapping objects show the smaller one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from segcli.codecs.rle import encode
from segcli.data.objects import overlapping, painted, rles_of, upright
from segcli.data.truth import ShapeTruth, Window

PAIRS = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(lambda size: arrays(bool, (3, *size)))


@given(PAIRS)
def test_shared_pixels(masks: np.ndarray) -> None:
    rles = [encode(mask) for mask in masks]
    assert rles[0].common(rles[1:2])[0] == (masks[0] & masks[1]).sum()
    expected = {(i, j): int((masks[i] & masks[j]).sum()) for i in range(3) for j in range(i + 1, 3)}
    assert {(i, j): n for i, j, n in overlapping(rles)} == {pair: n for pair, n in expected.items() if n}


def test_polygons_become_the_masks_that_training_sees() -> None:
    rng = np.random.default_rng(0)
    shapes = [[rng.uniform(-5, 45, (5, 2)), rng.uniform(0, 40, (3, 2))] for _ in range(20)]
    truth = ShapeTruth((40, 37), shapes, np.zeros(20, dtype=np.int64), np.zeros(20, dtype=bool))
    index, masks = truth.crop(Window.whole(truth.size))
    for number, rle in enumerate(rles_of(truth)):
        expected = masks[index.tolist().index(number)] if number in index else np.zeros(truth.size, dtype=bool)
        np.testing.assert_array_equal(rle.decode(), expected)


def test_the_smaller_object_is_seen_and_any_before_a_crowd() -> None:
    large, small, crowd = (np.zeros((1, 6), dtype=bool) for _ in range(3))
    large[0, :4], small[0, 3], crowd[0, 4:], crowd[0, 0] = True, True, True, True
    shapes = [encode(mask) for mask in (small, large, crowd)]
    result = painted(ShapeTruth((1, 6), shapes, np.array([1, 1, 2]), np.array([False, False, True])))
    assert result.ids.tolist() == [[2, 2, 2, 1, 3, 3]]
    assert (result.shared, result.mixed) == (2, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_viewers_turn_them(orientation: int) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(upright(stored, orientation), ImageOps.exif_transpose(Image.open(buffer)))
