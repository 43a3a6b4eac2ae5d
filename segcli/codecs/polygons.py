"""Polygons to pixels: a pixel belongs to a polygon if its centre does (even-odd rule), at any scale and offset.

Written out in numpy because the drawing libraries also paint every pixel the outline touches, which makes objects half
a pixel larger on each side: on small objects that costs more than any loss term. pycocotools traces the outline on a
grid five times finer and agrees with the centre rule except along the outline (tests/codecs/test_polygons.py measures
both). Coordinates are continuous, as in COCO: the top left pixel covers [0, 1] × [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def fill(polygons: Iterable[np.ndarray], size: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """The union of polygons (each float [n, 2] x, y in pixels) as bool [H, W].

    What lies outside of the frame is cut off; a polygon that encloses no pixel centre adds nothing. `out`: a bool
    [H, W] array to add to, instead of a new one.
    """
    mask = np.zeros(size, dtype=bool) if out is None else out
    for polygon in polygons:
        _fill_one(polygon, mask)
    return mask


def _fill_one(polygon: np.ndarray, mask: np.ndarray) -> None:
    height, width = mask.shape
    start = np.asarray(polygon, dtype=np.float64)
    end = np.roll(start, -1, axis=0)
    x0, y0 = start.T
    x1, y1 = end.T
    # An edge crosses the centre line of rows ceil(low - 0.5) … ceil(high - 0.5) - 1: half open, so that a vertex on a
    # centre line counts once.
    first = np.ceil(np.minimum(y0, y1) - 0.5).clip(0, height).astype(np.int64)
    last = np.ceil(np.maximum(y0, y1) - 0.5).clip(0, height).astype(np.int64)
    crossings = last - first
    total = int(crossings.sum())
    if not total:
        return
    edge = np.repeat(np.arange(len(start)), crossings)
    row = np.arange(total) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    slope = np.divide(x1 - x0, y1 - y0, out=np.zeros_like(x0), where=y1 != y0)
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
    column = np.ceil(x - 0.5).clip(0, width).astype(np.int64)  # the first pixel whose centre is at or behind the edge
    top, bottom = int(row.min()), int(row.max()) + 1
    left, right = int(column.min()), int(column.max())
    if left == right:
        return
    span = right - left + 1
    toggles = np.bincount((row - top) * span + (column - left), minlength=(bottom - top) * span)
    inside = np.cumsum(toggles.reshape(bottom - top, span).astype(np.uint8), axis=1, dtype=np.uint8) & 1
    mask[top:bottom, left:right] |= inside[:, :-1].astype(bool)
