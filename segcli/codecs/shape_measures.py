"""Measures of a mask's shape, as scikit-image's `regionprops` defines them (the perimeter by Benkrid and
Crookes, 2000; moments of pixel centres; the hull of pixel edges' midpoints)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# What a pixel of the border adds to the perimeter, by how its neighbours on the border lie: straight, diagonal, both.
_STRAIGHT, _DIAGONAL = 1.0, math.sqrt(2)
_ADDS = dict.fromkeys((5, 7, 15, 17, 25, 27), _STRAIGHT) | dict.fromkeys((21, 33), _DIAGONAL)
_ADDS |= dict.fromkeys((13, 23), (1 + math.sqrt(2)) / 2)


_EXACT = 1e-9


@dataclass(frozen=True)
class Shape:
    """Of one mask, in pixels of the image."""

    centroid: tuple[float, float]  # x, y
    perimeter: float
    eccentricity: float  # of the ellipse of equal second moments: 0 is a circle, 1 a line
    orientation: float  # radians from the rows' axis to that ellipse's long axis, −π/2 … π/2, counter-clockwise
    solidity: float  # share of its convex hull that the mask fills


def measure(mask: np.ndarray, x: int = 0, y: int = 0) -> Shape:
    """The shape of a mask, bool [h, w] with at least one pixel, whose corner lies at x, y of the image."""
    rows, columns = np.nonzero(mask)
    center_y, center_x = float(rows.mean()), float(columns.mean())
    dy, dx = rows - center_y, columns - center_x
    yy, xx, xy = float((dy * dy).mean()), float((dx * dx).mean()), float((dx * dy).mean())
    # The inertia tensor has the axes' variances crosswise; regionprops takes its eigenvalues.
    half, root = (xx + yy) / 2, math.sqrt(((xx - yy) / 2) ** 2 + xy * xy)
    large, small = half + root, max(0.0, half - root)
    if xx == yy:
        orientation = math.pi / 4 if xy > 0 else -math.pi / 4
    else:
        orientation = 0.5 * math.atan2(2 * xy, yy - xx)
    return Shape(
        centroid=(x + center_x, y + center_y),
        perimeter=_perimeter(mask),
        eccentricity=math.sqrt(1 - small / large) if large > 0 else 0.0,
        orientation=orientation,
        solidity=len(rows) / _hull_area(mask),
    )


def _perimeter(mask: np.ndarray) -> float:
    padded = np.pad(mask, 2).astype(np.uint8)
    core = padded[1:-1, 1:-1]
    inner = core & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    border = np.pad(core - inner, 1).astype(np.uint8)
    own = border[1:-1, 1:-1]
    straight = border[:-2, 1:-1] + border[2:, 1:-1] + border[1:-1, :-2] + border[1:-1, 2:]
    diagonal = border[:-2, :-2] + border[:-2, 2:] + border[2:, :-2] + border[2:, 2:]
    kinds = np.bincount((own * (1 + 2 * straight + 10 * diagonal)).ravel(), minlength=50)
    return float(sum(weight * kinds[kind] for kind, weight in _ADDS.items()))


def _hull_area(mask: np.ndarray) -> int:
    """Pixels whose centre lies in the convex hull of the midpoints of the mask's pixel edges (in halves of a pixel)."""
    rows = np.flatnonzero(mask.any(axis=1))
    left = mask[rows].argmax(axis=1)
    right = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    points: set[tuple[int, int]] = set()  # y, x
    for y, first, last in zip((2 * rows).tolist(), (2 * left).tolist(), (2 * right).tolist(), strict=True):
        points |= {(y, first - 1), (y, last + 1)}
        points |= {(y + step, x) for x in (first, last) for step in (-1, 1)}
    ordered = sorted(points)
    at = np.arange(2 * rows[0], 2 * rows[-1] + 1, 2)
    sides = [np.array(_chain(ordered)), np.array(_chain(ordered[::-1])[::-1])]  # from the top down
    reach = np.sort([np.interp(at, *side.T) for side in sides], axis=0)
    # Crossings lie on halves of a pixel or at least 1 / height away from them.
    counts = np.floor(reach[1] / 2 + _EXACT) - np.ceil(reach[0] / 2 - _EXACT) + 1
    return int(counts.clip(0).sum())


def _chain(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """One half of the convex hull of sorted points (Andrew's monotone chain)."""
    hull: list[tuple[int, int]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                break
            hull.pop()
        hull.append((x, y))
    return hull
