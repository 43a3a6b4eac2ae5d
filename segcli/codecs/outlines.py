"""Masks to polygons, exactly: outlines run along the edges of pixels, so that filling them gives back every pixel."""

from __future__ import annotations

import numpy as np


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
    first, *others = outlines(mask)
    for loop in others:
        end = loop[0]
        here = int(np.abs(first - end).sum(axis=1).argmin())
        corner = np.array([[end[0], first[here, 1]]])
        first = np.concatenate([first[: here + 1], corner, loop, end[None], corner, first[here:]])
    return first, len(others)
