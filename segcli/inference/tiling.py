"""A large photo in overlapping windows, and their results merged.

Small objects of a large photo vanish when it is shrunk to the network's input size; in windows they do not. The
results are merged in the photo's frame: the same thing seen by two windows is recognised by its part in the
band they share, a stuff class is one segment, and in a band every pixel of an id map comes from the window whose
centre is nearer, or from the other if that one says nothing. Instances that repeat a better one are dropped. Beside
the result's id map only the windows that still have neighbours to come are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from segcli.codecs.rle import RLE, encode, from_runs
from segcli.errors import UsageError
from segcli.postprocess.repeats import without_repeats
from segcli.postprocess.tiles import histogram, renumber
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS

_REPEATS = 0.6  # IoU from which an instance is a better one again, in a window or after merging
_SAME = 0.5  # share of the smaller part, inside the band, that two views of one thing have in common


class Box(NamedTuple):
    """Pixels x0 ≤ x < x1, y0 ≤ y < y1 of the photo."""

    x0: int
    y0: int
    x1: int
    y1: int

    def __and__(self, other: tuple[int, ...]) -> Box:
        """The common part; empty (x1 ≤ x0 or y1 ≤ y0) if there is none."""
        x0, y0, x1, y1 = other
        return Box(max(self.x0, x0), max(self.y0, y0), min(self.x1, x1), min(self.y1, y1))

    @property
    def area(self) -> int:
        return max(0, self.x1 - self.x0) * max(0, self.y1 - self.y0)


def windows(size: tuple[int, int], tile: int, overlap: float) -> list[Box]:
    """Windows of `tile` pixels a side that cover a photo of `size` = (H, W), row by row.

    They are evenly spaced, and neighbours share at least the fraction `overlap` of a side. A photo side shorter than
    `tile` has one window of its own length.

    Raises:
        UsageError: a tile below 1 pixel, or an overlap outside 0 ≤ overlap < 1.
    """
    rows, columns = (_spans(length, tile, overlap) for length in size)
    return [Box(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def _spans(length: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    if tile < 1 or not 0 <= overlap < 1:
        raise UsageError(f"tiles of {tile} pixels overlapping by {overlap}: need at least 1 pixel and 0 ≤ overlap < 1")
    if length <= tile:
        return [(0, length)]
    step = max(1, math.floor(tile * (1 - overlap)))
    count = 1 + math.ceil((length - tile) / step)
    starts = [i * (length - tile) // (count - 1) for i in range(count)]
    return [(start, start + tile) for start in starts]


@dataclass
class _View:
    """One window's segments; `ids` [N] are their places in the merger's list of parts."""

    box: Box
    segments: Segments
    ids: np.ndarray

    def parts(self, band: Box) -> list[_Part]:
        """The things that reach into a region of the photo, each cut to it."""
        things = np.flatnonzero(self.segments.isthing())
        boxes = self.segments.boxes()[things] + np.array([self.box.x0, self.box.y0] * 2)
        result = []
        for index, box in zip(things.tolist(), boxes.tolist(), strict=True):
            inside = band & tuple(box)
            if inside.area:
                x, y, mask = self.segments.crop(index)
                x, y = x + self.box.x0, y + self.box.y0
                mask = mask[inside.y0 - y : inside.y1 - y, inside.x0 - x : inside.x1 - x]
                frame, offset = (band.y1 - band.y0, band.x1 - band.x0), (inside.x0 - band.x0, inside.y0 - band.y0)
                if mask.any():
                    label = int(self.segments.labels[index])
                    result.append(_Part(int(self.ids[index]), label, inside, encode(mask, frame, offset)))
        return result


class _Part(NamedTuple):
    """The part of one thing that a window sees in a band."""

    id: int
    label: int
    box: Box
    mask: RLE  # in the frame of the band


def _alike(left: Sequence[_Part], right: Sequence[_Part]) -> np.ndarray:
    """Which are of one class and have boxes that meet -> bool [M, N]: few, of thousands of pairs."""
    one, other = (np.array([part.box for part in parts]) for parts in (left, right))
    first = np.maximum(one[:, None, :2], other[None, :, :2])
    last = np.minimum(one[:, None, 2:], other[None, :, 2:])
    labels = [np.array([part.label for part in parts]) for parts in (left, right)]
    return (first < last).all(-1) & (labels[0][:, None] == labels[1][None, :])


class Merger:
    """Collects the results of the windows that `windows` gave, in any order, into one of the photo's size."""

    def __init__(self, boxes: list[Box]) -> None:
        self._size = (max(box.y1 for box in boxes), max(box.x1 for box in boxes))
        self._waiting = set(boxes)
        self._owned = _ownership(boxes)
        self._views: list[_View] = []  # things of windows with neighbours still to come
        self._like: Segments | None = None  # any window's result, for the task and the label set
        self._map = np.zeros(self._size, dtype=np.uint16)  # part + 1, or 0 = nothing
        self._best = -math.inf
        self._labels: list[int] = []  # of every part, as are the scores, parents and pieces
        self._scores: list[float] = []
        self._parents: list[int] = []  # union-find: parts of one segment lead to one root
        self._pieces: list[tuple[Box, RLE]] = []  # instances only
        self._merged: dict[int, int] = {}  # class -> its part, where a class is one segment

    def add(self, box: Box, segments: Segments) -> None:
        """Take the result of one window, in the window's own frame."""
        self._waiting.remove(box)
        if segments.rles is not None:  # else the repeat of a part in one window is a fragment beside the whole
            segments = without_repeats(segments, _REPEATS)
        self._like = segments
        self._best = max(self._best, segments.best_score)
        view = _View(box, segments, self._register(box, segments))
        if segments.task != "semantic":
            for other in self._views:
                self._match(other, view)
            self._views = [
                seen for seen in [*self._views, view] if any((seen.box & coming).area for coming in self._waiting)
            ]
        if segments.map is not None:
            self._paint(view)

    def result(self) -> Segments:
        """The merged segments, once every window has been added. Call it once: the map is handed over."""
        if self._waiting or self._like is None:
            raise RuntimeError(f"{len(self._waiting)} windows are missing")
        task, count = self._like.task, len(self._parents)
        roots = np.array([self._root(part) for part in range(count)], dtype=np.int64)
        labels = np.array(self._labels, dtype=np.int64)
        scores = np.full(count, np.nan, dtype=np.float32)
        np.fmax.at(scores, roots, np.array(self._scores, dtype=np.float32))
        shown = roots if task in OBJECT_TASKS else roots[np.flatnonzero(histogram(self._map, count + 1)[1:])]
        segments = np.unique(shown)
        order = labels[segments] if task == "semantic" else -scores[segments]
        segments = segments[np.argsort(order, kind="stable")]
        numbers = np.zeros(count + 1, dtype=self._map.dtype)
        numbers[segments + 1] = np.arange(1, len(segments) + 1)
        numbers[1:] = numbers[roots + 1]
        rles = None
        if task in OBJECT_TASKS:
            rles = tuple(self._union(np.flatnonzero(roots == segment)) for segment in segments)
        merged = Segments(
            task=task,
            size=self._size,
            label_set=self._like.label_set,
            labels=labels[segments],
            scores=scores[segments],
            map=renumber(self._map, numbers) if rles is None else None,
            rles=rles,
            best_score=self._best,
        )
        return merged if rles is None else without_repeats(merged, _REPEATS)

    def _register(self, box: Box, segments: Segments) -> np.ndarray:
        """Parts for a window's segments, int64 [N]: a new one for each thing, one for all segments of a stuff class."""
        ids = []
        for index, (label, score) in enumerate(zip(segments.labels.tolist(), segments.scores.tolist(), strict=True)):
            merges = segments.task == "semantic" or not segments.label_set[label].isthing
            if merges and label in self._merged:
                part = self._merged[label]
                self._scores[part] = max(self._scores[part], score)
            else:
                part = len(self._parents)
                self._labels.append(label)
                self._scores.append(score)
                self._parents.append(part)
                if merges:
                    self._merged[label] = part
            if segments.rles is not None:
                self._pieces.append((box, segments.rles[index]))
            ids.append(part)
        return np.array(ids, dtype=np.int64)

    def _match(self, one: _View, other: _View) -> None:
        """Join the things that two windows both see in the band they share: same class, each the other's best match.

        Best is IoU times score: unthresholded instances come with shadows of low score, whose outline in the band may
        fit as well as the thing's own.
        """
        band = one.box & other.box
        if not band.area:
            return
        left, right = one.parts(band), other.parts(band)
        if not left or not right:
            return
        common = np.zeros((len(left), len(right)), dtype=np.int64)
        for row, part, rivals in zip(common, left, _alike(left, right), strict=True):
            row[rivals] = part.mask.common([right[j].mask for j in np.flatnonzero(rivals)])
        areas = np.array([a.mask.area for a in left]), np.array([b.mask.area for b in right])
        iou = common / (areas[0][:, None] + areas[1] - common)
        scores = [np.array([self._scores[part.id] for part in parts]) for parts in (left, right)]
        partner = (iou * scores[1]).argmax(1)
        back = (iou * scores[0][:, None]).argmax(0)
        same = (back[partner] == np.arange(len(left))) & (common.max(1) > 0)
        for i in np.flatnonzero(same).tolist():
            j = partner[i]
            if common[i, j] >= _SAME * min(areas[0][i], areas[1][j]):
                self._parents[self._root(right[j].id)] = self._root(left[i].id)

    def _root(self, part: int) -> int:
        while self._parents[part] != part:
            self._parents[part] = part = self._parents[self._parents[part]]
        return part

    def _paint(self, view: _View) -> None:
        """Write what the window says: in its own part of the photo before others, elsewhere where nobody else has."""
        if len(self._parents) > np.iinfo(self._map.dtype).max:
            self._map = self._map.astype(np.int32)
        assert view.segments.map is not None
        said = np.concatenate([[0], view.ids + 1]).astype(self._map.dtype)[view.segments.map]
        box, own = view.box, self._owned[view.box]
        there = self._map[box.y0 : box.y1, box.x0 : box.x1]
        np.copyto(there, said, where=there == 0)
        inner = np.s_[own.y0 - box.y0 : own.y1 - box.y0, own.x0 - box.x0 : own.x1 - box.x0]
        np.copyto(there[inner], said[inner], where=said[inner] != 0)

    def _union(self, parts: np.ndarray) -> RLE:
        """One mask of the photo from the pieces that windows have of it."""
        runs = [_runs(box, rle, self._size[0]) for box, rle in (self._pieces[part] for part in parts.tolist())]
        starts, stops = (np.concatenate(side) for side in zip(*runs, strict=True))
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], np.maximum.accumulate(stops[order])
        first = np.ones(len(starts), dtype=bool)
        first[1:] = starts[1:] > stops[:-1]
        return from_runs(self._size, starts[first], stops[np.append(first[1:], True)] if len(stops) else stops)


def _ownership(boxes: list[Box]) -> dict[Box, Box]:
    """Each window's own part of the photo: up to the middle of the bands it shares."""
    columns = _cuts([(box.x0, box.x1) for box in boxes])
    rows = _cuts([(box.y0, box.y1) for box in boxes])
    owned = {}
    for box in boxes:
        (x0, x1), (y0, y1) = columns[box.x0, box.x1], rows[box.y0, box.y1]
        owned[box] = Box(x0, y0, x1, y1)
    return owned


def _cuts(spans: list[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
    ordered = sorted(set(spans))
    middles = [(after[0] + before[1]) // 2 for before, after in pairwise(ordered)]
    edges = [ordered[0][0], *middles, ordered[-1][1]]
    return dict(zip(ordered, pairwise(edges), strict=True))


def _runs(box: Box, rle: RLE, height: int) -> tuple[np.ndarray, np.ndarray]:
    """A window's runs in the column-major order of a photo of that height: (starts, stops), int64."""
    starts, stops = rle.runs()
    side = box.y1 - box.y0
    first, last = starts // side, (stops - 1) // side
    repeats = last - first + 1  # a run that reaches the window's foot may go on in its next column
    column = np.repeat(first - np.cumsum(repeats) + repeats, repeats) + np.arange(repeats.sum())
    top = np.maximum(np.repeat(starts, repeats) - column * side, 0)
    foot = np.minimum(np.repeat(stops, repeats) - column * side, side)
    shift = (box.x0 + column) * height + box.y0
    return shift + top, shift + foot
