"""What does not fit into a picture, below it: a caption, the meaning of its colours, names that found no place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segcli.class_names import is_background
from segcli.render import Style, draw
from segcli.render.chips import SMALLEST, font_of, shortened, text_size, writable
from segcli.render.colours import SCORE_RANGE, class_colours, meaning, score_colours
from segcli.segments import Segments

_INK, _PAPER = (40, 40, 40), 255
_GAP = 8  # white pixels between pictures side by side


@dataclass(frozen=True)
class Entry:
    """A text, and the colour it explains."""

    text: str
    colour: tuple[int, int, int] | None = None


def annotated(image: np.ndarray, segments: Segments, style: Style, title: str | None = None) -> np.ndarray:
    """The photo with its segments, and below it a title and whatever of the legend is needed.

    A legend lists the classes if not all of them are named in the picture, or the scale if colours are scores.

    Args:
        image: uint8 RGB [H, W, 3], the size of the segments; left as it is.

    Returns:
        uint8 RGB [H + h, W, 3]; h = 0 if there is nothing to say.
    """
    return side_by_side([panel(image.copy(), segments, style, title)])


Panel = tuple[np.ndarray, list[Entry]]  # a picture, and what stands below it


def panel(
    image: np.ndarray, segments: Segments, style: Style, title: str | None = None, ids: Sequence[int] | None = None
) -> Panel:
    """The picture, drawn into `image` itself, and its caption; see `annotated`, and `draw` for ids."""
    drawn, named = draw(image, segments, style, ids=ids)
    entries = [Entry(title)] if title is not None else []
    if style.resolved(segments.label_set).labels and len(segments):
        by = meaning(segments, style.color_by)
        if by == "score":
            entries += _scale()
        shown = segments.labels[segments.areas() > 0]
        if len(np.setdiff1d(shown, segments.labels[named])):
            entries += class_entries(segments, with_colours=by == "class")
    return drawn, entries


def class_entries(segments: Segments, *, with_colours: bool) -> list[Entry]:
    """The classes in a picture and how many segments each has, the largest first."""
    areas = segments.areas()
    areas = np.where([is_background(name) for name in segments.names()], 0, areas)
    total = np.bincount(segments.labels, weights=areas, minlength=len(segments.label_set))
    count = np.bincount(segments.labels[areas > 0], minlength=len(segments.label_set))
    colours = class_colours(segments.label_set).tolist()
    entries = []
    for index in np.argsort(-total, kind="stable")[: int((total > 0).sum())].tolist():
        label = segments.label_set[index]
        name = writable(shortened(label.name), f"class {label.id}")[1]
        text = name if count[index] == 1 else f"{name} x {count[index]}"
        entries.append(Entry(text, tuple(colours[index]) if with_colours else None))
    return entries


def _scale() -> list[Entry]:
    low, high = SCORE_RANGE
    steps = np.linspace(low, high, 6)
    texts = [f"score <= {low:g}", *(f"{step:g}" for step in steps[1:])]
    return [Entry(text, tuple(colour)) for text, colour in zip(texts, score_colours(steps).tolist(), strict=True)]


def side_by_side(panels: Sequence[Panel], columns: int | None = None) -> np.ndarray:
    """Panels in rows of `columns` (one row if None), white between them, each with its caption right below it.

    Pictures of one row stand on one line; a column is as wide as its widest.
    """
    if len(panels) == 1 and not panels[0][1]:
        return panels[0][0]
    columns = columns or len(panels)
    rows = [list(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    widths = [max(row[place][0].shape[1] for row in rows if place < len(row)) for place in range(len(rows[0]))]
    heights = [max(picture.shape[0] for picture, _ in row) for row in rows]
    strips = []
    for row in rows:
        places = zip(row, widths, strict=False)  # the last row may be shorter
        strips.append([caption(entries, width, text_size(*drawn.shape[:2])) for (drawn, entries), width in places])
    below = [max(strip.shape[0] for strip in row) for row in strips]
    total = sum(heights) + sum(below) + _GAP * (len(rows) - 1)
    sheet = np.full((total, sum(widths) + _GAP * (len(widths) - 1), 3), _PAPER, dtype=np.uint8)
    top = 0
    for row, captions, height, foot in zip(rows, strips, heights, below, strict=True):
        left = 0
        for (picture, _), strip, width in zip(row, captions, widths, strict=False):
            h, w = picture.shape[:2]
            sheet[top + height - h : top + height, left : left + w] = picture
            sheet[top + height : top + height + len(strip), left : left + width] = strip
            left += width + _GAP
        top += height + foot + _GAP
    return sheet


def caption(entries: Sequence[Entry], width: int, size: int) -> np.ndarray:
    """Entries one after another, in as many lines as they need -> uint8 [h, width, 3], h = 0 without entries."""
    from PIL import Image, ImageDraw

    if not entries:
        return np.zeros((0, width, 3), dtype=np.uint8)
    size = max(SMALLEST, min(size, width // 12))
    line, pad = round(1.5 * size), round(0.4 * size)
    places, x, row = [], pad, 0
    for entry in entries:
        mark = size + pad // 2 if entry.colour else 0
        file, text = writable(entry.text, entry.text.encode("ascii", "replace").decode())
        font = font_of(file, size)
        while len(text) > 4 and font.getlength(text) > width - mark - 2 * pad:
            text = text[:-4].rstrip() + "..."
        needed = mark + round(font.getlength(text))
        if x > pad and x + needed > width - pad:
            x, row = pad, row + 1
        places.append((x, row, mark, text, font, entry.colour))
        x += needed + 2 * pad
    card = Image.new("RGB", (width, (row + 1) * line + pad), (_PAPER,) * 3)
    pen = ImageDraw.Draw(card)
    for x, row, mark, text, font, colour in places:
        y = row * line + pad
        if colour:
            pen.rectangle((x, y + size // 8, x + size - 1, y + size // 8 + size - 1), fill=colour)
        pen.text((x + mark, y), text, font=font, fill=_INK)
    return np.asarray(card)
