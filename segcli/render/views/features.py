"""The maps of a network as pictures, and the places that deformable attention reads for one pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np

from segcli.render.views.panels import Backdrop, cells
from segcli.render.views.sheet import LINE, QUIET, Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = (("backbone", "backbone"), ("pixel decoder", "pixel\ndecoder"))
_WIDEST, _TALLEST = 430, 380  # pixels of a panel
_NARROWEST, _LOWEST = 330, 75  # and of the words above and beside it
_SIDE, _GAP, _MARGIN = 130, 14, 30
_LEAST = 1150  # pixels across that the words need
_COLOURS = ("#E69F00", "#56B4E9", "#F0E442")  # of the levels that are read, coarse to fine: Okabe and Ito
_LARGEST = 900.0  # square points of a dot that had all the weight


@dataclass(frozen=True)
class FeatureMap:
    """A map of the network. part: "backbone", "pixel decoder" or "mask features"; channels: how many it has.

    rgb: uint8 [h, w, 3], its first three principal components over the photo; explained: their share of the variance.
    share: how much of `rgb` the photo covers, (rows, columns): the last row and column may lie in the padding, in part.
    """

    part: str
    stride: int
    channels: int
    rgb: np.ndarray
    explained: float
    share: tuple[float, float]


@dataclass(frozen=True)
class Samples:
    """What the position of one level (`stride`) that holds a pixel reads, over all heads.

    cell: its centre; points: float32 [P, 2]; both x, y in [0, 1] of the photo, points may lie outside. weights: float32
    [P], 1 in sum. levels: int64 [P], which level a point is read from, an index into `strides`.
    """

    stride: int
    cell: tuple[float, float]
    points: np.ndarray
    weights: np.ndarray
    levels: np.ndarray
    strides: tuple[int, ...]


def draw_features(photo: np.ndarray, maps: Sequence[FeatureMap], samples: Sequence[Samples] = ()) -> Figure:
    """A column a stride, fine to coarse: the backbone's maps above, what the pixel decoder makes of them below, and
    below that the points that are read for one pixel, if there are any.

    Args:
        photo: uint8 RGB [H, W, 3].
    """
    strides = sorted({m.stride for m in maps})
    backdrop = Backdrop.of(photo, (_TALLEST, _WIDEST))
    tall, wide = backdrop.size
    pitch, drop = max(wide, _NARROWEST) + _GAP, max(tall, _LOWEST) + LINE + _GAP
    top = _MARGIN + 3 * LINE + 14
    rows = len(_ROWS) + bool(samples)
    width = max(2 * _MARGIN + _SIDE + (len(strides) + 1) * pitch - _GAP, _LEAST)
    sheet = Sheet(width, top + rows * drop - LINE - _GAP + (3 * LINE if samples else 0) + _MARGIN)
    sheet.words(_MARGIN, _MARGIN - 8, "Features: three principal components as red, green, blue", 10, weight="bold")
    left = _MARGIN + _SIDE
    sheet.words(left, top - 5, "photo", size=8, va="bottom")
    sheet.image(left, top, backdrop.bright.round().astype(np.uint8))
    for row, (part, title) in enumerate(_ROWS):
        sheet.words(_MARGIN, top + row * drop + max(tall, _LOWEST) / 2, title, size=8.5, va="center", linespacing=1.4)
        for m in maps:
            if m.part != part and not (row and m.part == "mask features"):
                continue
            x, y = left + (strides.index(m.stride) + 1) * pitch, top + row * drop
            name = "mask features, " if m.part == "mask features" else ""
            sheet.words(x, y - 5, f"{name}1/{m.stride}, {m.channels} channels, {m.explained:.0%}", 8, va="bottom")
            sheet.image(x, y, cells(m.rgb, m.share, backdrop.size))
    note = "percentages: how much of the variance the three colours hold; the levels of the pixel decoder share theirs"
    sheet.words(_MARGIN, _MARGIN + LINE + 2, note, size=7.5, color=QUIET)
    if samples:
        _draw_samples(sheet, backdrop, samples, strides, (left, top + len(_ROWS) * drop), pitch)
    return sheet.figure


def _draw_samples(
    sheet: Sheet,
    backdrop: Backdrop,
    samples: Sequence[Samples],
    strides: Sequence[int],
    corner: tuple[int, int],
    pitch: int,
) -> None:
    from matplotlib.lines import Line2D

    left, y = corner
    tall, wide = backdrop.size
    text = "where the last\nlayer reads for\nthe cross"
    sheet.words(_MARGIN, y + max(tall, _LOWEST) / 2, text, size=8.5, va="center", linespacing=1.4)
    faint = (0.55 * backdrop.bright).round().astype(np.uint8)
    for own in samples:
        x = left + (strides.index(own.stride) + 1) * pitch
        sheet.words(x, y - 5, f"its position at 1/{own.stride}", size=8, va="bottom")
        axes = sheet.image(x, y, faint)
        order = np.argsort(own.weights, kind="stable")[::-1]  # small dots on large ones
        at = own.points[order] * (wide, tall) - 0.5
        colours = [_COLOURS[k % len(_COLOURS)] for k in own.levels[order]]
        sizes = np.maximum(own.weights[order] * _LARGEST, 1.5)
        axes.scatter(at[:, 0], at[:, 1], s=sizes, c=colours, linewidths=0.3, edgecolors="black", alpha=0.85)
        cross = own.cell[0] * wide - 0.5, own.cell[1] * tall - 0.5
        axes.plot(*cross, marker="+", markersize=13, color="black", markeredgewidth=3.4)
        axes.plot(*cross, marker="+", markersize=12, color="white", markeredgewidth=1.6)
        axes.set_xlim(-0.5, wide - 0.5)
        axes.set_ylim(tall - 0.5, -0.5)
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour, label=f"read at 1/{stride}")
        for colour, stride in zip(cycle(_COLOURS), samples[0].strides, strict=False)
    ]
    x = left + pitch * (1 + min(strides.index(own.stride) for own in samples))
    place = (x / sheet.width, 1 - (y + tall + LINE) / sheet.height)
    style = {"fontsize": 8, "handletextpad": 0.1, "columnspacing": 1.2, "borderpad": 0, "frameon": False}
    sheet.figure.legend(handles=marks, loc="center left", bbox_to_anchor=place, ncols=len(marks), **style)
    sheet.words(x, y + tall + 2 * LINE, "a larger dot weighs more; all heads together", 8, color=QUIET, va="center")
