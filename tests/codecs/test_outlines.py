"""Outlines give back every pixel, as one polygon too."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcli.codecs.outlines import one_outline, outlines
from segcli.codecs.polygons import fill

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any)


def test_a_ring_is_two_loops_and_one_seam() -> None:
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool)
    outer, inner = outlines(ring)
    assert sorted(map(tuple, outer.tolist())) == [(0, 0), (0, 3), (3, 0), (3, 3)]
    assert sorted(map(tuple, inner.tolist())) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    polygon, seams = one_outline(ring)
    assert seams == 1
    np.testing.assert_array_equal(fill([polygon], ring.shape), ring)


@given(MASKS)
def test_one_polygon_holds_any_mask(mask: np.ndarray) -> None:
    polygon, _ = one_outline(mask)
    np.testing.assert_array_equal(fill([polygon], mask.shape), mask)
    steps = np.roll(polygon, -1, axis=0) - polygon
    assert (np.abs(steps).min(axis=1) == 0).all()  # along the grid, so that rounding cannot move a pixel
