"""Mosaics (YOLOv4, arXiv 2004.10934): a training picture of four, which meet in a point somewhere in its middle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segcli.data.loading.transforms import LEAST, Example, boxes_of

GREY = 114  # what no picture covers


@dataclass(frozen=True)
class Mosaic:
    """How often, and what becomes one. once: class indices of which a picture has one segment, wherever its parts are:
    stuff, in semantic data every class.
    """

    probability: float
    once: frozenset[int]


def mosaic(parts: Sequence[Example], once: Collection[int], rng: np.random.Generator) -> Example:
    """Four examples, left to right and top to bottom, as one of the first one's name; as large as the largest of them.

    Of each a corner of the mosaic shows a piece, in its own scale. Objects of which less than a tenth is shown are left
    out, but for the classes in `once`.
    """
    height, width = (max(part.image.shape[axis] for part in parts) for axis in (0, 1))
    middle_y, middle_x = (round(side * rng.uniform(0.25, 0.75)) for side in (height, width))
    image = np.full((height, width, 3), GREY, dtype=np.uint8)
    rows, columns = ((0, middle_y), (middle_y, height)), ((0, middle_x), (middle_x, width))
    masks, labels = [], []
    for part, (ys, xs) in zip(parts, [(ys, xs) for ys in rows for xs in columns], strict=True):
        here_y, there_y = _piece(ys, part.image.shape[0], ys[0] == 0, rng)
        here_x, there_x = _piece(xs, part.image.shape[1], xs[0] == 0, rng)
        image[here_y, here_x] = part.image[there_y, there_x]
        shown = part.masks[:, there_y, there_x]
        left, whole = shown.sum(axis=(1, 2)), part.masks.sum(axis=(1, 2))
        kept = (left > 0) & ((left >= LEAST * whole) | np.isin(part.labels, list(once)))
        placed = np.zeros((int(kept.sum()), height, width), dtype=bool)
        placed[:, here_y, here_x] = shown[kept]
        masks.append(placed)
        labels.append(part.labels[kept])
    joined, of_joined = _joined(np.concatenate(masks), np.concatenate(labels), once)
    crowd = np.zeros(len(of_joined), dtype=bool)
    return replace(parts[0], image=image, masks=joined, labels=of_joined, boxes=boxes_of(joined), crowd=crowd)


def _piece(place: tuple[int, int], there: int, at_end: bool, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where in the mosaic and in a picture `there` pixels long the same pixels are; one that does not fill its place
    lies at the middle, which is the end of the first place and the start of the second.
    """
    room = place[1] - place[0]
    start = int(rng.integers(max(0, there - room) + 1))
    length = min(room, there)
    first = place[1] - length if at_end else place[0]
    return slice(first, first + length), slice(start, start + length)


def _joined(masks: np.ndarray, labels: np.ndarray, once: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Masks of one class in `once` as one, where the first of them is."""
    keep = np.ones(len(labels), dtype=bool)
    for label in set(labels.tolist()) & set(once):
        first, *rest = np.flatnonzero(labels == label)
        masks[first] |= masks[rest].any(axis=0)
        keep[rest] = False
    return masks[keep], labels[keep]
