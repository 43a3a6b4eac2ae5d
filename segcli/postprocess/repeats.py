"""Instances that say the same thing twice."""

from __future__ import annotations

import numpy as np

from segcli.segments import Segments


def without_repeats(segments: Segments, iou: float) -> Segments:
    """The instances of which no better one of the same class covers as much: IoU below `iou` with each that stays.

    The best comes first and what repeats it goes, then the next that is left (greedy non-maximum suppression, here of
    masks). segments: instances, in descending order of score.
    """
    assert segments.rles is not None
    areas, boxes = segments.areas(), segments.boxes()
    alive = np.ones(len(segments), dtype=bool)
    for index, rle in enumerate(segments.rles):
        if not alive[index]:
            continue
        sides = np.minimum(boxes[index, 2:], boxes[:, 2:]) - np.maximum(boxes[index, :2], boxes[:, :2])
        most = sides.clip(min=0).prod(1)  # the boxes' common part: masks share no more
        both = areas[index] + areas
        near = alive & (segments.labels == segments.labels[index]) & (most > 0) & (most >= iou * (both - most))
        near[: index + 1] = False
        rivals = np.flatnonzero(near)
        common = rle.common([segments.rles[rival] for rival in rivals.tolist()])
        alive[rivals[common >= iou * (both[rivals] - common)]] = False
    return segments.filter(alive)
