"""A sample's truth in the form of a prediction."""

from __future__ import annotations

import numpy as np

from segcli.data.dataset import Sample
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS, LabelSet, Task


def truth_segments(sample: Sample, task: Task, labels: LabelSet) -> Segments:
    """The objects of a sample as `Segments` without scores: segment i is object i of the sample.

    labels: the classes that the sample's labels index. Void pixels and those of no object have id 0 in the map; where
    objects overlap, instances keep their whole masks.
    """
    scores = np.full(len(sample.labels), np.nan, dtype=np.float32)
    if task == "detect":
        boxes = np.array([rle.bbox for rle in sample.rles], dtype=np.float64).reshape(-1, 4)
        return Segments.of_boxes(sample.size, labels, sample.labels, scores, boxes)
    if task in OBJECT_TASKS:
        return Segments(task, sample.size, labels, sample.labels, scores, rles=tuple(sample.rles))
    return Segments(task, sample.size, labels, sample.labels, scores, map=sample.id_map())
