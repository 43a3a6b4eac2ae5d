"""Shades of one colour, so that instances of one class that touch can be told apart in their class's colour."""

from __future__ import annotations

import math

import numpy as np

_LIGHTNESS = (0.0, 0.4, -0.35, 0.65)  # of each shade: a share of white, or below 0 of black
_LINES = 1000  # rows and columns that are looked at


def shaded(colours: np.ndarray, paint: np.ndarray, labels: np.ndarray, things: np.ndarray, reach: int) -> np.ndarray:
    """The colours, uint8 [N, 3], with another shade for a thing beside one of its class. The first keeps its colour.

    Args:
        colours: uint8 [N, 3], labels: [N], things: bool [N] of the segments; paint: ids [H, W], i + 1 = segment i.
        reach: pixels; things that are nearer than twice as many along a row or column are neighbours.
    """
    levels = np.zeros(len(colours), dtype=np.int64)
    neighbours: dict[int, set[int]] = {}
    for one, other in _adjacent(paint, 2 * reach).tolist():
        if labels[one] == labels[other] and things[one]:
            neighbours.setdefault(max(one, other), set()).add(min(one, other))
    for index in sorted(neighbours):  # those before it have their shades
        used = [int(levels[other]) for other in neighbours[index]]
        levels[index] = min(range(len(_LIGHTNESS)), key=lambda level: (used.count(level), level))
    share = np.array(_LIGHTNESS)[levels][:, None]
    lighter = colours + (255.0 - colours) * share.clip(min=0)
    return (lighter * (1 + share.clip(max=0))).round().astype(np.uint8)


def _adjacent(paint: np.ndarray, gap: int) -> np.ndarray:
    """Pairs of segments [P, 2] with at most so many pixels between them."""
    step = max(1, math.isqrt(paint.size) // _LINES)
    found = [np.zeros((0, 2), dtype=np.int64)]
    for ids in (paint[::step], paint.T[::step]):
        for distance in {1, 1 + gap}:
            before, after = ids[:, :-distance], ids[:, distance:]
            apart = (before != after) & (before != 0) & (after != 0)
            found.append(np.stack([before[apart], after[apart]], axis=1).astype(np.int64) - 1)
    return np.unique(np.concatenate(found), axis=0)
