"""Names and scores on the picture: what is labelled, where the label goes, how it is drawn.

A label is a chip in its segment's colour with black or white text, so it reads on any background. It goes to the
roomiest place inside its segment if that is large enough to carry it, otherwise next to it; it stays inside the
picture, never covers another label, nor most of another segment. What finds no place, tiny segments beyond the first
few, and whatever would turn the picture into text stay unlabelled: outlines still show them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from segcli.codecs.opencv import opencv
from segcli.render.chips import SMALLEST, Chip, draw_chip, font_of, measure, shortened, text_size, writable
from segcli.segments import Segments

_TINY = 1.5  # a segment with fewer pixels than this many chips is tiny …
_TINY_LABELS = 8  # … and only so many of those are named
_BUDGET = 0.15  # labels together cover no more than this share of the picture
_HIDDEN = 0.35  # a label may cover this share of a segment that is not its own
_CROWD = 12  # a class with more segments than this is named once
_CONSIDERED = 200  # the largest segments; a tiled photo can have thousands
_GREY = np.array([50, 50, 50], dtype=np.uint8)
_ID_SIZE = 0.7  # of the text of labels
_ROOMY = 4.0  # a segment with more pixels than this many chips carries its label inside

Box = tuple[int, int, int, int]  # x0, y0, x1, y1, exclusive


def draw_labels(
    image: np.ndarray, paint: np.ndarray, segments: Segments, colours: np.ndarray, *, by_class: bool = True
) -> list[int]:
    """Write labels into the picture, in place; large segments choose their place first. -> the segments that got one.

    A class with many segments is named once, with their number, at the left border: no object is called so. by_class:
    colours mean classes, so that this label has one too.
    """
    areas, boxes = segments.areas(), segments.boxes()
    height, width = paint.shape
    size = text_size(height, width)
    crowds = np.bincount(segments.labels[areas > 0], minlength=len(segments.label_set))
    placed: list[Box] = []
    named: list[int] = []
    crowds_named: set[int] = set()
    tiny, budget = 0, _BUDGET * paint.size
    for index in np.argsort(-areas, kind="stable")[:_CONSIDERED].tolist():
        label = int(segments.labels[index])
        if areas[index] == 0 or label in crowds_named:
            continue
        is_crowd = crowds[label] > _CROWD
        chip = measure(*_text(segments, index, int(crowds[label]) if is_crowd else 1), size, width, height)
        if chip is None:
            continue
        small = areas[index] < _TINY * chip.width * chip.height
        if (small and tiny >= _TINY_LABELS and not is_crowd) or chip.width * chip.height > budget:
            continue
        place = (
            _at_border(chip, placed, height) if is_crowd else _place(chip, paint, index, boxes[index], areas, placed)
        )
        if place is None:
            continue
        if is_crowd:
            crowds_named.add(label)
        tiny += small
        budget -= chip.width * chip.height
        placed.append((place[0], place[1], place[0] + chip.width, place[1] + chip.height))
        named.append(index)
        draw_chip(image, chip, place, _GREY if is_crowd and not by_class else colours[index])
    return named


def draw_ids(image: np.ndarray, paint: np.ndarray, segments: Segments, ids: Sequence[int]) -> None:
    """Write a segment's id at the place inside of it that has most room, of every segment that is seen, in place."""
    from PIL import Image, ImageDraw

    cv2 = opencv()
    height, width = paint.shape
    font = font_of(None, max(SMALLEST, round(_ID_SIZE * text_size(height, width))))
    card = Image.fromarray(image)
    pen = ImageDraw.Draw(card)
    for index, (x0, y0, x1, y1) in enumerate(segments.boxes().tolist()):
        inside = np.pad((paint[y0:y1, x0:x1] == index + 1).view(np.uint8), 1)
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
        if not distance.max(initial=0):
            continue
        y, x = np.unravel_index(int(distance.argmax()), distance.shape)
        left, top, right, bottom = pen.textbbox((0, 0), text := str(ids[index]), font=font, stroke_width=1)
        place = (
            min(max(x0 + int(x) - 1 - (left + right) / 2, -left), width - right),
            min(max(y0 + int(y) - 1 - (top + bottom) / 2, -top), height - bottom),
        )
        pen.text(place, text, font=font, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    image[:] = np.asarray(card)


def _at_border(chip: Chip, placed: list[Box], height: int) -> tuple[int, int] | None:
    """The first free place at the left border, from the top down."""
    for y in range(0, height - chip.height + 1, chip.height + 2):
        box = (0, y, chip.width, y + chip.height)
        if not any(_overlap(box, other) for other in placed):
            return 0, y
    return None


def _text(segments: Segments, index: int, number: int) -> tuple[str | None, str]:
    """(font file, text) of the label of a segment, or of `number` segments of its class."""
    label = segments.label_set[int(segments.labels[index])]
    file, name = writable(shortened(label.name), f"class {label.id}")
    score = float(segments.scores[index])
    if number > 1:
        return file, f"{name}  x{number}"
    return file, name if math.isnan(score) else f"{name}  {score:.2f}"


# ------------------------------------------------------------------------------------------------------ places


def _place(
    chip: Chip, paint: np.ndarray, index: int, box: np.ndarray, areas: np.ndarray, placed: list[Box]
) -> tuple[int, int] | None:
    """Top left corner for a chip, or None if there is no free place in or beside its segment."""
    height, width = paint.shape
    candidates = _inside(chip, paint, index + 1, box, placed)
    if areas[index] < _ROOMY * chip.width * chip.height:
        candidates = [*_beside(chip, _largest_piece(paint, index + 1, box)), *candidates]
    for x, y in candidates:
        x = min(max(x, 0), width - chip.width)
        if not 0 <= y <= height - chip.height:
            continue
        if any(_overlap((x, y, x + chip.width, y + chip.height), other) for other in placed):
            continue
        if not _hides_another(paint[y : y + chip.height, x : x + chip.width], index + 1, areas):
            return x, y
    return None


def _hides_another(covered: np.ndarray, number: int, areas: np.ndarray) -> bool:
    pixels = np.bincount(covered.ravel(), minlength=len(areas) + 1)
    pixels[number] = 0
    return bool((pixels[1:] > _HIDDEN * areas).any())


def _largest_piece(paint: np.ndarray, number: int, box: np.ndarray) -> np.ndarray:
    """Box of the largest connected piece of a segment: beside the box of all its pieces may be far from any."""
    x0, y0, x1, y1 = (int(v) for v in box)
    step = max(1, min(x1 - x0, y1 - y0) // 64)
    pieces = (paint[y0:y1:step, x0:x1:step] == number).view(np.uint8)
    _, _, stats, _ = opencv().connectedComponentsWithStats(pieces, connectivity=8)
    if len(stats) < 2:  # thinner than a step
        return box
    left, top, width, height, _ = stats[1 + int(stats[1:, 4].argmax())]
    return np.array([x0 + left * step, y0 + top * step, x0 + (left + width) * step, y0 + (top + height) * step])


def _beside(chip: Chip, box: np.ndarray) -> Iterator[tuple[int, int]]:
    """Above, below, right and left of a segment's box."""
    x0, y0, x1, y1 = (int(v) for v in box)
    yield (x0 + x1 - chip.width) // 2, y0 - chip.height
    yield (x0 + x1 - chip.width) // 2, y1
    yield x1, (y0 + y1 - chip.height) // 2
    yield x0 - chip.width, (y0 + y1 - chip.height) // 2


def _inside(chip: Chip, paint: np.ndarray, number: int, box: np.ndarray, placed: list[Box]) -> list[tuple[int, int]]:
    """The place with most room around it inside the segment: the peak of the distance to its border.

    The mask is sampled in steps that are to a chip as width is to height, so that a chip is a square of samples and
    the chessboard distance says whether it fits. Labels that lie there already count as outside.
    """
    cv2 = opencv()
    x0, y0, x1, y1 = (int(v) for v in box)
    step_x = max(1, min(chip.width // 8, (x1 - x0) // 48))
    step_y = max(1, min(chip.height // 4, (y1 - y0) // 48))
    free = np.pad((paint[y0:y1:step_y, x0:x1:step_x] == number).view(np.uint8), 1)
    for left, top, right, bottom in placed:
        columns = slice(max(0, (left - x0) // step_x + 1), max(0, (right - x0) // step_x + 2))
        rows = slice(max(0, (top - y0) // step_y + 1), max(0, (bottom - y0) // step_y + 2))
        free[rows, columns] = 0
    distance = cv2.distanceTransform(free, cv2.DIST_C, 3)
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    if not distance[row, column]:
        return []
    x = x0 + (int(column) - 1) * step_x + step_x // 2
    y = y0 + (int(row) - 1) * step_y + step_y // 2
    return [(x - chip.width // 2, min(max(y - chip.height // 2, 0), max(0, paint.shape[0] - chip.height)))]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
