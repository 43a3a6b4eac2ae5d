"""Removes duplicate instances."""

from __future__ import annotations

import numpy as np

from segcli.segments import Segments


def without_repeats(segments: Segments, iou: float) -> Segments:
    """The instances of which no better one of the same class covers as much: IoU below `iou` with each that stays.

    The best comes first and what repeats it goes, then the next that is left (greedy non-maximum suppression, here of
    masks). segments: instances, in descending order of score.
    """
    assert segments.rles is not None
    areas, boxes, labels = segments.areas(), segments.boxes(), segments.labels
    alive = np.ones(len(segments), dtype=bool)
    # Sorted by their left edges, those that reach into a box lie together: a large photo's thousands are not compared
    # with each other.
    order = np.argsort(boxes[:, 0], kind="stable")
    lefts, widest = boxes[order, 0], int((boxes[:, 2] - boxes[:, 0]).max(initial=0))
    for index, rle in enumerate(segments.rles):
        if not alive[index]:
            continue
        first, last = np.searchsorted(lefts, [boxes[index, 0] - widest, boxes[index, 2]])
        rivals = order[first:last]
        rivals = rivals[(rivals > index) & alive[rivals] & (labels[rivals] == labels[index])]
        sides = np.minimum(boxes[index, 2:], boxes[rivals, 2:]) - np.maximum(boxes[index, :2], boxes[rivals, :2])
        most = sides.clip(min=0).prod(1)  # the boxes' common part: masks share no more
        both = areas[index] + areas[rivals]
        near = (most > 0) & (most >= iou * (both - most))
        rivals, both = rivals[near], both[near]
        common = rle.common([segments.rles[rival] for rival in rivals.tolist()])
        alive[rivals[common >= iou * (both - common)]] = False
    return segments.filter(alive)
