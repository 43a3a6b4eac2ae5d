"""Shapes are scikit-image's: one pixel, lines, discs, holes, pieces apart, and noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcli.codecs.shape_measures import measure

regionprops = pytest.importorskip("skimage.measure").regionprops


def check(mask: np.ndarray) -> None:
    [theirs] = regionprops(mask.astype(np.uint8))
    ours = measure(mask, 10, 20)
    assert ours.centroid == pytest.approx((theirs.centroid[1] + 10, theirs.centroid[0] + 20))
    assert ours.perimeter == pytest.approx(theirs.perimeter)
    assert ours.solidity == pytest.approx(theirs.solidity)
    assert ours.eccentricity == pytest.approx(theirs.eccentricity, abs=1e-6)
    if ours.eccentricity > 0.01:  # a disc lies in every direction
        assert np.sin(2 * (ours.orientation - theirs.orientation)) == pytest.approx(0, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))).filter(np.any))
def test_any_mask(mask: np.ndarray) -> None:
    check(mask)


@pytest.mark.parametrize("tilt", [0.0, 0.4, 1.2, 2.6])
def test_ellipses(tilt: float) -> None:
    y, x = np.mgrid[-60:61, -70:71]
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    check((u / 50) ** 2 + (v / 20) ** 2 < 1)
    check(np.hypot(u / 30, v / 30) < 1)
