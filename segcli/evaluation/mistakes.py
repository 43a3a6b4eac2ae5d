"""What is wrong with each predicted segment, and the prediction with one kind of error repaired.

Every predicted segment and every true object of an image gets one kind, in this order:

right       on an object of its class: IoU above 0.5, where the metrics begin to count a match (AP: 0.5 and more)
class       on an object of another class, by the same IoU
ignored     not counted by the metric: mostly void, or mostly a crowd of its class
duplicate   on an object of its class that another segment matches already: by the same IoU, or with more than half of
            its pixels, as a piece cut off an object has them
mask        IoU of 0.1 and more with an object of its class that nothing matches; below that a segment says nothing
            about an object (the bound between a bad mask and background in TIDE, arXiv 2008.08115)
invented    everything else
missed      an object that no segment is on: not right, not of the wrong class, not with a bad mask

Repairs are independent of each other, as in TIDE: each starts from the prediction as it is. One that would make two
segments of one object keeps the surer of them. Semantic results have no segments; there, a kind belongs to a connected
region of one class, and a repair changes the wrong pixels only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from hotcoco import mask as coco_mask

from segcli.codecs.opencv import opencv
from segcli.codecs.rle import RLE, shared_pixels
from segcli.metrics.instance import coco_entries
from segcli.metrics.metric import ImageTruth
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS

_EXACT = 0.999  # an IoU that no metric tells from 1
_MATCH, _NEAR, _MOSTLY = 0.5, 0.1, 0.5
_SPECK = 1 / 2000  # of the image: smaller regions of a class count as one, so that noise does not make thousands


class MistakeKind(IntEnum):
    """Of a predicted segment; MISSED is of an object."""

    RIGHT = 0
    CLASS = 1
    IGNORED = 2
    DUPLICATE = 3
    MASK = 4
    INVENTED = 5
    MISSED = 6


@dataclass(frozen=True, eq=False)
class Objects:
    """The truth of one image as errors are told apart: N objects without crowds.

    labels: int64 [N]. ids: int [H, W], i + 1 = object i, 0 = void or unlabelled, N + 1 and more = crowds; None for
    instances. rles: one an object; None for maps. crowd_labels: [C]; crowds: their masks, for instances.
    """

    labels: np.ndarray
    ids: np.ndarray | None
    rles: tuple[RLE, ...] | None
    crowd_labels: np.ndarray
    crowds: tuple[RLE, ...] = ()


@dataclass(frozen=True, eq=False)
class Judged:
    """kinds: int [M]. objects: int [M], the object a segment is right, wrong, double or inexact about, or −1.
    missed: bool [N]. iou: float [N, M]."""

    kinds: np.ndarray
    objects: np.ndarray
    missed: np.ndarray
    iou: np.ndarray

    def count(self, kind: MistakeKind) -> int:
        """How many segments (or objects, if missed) the repair of a kind concerns: of masks also those that are right
        and not exact, which cost AP and SQ as well."""
        if kind is MistakeKind.MISSED:
            return int(self.missed.sum())
        of_kind = self.kinds == kind
        if kind is MistakeKind.MASK:
            right = np.flatnonzero(self.kinds == MistakeKind.RIGHT)
            of_kind[right] = self.iou[self.objects[right], right] < _EXACT
        return int(of_kind.sum())

    def inexact(self) -> bool:
        """Whether a segment that is on an object of its class could have a better mask."""
        near = np.flatnonzero((self.kinds == MistakeKind.RIGHT) | (self.kinds == MistakeKind.MASK))
        return bool((self.iou[self.objects[near], near] < 1).any())

    def sorted_out(self, *, every: bool) -> Judged:
        """As if class and mask errors were fixed: what is not right is invented, its object missed.

        every: all objects are missed, also those with a segment that is nearly right.
        """
        kinds = self.kinds.copy()
        kinds[(kinds == MistakeKind.CLASS) | (kinds == MistakeKind.MASK)] = MistakeKind.INVENTED
        missed = np.ones_like(self.missed)
        if not every:
            missed[self.objects[kinds == MistakeKind.RIGHT]] = False
        return dataclasses.replace(self, kinds=kinds, missed=missed)


def objects_of(truth: ImageTruth, segments: Segments) -> Objects:
    """The truth in the form of a prediction of the same task: instances, a panoptic map, or semantic regions."""
    if segments.task in OBJECT_TASKS:
        return _instances(truth, segments)
    crowd, labels = np.asarray(truth.crowd, dtype=bool), np.asarray(truth.labels, dtype=np.int64)
    ids = truth.id_map()
    if segments.task == "semantic":
        ids, labels = _regions(ids, labels)
        return Objects(labels, ids, None, labels[:0])
    order = np.concatenate([np.flatnonzero(~crowd), np.flatnonzero(crowd)])
    numbers = np.zeros(len(labels) + 1, dtype=np.int64)
    numbers[order + 1] = np.arange(1, len(labels) + 1)
    return Objects(labels[~crowd], numbers[ids], None, labels[crowd])


def _instances(truth: ImageTruth, segments: Segments) -> Objects:
    """Things as AP sees them: a COCO file's polygons as its official tool fills them."""
    nothing = segments.filter(np.zeros(len(segments), dtype=bool))
    _, annotations, _ = coco_entries(nothing, truth, segments.label_set)
    place = {label.id: index for index, label in enumerate(segments.label_set)}
    labels = np.array([place[entry["category_id"]] for entry in annotations], dtype=np.int64)
    crowd = np.array([entry["iscrowd"] for entry in annotations], dtype=bool)
    rles = []
    for entry in annotations:
        shape = entry["segmentation"]
        filled = coco_mask.merge(coco_mask.frPyObjects(shape, *segments.size)) if isinstance(shape, list) else shape
        rles.append(RLE.from_coco(filled))
    real, group = (tuple(rles[i] for i in np.flatnonzero(part)) for part in (~crowd, crowd))
    return Objects(labels[~crowd], None, real, labels[crowd], group)


def parts_of(segments: Segments) -> Segments:
    """The segments to be judged: those of the prediction, or its regions if it is semantic."""
    if segments.task != "semantic":
        return segments
    ids, labels = _regions(segments.id_map(), segments.labels)
    return dataclasses.replace(segments, labels=labels, scores=np.full(len(labels), np.nan, np.float32), map=ids)


def _regions(ids: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An id map [H, W] of objects with labels [N] -> one of regions: connected pixels of a class, specks together."""
    cv2 = opencv()
    regions = np.zeros(ids.shape, dtype=np.int32)
    found: list[int] = []
    classes = np.append(-1, labels)[ids]
    for label in np.unique(labels).tolist():
        count, numbers, stats, _ = cv2.connectedComponentsWithStats((classes == label).view(np.uint8), connectivity=4)
        areas = stats[:, cv2.CC_STAT_AREA]
        areas[0] = 0
        large = np.flatnonzero(areas >= ids.size * _SPECK)
        specks = bool(((areas > 0) & (areas < ids.size * _SPECK)).any())
        place = np.full(count, len(found) + len(large) + 1, dtype=np.int32)
        place[0], place[large] = 0, len(found) + 1 + np.arange(len(large))
        regions += place[numbers]  # classes share no pixel
        found += [label] * (len(large) + specks)
    return regions, np.array(found, dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------ judging


def judge(objects: Objects, segments: Segments) -> Judged:
    """The kind of every segment of `parts_of(prediction)` and of every object."""
    compare = _compare_masks if objects.ids is None else _compare_maps
    iou, inside, ignored = compare(objects, segments)
    count, number = iou.shape
    alike = objects.labels[:, None] == segments.labels
    match = iou >= _MATCH if objects.ids is None else iou > _MATCH
    kinds, about = np.full(number, MistakeKind.INVENTED, dtype=np.int64), np.full(number, -1, dtype=np.int64)
    right = np.full(count, -1, dtype=np.int64)  # the segment that is right about an object
    for segment in np.argsort(-segments.scores, kind="stable").tolist():  # the surest chooses first, as in COCO
        free = np.where(alike[:, segment] & match[:, segment] & (right < 0), iou[:, segment], 0)
        if free.any():
            about[segment] = free.argmax()
            right[about[segment]], kinds[segment] = segment, MistakeKind.RIGHT
    double = alike & (match | (inside > _MOSTLY)) & (right >= 0)[:, None]
    near = alike & (iou >= _NEAR) & (right < 0)[:, None]
    for segment in np.flatnonzero(kinds != MistakeKind.RIGHT).tolist():
        best = int(iou[:, segment].argmax()) if count else 0
        if count and match[best, segment] and not alike[best, segment]:
            kinds[segment], about[segment] = MistakeKind.CLASS, best
        elif ignored[segment]:
            kinds[segment] = MistakeKind.IGNORED
        elif double[:, segment].any():
            kinds[segment] = MistakeKind.DUPLICATE
            about[segment] = np.where(double[:, segment], inside[:, segment], -1).argmax()
        elif near[:, segment].any():
            kinds[segment] = MistakeKind.MASK
            about[segment] = np.where(near[:, segment], iou[:, segment], -1).argmax()
    missed = right < 0
    missed[about[(kinds == MistakeKind.CLASS) | (kinds == MistakeKind.MASK)]] = False
    if objects.ids is not None:  # an object that others cover counts nowhere
        missed &= np.bincount(objects.ids.ravel(), minlength=count + 1)[1 : count + 1] > 0
    return Judged(kinds, about, missed, iou)


def _compare_maps(objects: Objects, segments: Segments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(IoU [N, M], share of each segment inside each object [N, M], what the metric ignores [M]), as panopticapi."""
    assert objects.ids is not None
    real, number = len(objects.labels), len(segments)
    rows = real + len(objects.crowd_labels) + 1
    pairs = objects.ids.astype(np.int64) * (number + 1) + segments.id_map()
    common = np.bincount(pairs.ravel(), minlength=rows * (number + 1)).reshape(rows, number + 1)
    void, both = common[0, 1:], common[1 : real + 1, 1:]
    areas = common[:, 1:].sum(0)
    union = common[1 : real + 1].sum(1)[:, None] + areas - void - both
    own_crowd = objects.crowd_labels[:, None] == segments.labels
    for row in np.flatnonzero(common[real + 1 :].any(1)):  # of several crowds of a class the last one counts
        own_crowd[:row] &= (objects.crowd_labels[:row] != objects.crowd_labels[row])[:, None]
    unknown = void + (common[real + 1 :, 1:] * own_crowd).sum(0)
    ignored = (unknown > _MOSTLY * areas) | (areas == 0)  # a segment without pixels is not there for the metric
    return both / np.maximum(union, 1), both / np.maximum(areas - void, 1), ignored


def _compare_masks(objects: Objects, segments: Segments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_compare_maps`, of masks that may overlap, as pycocotools."""
    assert objects.rles is not None
    seen, areas = segments.to_rles(), segments.areas()
    true = np.array([rle.area for rle in objects.rles], dtype=np.int64)[:, None]
    shared = shared_pixels(seen, objects.rles).T
    iou, inside = shared / np.maximum(true + areas - shared, 1), shared / np.maximum(areas, 1)
    within = shared_pixels(seen, objects.crowds).T / np.maximum(areas, 1)
    ignored = ((within >= _MATCH) & (objects.crowd_labels[:, None] == segments.labels)).any(0)
    return iou, inside, ignored


# ----------------------------------------------------------------------------------------------------------- repairing


def repair_next(objects: Objects, segments: Segments, kind: MistakeKind) -> Segments:
    """As `repair`, where the kinds before have been repaired already: after the last one the prediction is perfect.

    segments: a prediction, or what this returned for the kind before.
    """
    parts = parts_of(segments)
    judged = judge(objects, parts)
    if kind is MistakeKind.MASK:
        parts = repair(objects, parts, judged, kind)
        # A segment that loses pixels to others may come onto an object thereby. Each turn makes one more exact.
        while parts.task == "panoptic" and (judged := judge(objects, parts)).inexact():
            parts = repair(objects, parts, judged, kind)
        return parts
    if kind in (MistakeKind.INVENTED, MistakeKind.MISSED):  # what is not right by now is too much, or missed
        judged = judged.sorted_out(every=parts.task == "semantic")
    return repair(objects, parts, judged, kind)


def repair(objects: Objects, segments: Segments, judged: Judged, kind: MistakeKind) -> Segments:
    """The prediction with the errors of one kind repaired; its segments are in no order.

    segments: as judged, thus `parts_of(prediction)`. Missed objects are added with score 1, which is above every other.
    """
    if segments.task == "semantic":
        return _repair_pixels(objects, segments, judged, kind)
    labels, scores = segments.labels.copy(), segments.scores.copy()
    kept, shape = np.ones(len(segments), dtype=bool), np.full(len(segments), -1, dtype=np.int64)
    best = np.arange(len(segments))  # whose mask each has, among the predicted ones
    added = np.flatnonzero(judged.missed) if kind is MistakeKind.MISSED else np.zeros(0, dtype=np.int64)
    if kind in (MistakeKind.DUPLICATE, MistakeKind.INVENTED):
        kept = judged.kinds != kind
    if kind is MistakeKind.INVENTED:  # at stricter IoUs AP ignores less of what lies on a crowd
        kept &= judged.kinds != MistakeKind.IGNORED
    if kind is MistakeKind.DUPLICATE:
        # Of several masks the best stays: at a stricter IoU it may be the less sure one that AP counts.
        for segment in np.flatnonzero(judged.kinds == MistakeKind.RIGHT).tolist():
            rivals = np.flatnonzero((judged.objects == judged.objects[segment]) & ~kept)
            rivals = np.append(segment, rivals)
            best[segment] = rivals[judged.iou[judged.objects[segment], rivals].argmax()]
    if kind in (MistakeKind.CLASS, MistakeKind.MASK):
        on = (judged.kinds == MistakeKind.RIGHT) | (judged.kinds == kind)
        for object_ in np.unique(judged.objects[on]).tolist():
            several = np.flatnonzero(on & (judged.objects == object_))
            surest = several[scores[several].argmax()]
            kept[several] = several == surest
            labels[surest] = objects.labels[object_]
            if kind is MistakeKind.MASK:
                shape[surest] = object_
    return _rebuilt(objects, segments, labels, scores, kept, shape, best, added)


def _rebuilt(
    objects: Objects,
    segments: Segments,
    labels: np.ndarray,
    scores: np.ndarray,
    kept: np.ndarray,
    shape: np.ndarray,
    best: np.ndarray,
    added: np.ndarray,
) -> Segments:
    """Segments with other labels and scores [M], those `kept`, with the masks of the objects `shape` [M] or of the
    segments `best` [M], and the `added` objects."""
    new_labels = np.concatenate([labels[kept], objects.labels[added]])
    new_scores = np.concatenate([scores[kept], np.ones(len(added), dtype=scores.dtype)])
    rles: tuple[RLE, ...] | None = None
    id_map = None
    if objects.ids is None:
        own, true = segments.to_rles(), objects.rles
        assert true is not None
        masks = [own[best[i]] if shape[i] < 0 else true[shape[i]] for i in np.flatnonzero(kept)]
        rles = (*masks, *(true[i] for i in added))
    else:
        numbers = np.cumsum(kept) * kept
        exact = kept & (shape >= 0)
        owner = np.zeros(int(objects.ids.max(initial=0)) + 2, dtype=np.int64)  # of an object's pixels
        owner[shape[exact] + 1] = numbers[exact]
        owner[added + 1] = int(kept.sum()) + 1 + np.arange(len(added))
        stays, over = np.append(0, numbers * (shape < 0)), owner[objects.ids]
        id_map = np.where(over > 0, over, stays[segments.id_map()]).astype(np.int32)
    return Segments(segments.task, segments.size, segments.label_set, new_labels, new_scores, id_map, rles)


def _repair_pixels(objects: Objects, segments: Segments, judged: Judged, kind: MistakeKind) -> Segments:
    """Semantic repairs, of wrong pixels only: others of a region may be right by the class of their neighbour."""
    assert objects.ids is not None
    ids = segments.id_map()
    true, seen = np.append(-1, objects.labels)[objects.ids], np.append(-1, segments.labels)[ids]
    kinds, about = np.append(MistakeKind.IGNORED, judged.kinds)[ids], np.append(-1, judged.objects)[ids]
    if kind is MistakeKind.CLASS:
        fixed, gone = (kinds == MistakeKind.CLASS) & (about + 1 == objects.ids), np.zeros(ids.shape, dtype=bool)
    elif kind is MistakeKind.MASK:
        near = (judged.kinds == MistakeKind.RIGHT) | (judged.kinds == MistakeKind.MASK)
        known = np.zeros(len(objects.labels) + 1, dtype=bool)
        known[judged.objects[near] + 1] = True
        fixed, gone = known[objects.ids], np.append(False, near)[ids]
    elif kind is MistakeKind.MISSED:
        fixed, gone = np.append(False, judged.missed)[objects.ids], np.zeros(ids.shape, dtype=bool)
    else:
        raise ValueError(f"semantic results have no {kind.name.lower()} segments")
    classes = np.where(fixed & (true >= 0), true, np.where(gone & (true >= 0) & (true != seen), -1, seen))
    present = np.unique(classes[classes >= 0])
    numbers = np.zeros(len(segments.label_set) + 1, dtype=np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    scores = np.full(len(present), np.nan, dtype=np.float32)
    return dataclasses.replace(segments, labels=present, scores=scores, map=numbers[classes])
