"""The annotated objects of one image, rasterised only where and at the size somebody asks for.

Two forms cover every format: an id map (pixels belong to one segment at most) and shapes (polygons and run-length
masks, which may overlap). Both are cut out by a `Window`: a training crop of a large photo never makes the photo's
full-size masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from segcli.codecs.polygons import fill
from segcli.codecs.rle import RLE
from segcli.types import CocoObjects

Polygons = list[np.ndarray]  # of one object, each float [n, 2] x, y in pixels of the original image
NOTHING, VOID = 0, -1  # values of an id map beside i + 1: no segment here; nobody knows what is here


@dataclass(frozen=True)
class Window:
    """A part of the resized image: scale to `resized` = (H, W), cut `size` = (h, w) at (top, left), maybe mirror it."""

    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    flip: bool = False

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Window:
        """The image as it is."""
        return cls(size, 0, 0, size)

    def sources(self, original: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(rows [h], columns [w]) of the original pixels under the centres of the window's pixels."""
        rows = _nearest(self.top, self.size[0], self.resized[0], original[0])
        columns = _nearest(self.left, self.size[1], self.resized[1], original[1])
        return rows, columns[::-1] if self.flip else columns

    def moved(self, points: np.ndarray, original: tuple[int, int]) -> np.ndarray:
        """Points [n, 2] x, y of the original image, in pixels of the window."""
        scale = np.array([self.resized[1] / original[1], self.resized[0] / original[0]])
        points = points * scale - (self.left, self.top)
        if self.flip:
            points[:, 0] = self.size[1] - points[:, 0]
        return points


def _nearest(start: int, count: int, resized: int, original: int) -> np.ndarray:
    places = (np.arange(start, start + count) + 0.5) * (original / resized)
    return places.astype(np.int64).clip(0, original - 1)


@dataclass(frozen=True)
class LeftOut:
    """A row of an annotation file that cannot be used: it is left out, and everything else of its image stays."""

    reason: str
    where: str  # "labels/a.txt:3"
    label: int | None = None  # its class, if that can be read


class Truth(Protocol):
    """N annotated objects of an image of `size` = (H, W)."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def labels(self) -> np.ndarray: ...  # int64 [N]

    @property
    def crowd(self) -> np.ndarray: ...  # bool [N]

    @property
    def stated(self) -> CocoObjects | None: ...  # by a COCO instance file

    @property
    def left_out(self) -> tuple[LeftOut, ...]: ...  # rows that are not among the objects

    def areas(self, window: Window) -> np.ndarray:
        """int64 [N], each object's pixels in the window."""

    def crop(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """(index int64 [M], masks bool [M, h, w]) of the objects that have pixels in the window."""

    def void(self, window: Window) -> np.ndarray | None:
        """Pixels without a known truth, bool [h, w]; None if there are none by the nature of the format."""

    def relabelled(self, labels: np.ndarray, segment: np.ndarray) -> Truth:
        """Other labels [M], with object i now part of object segment[i] (-1: left out)."""


@dataclass(frozen=True, eq=False)
class MapTruth:
    """Objects that share no pixel: `ids` int [H, W], i + 1 = object i, 0 = none, -1 = void."""

    ids: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    left_out: tuple[LeftOut, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return (int(self.ids.shape[0]), int(self.ids.shape[1]))

    @property
    def stated(self) -> CocoObjects | None:
        """None: id maps are all that there is."""
        return None

    def _cut(self, window: Window) -> np.ndarray:
        if window == Window.whole(self.size):
            return self.ids
        rows, columns = window.sources(self.size)
        return self.ids[rows[:, None], columns]

    def areas(self, window: Window) -> np.ndarray:
        return self._areas(self._cut(window))

    def _areas(self, ids: np.ndarray) -> np.ndarray:
        return np.bincount(ids.ravel() + 1, minlength=len(self.labels) + 2)[2:]

    def crop(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        ids = self._cut(window)
        index = np.flatnonzero(self._areas(ids))
        masks = np.empty((len(index), *ids.shape), dtype=bool)
        for mask, value in zip(masks, index + 1, strict=True):
            np.equal(ids, value, out=mask)
        return index, masks

    def void(self, window: Window) -> np.ndarray | None:
        return self._cut(window) == VOID

    def relabelled(self, labels: np.ndarray, segment: np.ndarray) -> MapTruth:
        if len(segment) == len(labels) and (segment == np.arange(len(labels))).all():
            return replace(self, labels=labels)
        new_ids = np.concatenate([[VOID, NOTHING], segment + 1]).astype(self.ids.dtype)
        return MapTruth(new_ids[self.ids + 1], labels, _gathered(self.crowd, segment, len(labels)))


@dataclass(frozen=True, eq=False)
class ShapeTruth:
    """Objects of their own shapes, which may overlap; nothing is void."""

    size: tuple[int, int]
    shapes: Sequence[RLE | Polygons]
    labels: np.ndarray
    crowd: np.ndarray
    stated: CocoObjects | None = None
    left_out: tuple[LeftOut, ...] = ()
    scores: np.ndarray | None = None  # float [N], of objects that were predicted

    def areas(self, window: Window) -> np.ndarray:
        """Counted on one mask after the other: all of them would be gigabytes in a large photo of many objects."""
        mask = np.zeros(window.size, dtype=bool)
        areas = np.zeros(len(self.labels), dtype=np.int64)
        for i in range(len(areas)):
            drawn = self._draw(i, window, mask)
            areas[i] = np.count_nonzero(drawn)
            drawn[:] = False
        return areas

    def crop(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((len(self.shapes), *window.size), dtype=bool)
        for i, mask in enumerate(masks):
            self._draw(i, window, mask)
        index = np.flatnonzero(masks.any(axis=(1, 2)))
        return index, masks if len(index) == len(masks) else masks[index]

    def void(self, window: Window) -> np.ndarray | None:
        return None

    def _draw(self, i: int, window: Window, mask: np.ndarray) -> np.ndarray:
        """Add the part of object i that the window shows to a mask; -> the part of the mask that holds it."""
        shape = self.shapes[i]
        if isinstance(shape, RLE):
            return _paste(shape, *window.sources(self.size), mask)
        polygons = [window.moved(polygon, self.size) for polygon in shape]
        fill(polygons, window.size, out=mask)
        points = np.concatenate(polygons)
        left, top = np.floor(points.min(axis=0)).clip(0, mask.shape[::-1]).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).clip(0, mask.shape[::-1]).astype(int)
        return mask[top:bottom, left:right]

    def relabelled(self, labels: np.ndarray, segment: np.ndarray) -> ShapeTruth:
        kept = np.flatnonzero(segment >= 0)
        if len(np.unique(segment[kept])) != len(kept):
            raise ValueError("overlapping objects cannot be joined")
        kept = kept[np.argsort(segment[kept])]
        return replace(self, shapes=[self.shapes[int(i)] for i in kept], labels=labels, crowd=self.crowd[kept])


def _paste(rle: RLE, rows: np.ndarray, columns: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Sample a run-length mask at rows × columns of its frame, reading only its box; -> where it is in the mask."""
    x, y, crop = rle.decode_crop()
    down = np.flatnonzero((rows >= y) & (rows < y + crop.shape[0]))
    across = np.flatnonzero((columns >= x) & (columns < x + crop.shape[1]))
    if not (len(down) and len(across)):
        return mask[:0]
    place = mask[down[0] : down[-1] + 1, across[0] : across[-1] + 1]  # the sources ascend, or descend when mirrored
    place[:] = crop[rows[down][:, None] - y, columns[across] - x]
    return place


def _gathered(crowd: np.ndarray, segment: np.ndarray, count: int) -> np.ndarray:
    """A joined object is a crowd only if all of its parts are."""
    alone = np.zeros(count, dtype=bool)
    kept = segment >= 0
    alone[segment[kept & ~crowd]] = True
    return ~alone
