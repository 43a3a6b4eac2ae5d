"""Which colour a segment is drawn in: the dataset's where it has one, else one derived from the class's place."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from segcli.segments import Segments
from segcli.types import LabelSet

_GOLDEN = (math.sqrt(5) - 1) / 2  # a counter times this, modulo 1, never comes close to an earlier value


def class_colour(label_set: LabelSet, index: int) -> tuple[int, int, int]:
    """RGB of a class: the dataset's own colour, or the index-th of a sequence of well separated ones."""
    own = label_set[index].color
    if own is not None:
        return own
    hue = (0.58 + index * _GOLDEN) % 1
    return _rgb(hue, (0.55, 0.42, 0.66)[index % 3], 0.8 if label_set[index].isthing else 0.5)


def segment_colours(segments: Segments) -> np.ndarray:
    """uint8 [N, 3] RGB. Stuff has its class's colour; the instances of a class are shades of it.

    A model with a single thing class (cells, cars) has the whole circle of hues for its instances.
    """
    single = sum(segments.label_set.isthing) == 1
    seen: dict[int, int] = {}
    colours = np.zeros((len(segments), 3), dtype=np.uint8)
    for row, label in enumerate(segments.labels.tolist()):
        base = class_colour(segments.label_set, label)
        turn = seen.get(label, 0)
        seen[label] = turn + 1
        colours[row] = _shade(base, turn, single) if turn and segments.label_set[label].isthing else base
    return colours


def text_colour(background: np.ndarray) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a background (WCAG relative luminance, equal contrast at 0.179)."""
    linear = np.where(
        background / 255 <= 0.04045,
        background / 255 / 12.92,
        ((background / 255 + 0.055) / 1.055) ** 2.4,
    )
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def _shade(base: tuple[int, int, int], turn: int, whole_circle: bool) -> tuple[int, int, int]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in base))
    swing = (turn * _GOLDEN) % 1 - 0.5
    hue += swing if whole_circle else 0.14 * swing
    lightness = min(max(lightness + (0.16, -0.14, 0.08, -0.07, 0.0)[turn % 5], 0.28), 0.8)
    return _rgb(hue % 1, lightness, max(saturation, 0.45))


def _rgb(hue: float, lightness: float, saturation: float) -> tuple[int, int, int]:
    red, green, blue = (round(channel * 255) for channel in colorsys.hls_to_rgb(hue, lightness, saturation))
    return red, green, blue
