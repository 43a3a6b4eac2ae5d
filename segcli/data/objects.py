"""Every object of an image as a run-length mask: what checking, counting and converting work on.

Compact whatever the image's size and however many objects overlap: nothing here makes more than one mask at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from segcli.codecs.polygons import fill
from segcli.codecs.rle import RLE, encode, encode_map
from segcli.data.truth import NOTHING, VOID, MapTruth, Polygons, ShapeTruth, Truth


def rles_of(truth: Truth) -> list[RLE]:
    """One mask per object, empty for an object without pixels."""
    if isinstance(truth, MapTruth):
        return encode_map(truth.ids, len(truth.labels))
    assert isinstance(truth, ShapeTruth)
    scratch = np.zeros(truth.size, dtype=bool)
    return [shape if isinstance(shape, RLE) else _filled(shape, scratch) for shape in truth.shapes]


def rasterised(polygons: Polygons, size: tuple[int, int]) -> RLE:
    """The mask of one object's polygons in a frame of `size` = (H, W)."""
    return _filled(polygons, np.zeros(size, dtype=bool))


def _filled(polygons: Polygons, scratch: np.ndarray) -> RLE:
    """Fill, encode the box of the polygons, and leave the scratch mask empty for the next object."""
    height, width = scratch.shape
    fill(polygons, (height, width), out=scratch)
    points = np.concatenate(polygons)
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int)
    x0, x1 = (int(v) for v in np.clip((low[0], high[0]), 0, width))
    y0, y1 = (int(v) for v in np.clip((low[1], high[1]), 0, height))
    box = scratch[y0:y1, x0:x1]
    rle = encode(box, (height, width), (x0, y0))
    box[:] = False
    return rle


def overlapping(rles: list[RLE]) -> list[tuple[int, int, int]]:
    """(i, j, shared pixels) of every pair of masks that share any, i < j."""
    boxes = np.array([rle.bbox for rle in rles], dtype=np.int64).reshape(-1, 4)
    x0, y0 = boxes[:, 0], boxes[:, 1]
    x1, y1 = x0 + boxes[:, 2], y0 + boxes[:, 3]
    pairs = []
    for i in range(len(rles)):
        near = (x0[i + 1 :] < x1[i]) & (x1[i + 1 :] > x0[i]) & (y0[i + 1 :] < y1[i]) & (y1[i + 1 :] > y0[i])
        others = (np.flatnonzero(near) + i + 1).tolist()
        for j, shared in zip(others, rles[i].common([rles[j] for j in others]).tolist(), strict=True):
            if shared:
                pairs.append((i, j, shared))
    return pairs


@dataclass(frozen=True)
class Painted:
    """Objects brought into one map. ids: int32 [H, W], i + 1 = object i, 0 = none, -1 = void.

    shared: pixels that belong to several objects; mixed: those that belong to several classes.
    """

    ids: np.ndarray
    shared: int = 0
    mixed: int = 0


def painted(truth: Truth) -> Painted:
    """All objects in one map.

    Where objects overlap the smaller one is seen, and any object before a crowd: what lies on top of something is
    mostly smaller than that, and painting it last loses the least of it.
    """
    if isinstance(truth, MapTruth):
        return Painted(truth.ids.astype(np.int32))
    rles = rles_of(truth)
    areas = np.array([rle.area for rle in rles], dtype=np.int64)
    ids = np.full(truth.size, NOTHING, dtype=np.int32)
    shared, mixed = np.zeros(truth.size, dtype=bool), np.zeros(truth.size, dtype=bool)
    for index in np.lexsort((-areas, ~truth.crowd)).tolist():
        x, y, mask = rles[index].decode_crop()
        place = (slice(y, y + mask.shape[0]), slice(x, x + mask.shape[1]))
        taken = mask & (ids[place] != NOTHING)
        if taken.any():
            shared[place] |= taken
            mixed[place] |= taken & (truth.labels[ids[place] - 1] != truth.labels[index])
        ids[place][mask] = index + 1
    return Painted(ids, int(np.count_nonzero(shared)), int(np.count_nonzero(mixed)))


def joined(truth: MapTruth, stuff: Collection[int]) -> MapTruth:
    """The same map with each class of stuff (dataset ids) as one segment, however many regions were drawn."""
    return truth.relabelled(*gathered(truth.labels.tolist(), stuff))


def gathered(classes: Sequence[int | None], once: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Objects of which those of a class in `once` become one, and those of no class go.

    Returns (the classes of those that are left, int64 [M]; which of them each object becomes, or −1, int64 [N]).
    """
    place: dict[int, int] = {}
    left: list[int] = []
    becomes = np.full(len(classes), -1, dtype=np.int64)
    for number, index in enumerate(classes):
        if index is None:
            continue
        if index in place:
            becomes[number] = place[index]
            continue
        becomes[number] = len(left)
        if index in once:
            place[index] = len(left)
        left.append(index)
    return np.array(left, dtype=np.int64), becomes


def turned(truth: Truth, orientation: int) -> Truth:
    """Objects drawn on the stored pixels of a picture, as they lie on the upright one (EXIF orientation 1 … 8)."""
    if isinstance(truth, MapTruth):
        return MapTruth(upright(truth.ids, orientation), truth.labels, truth.crowd, truth.left_out)
    shapes = [encode(upright(rle.decode(), orientation)) for rle in rles_of(truth)]
    size = truth.size[::-1] if orientation >= 5 else truth.size
    return ShapeTruth((int(size[0]), int(size[1])), shapes, truth.labels, truth.crowd, left_out=truth.left_out)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """[h, w] as stored -> as seen, by the meaning of the EXIF tag."""
    flips = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.T,
        6: lambda p: p.T[:, ::-1],
        7: lambda p: p.T[::-1, ::-1],
        8: lambda p: p.T[::-1],
    }
    return np.ascontiguousarray(flips[orientation](pixels)) if orientation in flips else pixels


def unknown_pixels(truth: Truth) -> int:
    """How many pixels nobody knows the truth of."""
    return int(np.count_nonzero(truth.ids == VOID)) if isinstance(truth, MapTruth) else 0
