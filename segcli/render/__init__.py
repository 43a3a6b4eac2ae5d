"""Draw Segments over a photo: tinted masks, outlines, and labels that stay readable at any size.

Every length follows from the picture's size, so a thumbnail and a 48-megapixel photo look alike when shown at the
same size on a screen. Colours depend only on the model's classes and the order of the segments: the same input gives
the same bytes. Pixels outside every segment (and its label) are the photo's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segcli.class_names import CELLS, is_background, meaning_of
from segcli.codecs.opencv import opencv
from segcli.render.colours import ColorBy, meaning, segment_colours
from segcli.render.labels import draw_ids, draw_labels
from segcli.render.shades import shaded
from segcli.segments import Segments
from segcli.types import LabelSet

_STRIP = 256  # rows at a time: the working set stays in the cache, and memory flat
_OUTLINE = 0.0016  # an outline's width as a share of √(H·W): 1 px up to 0.8 megapixels, 6 px at 12
_ALPHA = 0.5
_STUFF = 0.75  # background is tinted this much less than the things in front of it
_WHITE = 0.3  # share of white in an outline, to lift it off its own tint …
_BLACK = 0.25  # … or of black, where the photo is brighter than this of 255
_BRIGHT = 150
_SAMPLES = 400  # rows and columns that are looked at for that


@dataclass(frozen=True)
class Style:
    """How segments are drawn. Detections are boxes alone."""

    color_by: ColorBy | None = None  # what a colour means; None: the class, or the instance of one class of things
    alpha: float | None = None  # opacity of the tint, 0..1, of stuff beside things less; None: see `resolved`
    labels: bool = True  # write names and scores where they fit
    ids: bool = False  # write every segment's id instead, as in the label map and the tables
    outlines: bool = True  # opaque
    boxes: bool = False  # a box around each thing

    def resolved(self, labels: LabelSet) -> Style:
        """The style with its opacity decided: half; but stained tissue is looked at itself, so that cells and nuclei
        get outlines alone, without tint and names.
        """
        if self.alpha is not None:
            return self
        stained = len(labels) == 1 and meaning_of(labels[0].name) in CELLS
        return replace(self, alpha=0.0, labels=self.ids) if stained else replace(self, alpha=_ALPHA)


def overlay(image: np.ndarray, segments: Segments, style: Style = Style()) -> np.ndarray:
    """The photo with its segments drawn over it.

    Args:
        image: uint8 RGB [H, W, 3], the size of the segments; left as it is.

    Returns:
        uint8 RGB [H, W, 3].

    Raises:
        UsageError: OpenCV does not load.
        ValueError: image and segments differ in size.
    """
    return draw(image.copy(), segments, style)[0]


def draw(
    image: np.ndarray,
    segments: Segments,
    style: Style,
    colours: np.ndarray | None = None,
    ids: Sequence[int] | None = None,
) -> tuple[np.ndarray, list[int]]:
    """As `overlay`, but into `image` itself; -> it, and the segments that are named in it.

    colours: uint8 [N, 3], in place of those that `style.color_by` means. ids: what `style.ids` writes, where segments
    were left out and are numbered anew.
    """
    if image.shape[:2] != tuple(segments.size):
        raise ValueError(f"photo is {image.shape[:2]}, the segments {segments.size}")
    if not len(segments):
        return image, []
    style = style.resolved(segments.label_set)
    if segments.task == "detect":
        style = replace(style, alpha=0.0, outlines=False, boxes=True)
    alpha = style.alpha or 0.0
    paint = segments.ids() if style.ids else paint_map(segments)
    things = np.array(segments.isthing())
    by_class = False
    if colours is None:
        colours = segment_colours(segments, style.color_by)
        if by_class := meaning(segments, style.color_by) == "class":
            colours = shaded(colours, paint, segments.labels, things, _reach(paint.size))
    opacity = np.where(things | (segments.task == "semantic"), alpha, _STUFF * alpha)
    paint, segments = _without_background(paint, segments)
    tint(image, paint, colours, opacity, outlines=style.outlines)
    if style.boxes and segments.task != "semantic":
        _draw_boxes(image, segments.boxes()[things], _lines(colours, np.zeros(len(colours), dtype=bool))[things])
    if style.labels and style.ids:
        in_map = segments.category_ids() if segments.task == "semantic" else ids or range(1, len(segments) + 1)
        draw_ids(image, paint, segments, in_map)
        return image, []
    return image, draw_labels(image, paint, segments, colours, by_class=by_class) if style.labels else []


def _without_background(paint: np.ndarray, segments: Segments) -> tuple[np.ndarray, Segments]:
    """What is none of the classes is left as it is: nothing is painted there, and nothing named. Numbers stay."""
    quiet = np.array([is_background(name) for name in segments.names()], dtype=bool)
    if not quiet.any():
        return paint, segments
    kept = np.append(0, np.where(quiet, 0, np.arange(1, len(quiet) + 1))).astype(paint.dtype)
    return kept[paint], replace(segments, map=kept[segments.map]) if segments.map is not None else segments


def paint_map(segments: Segments) -> np.ndarray:
    """Ids [H, W] to paint, i + 1 = segment i. Where instances overlap the smaller is on top, so that none is buried."""
    if segments.map is not None:
        return segments.map
    ids = np.zeros(segments.size, dtype=np.uint16 if len(segments) < 65536 else np.int32)
    for index in np.argsort(-segments.areas(), kind="stable").tolist():
        x, y, mask = segments.crop(index)
        np.copyto(ids[y : y + mask.shape[0], x : x + mask.shape[1]], index + 1, where=mask)
    return ids


def tint(
    image: np.ndarray, paint: np.ndarray, colours: np.ndarray, opacity: np.ndarray, *, outlines: bool = True
) -> None:
    """Blend every segment's colour into its pixels and draw its inner outline, in place.

    colours: uint8 [N, 3]; opacity: [N], 0..1; row i is that of the ids i + 1.

    A pixel belongs to an outline if its neighbourhood holds another id: where the largest and the smallest id around
    it differ. Two neighbours get a line each, in their own colours; the frame of the picture gets none.
    """
    cv2 = opencv()
    reach = _reach(paint.size)
    none = np.zeros((1, 3), dtype=np.uint8)
    fill = np.concatenate([none, (colours * opacity[:, None]).round().astype(np.uint8)])
    line = np.concatenate([none, _lines(colours, _is_bright(image, paint, len(colours)))])
    levels = np.unique(opacity)
    numbers = _numbers(paint)
    height = len(paint)
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        ids = paint[top:bottom]
        if not ids.any():
            continue
        strip = image[top:bottom]
        colour = np.take(fill, ids, axis=0)
        tinted = None
        for level in levels:  # one or two: fill colours come multiplied by their opacity, the photo by what is left
            blended = cv2.addWeighted(strip, 1 - level, colour, 1, 0)
            here = np.concatenate([[False], opacity == level])
            if tinted is None:
                tinted = blended
            else:
                cv2.copyTo(blended, here[ids].view(np.uint8), tinted)
        cv2.copyTo(tinted, (ids != 0).view(np.uint8), strip)
        if outlines:
            edge = _edge(numbers, top, bottom, reach)
            strip[edge] = line[ids[edge]]


def outline(image: np.ndarray, paint: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw the inner outline of every segment in one colour, half as wide as that of `tint`, in place."""
    numbers = _numbers(paint)
    reach = max(1, _reach(paint.size) // 2)
    for top in range(0, len(paint), _STRIP):
        bottom = min(top + _STRIP, len(paint))
        image[top:bottom][_edge(numbers, top, bottom, reach)] = colour


def _edge(numbers: np.ndarray, top: int, bottom: int, reach: int) -> np.ndarray:
    """Which pixels of some rows belong to an outline -> bool [bottom - top, W]."""
    cv2 = opencv()
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    first, last = max(0, top - reach), min(len(numbers), bottom + reach)
    around = numbers[first:last]
    edge = (cv2.dilate(around, kernel) != cv2.erode(around, kernel))[top - first : bottom - first]
    return edge & (numbers[top:bottom] != 0)


def _draw_boxes(image: np.ndarray, boxes: np.ndarray, colours: np.ndarray) -> None:
    """A frame just inside each box (x0, y0, x1, y1, exclusive), in place."""
    cv2 = opencv()
    thickness = 2 * _reach(image.shape[0] * image.shape[1])
    inset = thickness // 2
    for (x0, y0, x1, y1), colour in zip(boxes.tolist(), colours.tolist(), strict=True):
        if x1 > x0:
            cv2.rectangle(image, (x0 + inset, y0 + inset), (x1 - 1 - inset, y1 - 1 - inset), colour, thickness)


def _reach(pixels: int) -> int:
    """An outline's width in a picture of so many pixels."""
    return max(1, round(_OUTLINE * math.sqrt(pixels)))


def _lines(colours: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """The colours of lines, uint8 [N, 3]: a tint's, lighter, or darker where the photo is bright (bool [N])."""
    lighter, darker = colours * (1 - _WHITE) + 255 * _WHITE, colours * (1 - _BLACK)
    return np.where(bright[:, None], darker, lighter).astype(np.uint8)


def _is_bright(image: np.ndarray, paint: np.ndarray, count: int) -> np.ndarray:
    """Whether the photo is bright below each segment, on average over a sample of its pixels -> bool [count]."""
    step = max(1, math.isqrt(paint.size) // _SAMPLES)
    ids = paint[::step, ::step].ravel().astype(np.int64)
    green = image[::step, ::step, 1].ravel()  # nearly the luminance
    sums, counts = (np.bincount(ids, weights=w, minlength=count + 1)[1:] for w in (green, None))
    return sums > _BRIGHT * counts


def _numbers(paint: np.ndarray) -> np.ndarray:
    """Ids as OpenCV's morphology takes them; beyond 65,535 ids numbers are reused (only outlines depend on it)."""
    if paint.dtype in (np.uint8, np.uint16):
        return paint
    if paint.max(initial=0) < 65536:
        return paint.astype(np.uint16)
    return np.where(paint > 0, paint % 65535 + 1, 0).astype(np.uint16)
