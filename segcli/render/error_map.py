"""Where a prediction is right and how it is wrong: one colour a kind of error, over the photo in grey.

True segments have white outlines, predicted ones black; where both agree, white is seen.

Objects are matched as panoptic quality matches them: same class, IoU above 0.5. A pixel is then judged by the truth and
the prediction on top of it:

right         the prediction's class is the truth's, and so is the object
wrong object  the class is right, but the object is not: split, merged, or not even half covered
wrong class   one thing for another thing, or one stuff for another stuff
missed        a true thing where the prediction has stuff or nothing, or any truth where it has nothing
invented      a predicted thing where the truth has stuff or nothing
void          nobody knows what is there (panoptic and semantic truth without a segment)
"""

from __future__ import annotations

import numpy as np

from segcli.render import Style, outline, overlay, paint_map, tint
from segcli.render.legend import Entry, Panel, panel, side_by_side
from segcli.segments import Segments
from segcli.types import OBJECT_TASKS

KINDS = ("right", "wrong class", "wrong object", "missed", "invented", "void")
RIGHT, WRONG_CLASS, WRONG_OBJECT, MISSED, INVENTED, VOID = range(1, 7)  # values of a kind map; 0: nothing, rightly

# Okabe and Ito's colours, which colour-blind eyes tell apart; what is right stays quiet, so that errors are seen.
KIND_COLOURS = np.array(
    [(0, 158, 115), (213, 94, 0), (240, 228, 66), (0, 114, 178), (204, 121, 167), (40, 40, 40)], dtype=np.uint8
)
KIND_OPACITY = np.array([0.3, 0.75, 0.75, 0.75, 0.75, 0.6])


def error_map(image: np.ndarray, truth: Segments, predicted: Segments) -> np.ndarray:
    """The photo in grey with every pixel's kind of error over it.

    Args:
        image: uint8 RGB [H, W, 3]; left as it is.
        truth, predicted: of the same task and size; classes are compared by the dataset's ids.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        ValueError: the three differ in size, or the two in their task.
    """
    return _drawn(image, compare(truth, predicted), truth, predicted)


def triptych(image: np.ndarray, truth: Segments, predicted: Segments) -> np.ndarray:
    """Truth, prediction and error map side by side -> uint8 RGB [H, 3 W + 2 · 8, 3]. Raises as `error_map`."""
    errors = error_map(image, truth, predicted)
    return side_by_side([(overlay(image, truth), []), (overlay(image, predicted), []), (errors, [])])


def error_panels(image: np.ndarray, truth: Segments, predicted: Segments, style: Style) -> list[Panel]:
    """The pictures of a triptych with captions: what they are, and what the colours mean. Raises as `error_map`."""
    kinds = compare(truth, predicted)
    shares = np.bincount(kinds.ravel(), minlength=len(KINDS) + 1)[1:] / kinds.size
    colours = [tuple(colour) for colour in KIND_COLOURS.tolist()]
    key = [
        Entry(f"{name} {share:.1%}", colour)
        for name, share, colour in zip(KINDS, shares, colours, strict=True)
        if share >= 0.0005
    ]
    return [
        panel(image.copy(), truth, style, "truth"),
        panel(image.copy(), predicted, style, "prediction"),
        (_drawn(image, kinds, truth, predicted), [Entry("errors"), *key]),
    ]


def _drawn(image: np.ndarray, kinds: np.ndarray, truth: Segments, predicted: Segments) -> np.ndarray:
    if image.shape[:2] != kinds.shape:
        raise ValueError(f"photo is {image.shape[:2]}, the segments {kinds.shape}")
    grey = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    drawn = np.repeat((48 + 0.7 * grey).astype(np.uint8)[..., None], 3, axis=2)
    tint(drawn, kinds, KIND_COLOURS, KIND_OPACITY, outlines=False)
    outline(drawn, paint_map(predicted), (0, 0, 0))
    outline(drawn, paint_map(truth), (255, 255, 255))
    return drawn


def compare(truth: Segments, predicted: Segments) -> np.ndarray:
    """The kind of every pixel -> uint8 [H, W], 0 where there is rightly nothing.

    Raises:
        ValueError: truth and prediction differ in size or task.
    """
    if tuple(truth.size) != tuple(predicted.size):
        raise ValueError(f"truth is {truth.size}, the prediction {predicted.size}")
    if truth.task != predicted.task:
        raise ValueError(f"truth is {truth.task}, the prediction {predicted.task}")
    true_ids, seen_ids = paint_map(truth), paint_map(predicted)
    if truth.rles is None:
        pairs = true_ids.astype(np.int64) * (len(predicted) + 1) + seen_ids
        common = np.bincount(pairs.ravel(), minlength=(len(truth) + 1) * (len(predicted) + 1))
        return _judged(truth, predicted, _matched_map(truth, predicted, common)).ravel()[pairs]
    return _compare_instances(truth, predicted, true_ids, seen_ids)


def _judged(truth: Segments, predicted: Segments, matched: np.ndarray) -> np.ndarray:
    """The kind of each pair -> uint8 [N + 1, M + 1]; row 0 is no truth, column 0 no prediction.

    matched: bool [N, M].
    """
    kinds = np.zeros((len(truth) + 1, len(predicted) + 1), dtype=np.uint8)
    kinds[0, 1:] = INVENTED
    kinds[1:, 0] = MISSED
    alike = _alike(truth, predicted)
    true_thing, seen_thing = (np.array(side.isthing(), dtype=bool) for side in (truth, predicted))
    between = np.full(alike.shape, WRONG_CLASS, dtype=np.uint8)
    if truth.task == "panoptic":
        between[true_thing[:, None] & ~seen_thing] = MISSED
        between[~true_thing[:, None] & seen_thing] = INVENTED
    things = true_thing[:, None] & (truth.task != "semantic")
    between[alike & things] = WRONG_OBJECT
    between[(alike & ~things) | matched] = RIGHT
    kinds[1:, 1:] = between
    if truth.task not in OBJECT_TASKS:
        kinds[0] = VOID
    return kinds


def _alike(truth: Segments, predicted: Segments) -> np.ndarray:
    """Which pairs are of one class -> bool [N, M]."""
    true, seen = (np.array(side.category_ids(), dtype=np.int64) for side in (truth, predicted))
    return true[:, None] == seen


def _matched_map(truth: Segments, predicted: Segments, common: np.ndarray) -> np.ndarray:
    """Pairs of one class with an IoU above 0.5 outside void -> bool [N, M].

    common: int64 [(N + 1) · (M + 1)] pixels of each pair of ids.
    """
    common = common.reshape(len(truth) + 1, len(predicted) + 1)
    both = common[1:, 1:]
    union = common[1:].sum(1)[:, None] + both.sum(0) - both
    return _alike(truth, predicted) & (2 * both > union)


def _compare_instances(truth: Segments, predicted: Segments, true_ids: np.ndarray, seen_ids: np.ndarray) -> np.ndarray:
    """As `compare`, where objects overlap: a pixel of a matched pair is right on whichever side it is on top."""
    found, explained = np.zeros(truth.size, dtype=bool), np.zeros(truth.size, dtype=bool)
    for true, seen in _matched_instances(truth, predicted):
        x, y, common = _common(truth.crop(true), predicted.crop(seen))
        part = slice(y, y + common.shape[0]), slice(x, x + common.shape[1])
        found[part] |= common & (true_ids[part] == true + 1)
        explained[part] |= common & (seen_ids[part] == seen + 1)
    unmatched = np.zeros((len(truth), len(predicted)), dtype=bool)
    kinds = _judged(truth, predicted, unmatched)[true_ids, seen_ids]
    kinds[found & (seen_ids > 0)] = INVENTED
    kinds[explained & (true_ids > 0)] = MISSED
    kinds[found & explained] = RIGHT
    return kinds


def _matched_instances(truth: Segments, predicted: Segments) -> list[tuple[int, int]]:
    """Pairs of one class with an IoU above 0.5, each side once; the first predictions (the surest) choose first."""
    boxes, others = truth.boxes(), predicted.boxes()
    areas, other_areas = truth.areas(), predicted.areas()
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    possible = np.prod(np.maximum(high - low, 0), axis=2) * 2 > np.maximum(areas[:, None], other_areas)
    possible &= _alike(truth, predicted)
    free, pairs = np.ones(len(truth), dtype=bool), []
    for seen in range(len(predicted)):
        best, choice = 0.5, -1
        for true in np.flatnonzero(possible[:, seen] & free).tolist():
            both = int(_common(truth.crop(true), predicted.crop(seen))[2].sum())
            iou = both / (areas[true] + other_areas[seen] - both)
            if iou > best:
                best, choice = iou, true
        if choice >= 0:
            free[choice] = False
            pairs.append((choice, seen))
    return pairs


def _common(a: tuple[int, int, np.ndarray], b: tuple[int, int, np.ndarray]) -> tuple[int, int, np.ndarray]:
    """Where two crops (x, y, bool [h, w]) overlap, as a crop."""
    x, y = max(a[0], b[0]), max(a[1], b[1])
    right = min(a[0] + a[2].shape[1], b[0] + b[2].shape[1])
    bottom = min(a[1] + a[2].shape[0], b[1] + b[2].shape[0])
    if right <= x or bottom <= y:
        return x, y, np.zeros((0, 0), dtype=bool)
    one, other = (m[y - top : bottom - top, x - left : right - left] for left, top, m in (a, b))
    return x, y, one & other
