"""Masks to polygons, exactly: outlines run along the edges of pixels, so that filling them gives back every pixel."""

from __future__ import annotations

import numpy as np

from segcli.codecs.opencv import opencv


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The closed outlines of a mask [H, W], int64 [n, 2] x, y each; by the even-odd rule they are the mask, holes too.

    A corner is a grid point with an odd number of mask pixels around it, and counts twice where two pixels touch it
    diagonally. Along a row of the grid corners take turns in beginning and ending an edge, along a column likewise.
    """
    padded = np.pad(mask.astype(np.int8), 1)
    around = padded[:-1, :-1] + padded[:-1, 1:] + padded[1:, :-1] + padded[1:, 1:]
    touching = (around == 2) & (padded[:-1, :-1] == padded[1:, 1:])
    y, x = np.nonzero((around & 1).astype(bool) | touching)
    times = np.where(touching[y, x], 2, 1)
    y, x = np.repeat(y, times), np.repeat(x, times)  # ascending by row
    count = len(y)
    along_row = np.arange(count) ^ 1
    by_column = np.lexsort((y, x))
    along_column = np.empty(count, dtype=np.int64)
    along_column[by_column] = by_column[np.arange(count) ^ 1]
    return _loops(np.stack([x, y], axis=1), along_row.tolist(), along_column.tolist())


def _loops(corners: np.ndarray, along_row: list[int], along_column: list[int]) -> list[np.ndarray]:
    seen = [False] * len(along_row)
    loops = []
    for start in range(len(along_row)):
        if seen[start]:
            continue
        path, corner = [], start
        while not seen[corner]:
            other = along_row[corner]
            seen[corner] = seen[other] = True
            path += [corner, other]
            corner = along_column[other]
        loops.append(corners[path])
    return loops


def one_outline(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """(int64 [n, 2] x, y, seams): the outlines joined into one polygon, for formats that hold one an object.

    Parts and holes hang together by seams: ways there and back along the same grid lines, which enclose nothing.
    """
    loops = outlines(mask)
    return joined_loops(loops), len(loops) - 1


def joined_loops(loops: list[np.ndarray]) -> np.ndarray:
    """Closed lines [n, 2] as one, with ways there and back between them."""
    first, *others = loops
    for loop in others:
        end = loop[0]
        here = int(np.abs(first - end).sum(axis=1).argmin())
        corner = np.array([[end[0], first[here, 1]]])
        first = np.concatenate([first[: here + 1], corner, loop, end[None], corner, first[here:]])
    return first


def parts(mask: np.ndarray, tolerance: float = 0.0) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """(outline, holes) of each connected part of a mask [H, W], float64 [n, 2] x, y each.

    tolerance: pixels that a simplified outline may lie away from the exact one; a part that would vanish stays exact.
    """
    outer: list[tuple[np.ndarray, list[np.ndarray]]] = []
    holes: list[np.ndarray] = []
    for loop in outlines(mask):
        # The pixel below a loop's first corner, top left, is of the part that it goes around, or of the hole.
        x, y = loop[np.lexsort((loop[:, 0], loop[:, 1]))[0]]
        outer.append((loop, [])) if mask[y, x] else holes.append(loop)
    boxes = [(loop.min(axis=0), loop.max(axis=0)) for loop, _ in outer]
    for hole in holes:
        low, high = hole.min(axis=0), hole.max(axis=0)
        around = [i for i, (a, b) in enumerate(boxes) if (a <= low).all() and (high <= b).all()]
        if around:
            outer[min(around, key=lambda i: int(np.prod(boxes[i][1] - boxes[i][0])))][1].append(hole)
    return [(simplified(loop, tolerance), [simplified(h, tolerance) for h in inner]) for loop, inner in outer]


def simplified(loop: np.ndarray, tolerance: float) -> np.ndarray:
    """A closed outline with fewer points, none of the old ones further than `tolerance` from it (Douglas–Peucker)."""
    points = loop.astype(np.float64)
    if tolerance <= 0:
        return points
    cv2 = opencv()
    fewer = cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance, True)[:, 0]
    return fewer.astype(np.float64) if len(fewer) >= 3 else points
