"""What each learnable query has become: where its masks and boxes lie, which classes it wins, how often it is used."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.render.views.panels import coloured
from segcli.render.views.sheet import LINE, QUIET, Sheet, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL = 32**2 / 480**2  # of the image: COCO's small objects in a picture of its usual size
# Okabe and Ito's green, vermilion and blue, for DETR's green, red and blue.
KINDS = (("small", "#009E73"), ("large and wide", "#D55E00"), ("large and tall", "#0072B2"))
_MAP = "magma"
_PANEL, _COLUMNS, _MARGIN = 172, 5, 30
_WIDE, _TILE = 2 * _PANEL + 44, _PANEL + LINE + 44  # pixels of a tile: across, and down without its classes
_USE = 190  # pixels of the chart of use
_NAMED = 3  # classes that a tile lists
_UPRIGHT, _NUMBERED = 40, 120  # bars that have room for their numbers, upright and turned


@dataclass(frozen=True)
class QueryStatistics:
    """Q queries over some images.

    wins: int64 [Q, K], in how many images a query was used for each class; it is used at most once an image.
    mean_masks: float32 [Q, g, g], the mean of its mask probabilities where it was used, the image stretched to a
        square. boxes: float32 [B, 4] cxcywh relative to the image, one a use; box_queries: int64 [B], whose.
    """

    images: int
    names: tuple[str, ...]
    wins: np.ndarray
    mean_masks: np.ndarray
    boxes: np.ndarray
    box_queries: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """int64 [Q], in how many images each was used."""
        return self.wins.sum(1)

    @property
    def dead(self) -> list[int]:
        """Those that were never used."""
        return np.flatnonzero(self.used == 0).tolist()

    def order(self) -> list[int]:
        """Those that were used, the busiest first."""
        return [q for q in np.argsort(-self.used, kind="stable").tolist() if self.used[q]]

    def classes(self, query: int) -> list[tuple[str, int]]:
        """(class, images) that a query wins, most first."""
        order = np.argsort(-self.wins[query], kind="stable")
        return [(self.names[k], int(self.wins[query, k])) for k in order if self.wins[query, k]]


def draw_queries(statistics: QueryStatistics, most: int = 20) -> Figure:
    """How often every query is used, then a tile for each of the `most` busiest.

    A tile: the mean of its masks, the centres of its boxes (as DETR's figure 7), and the classes it wins.
    """
    shown = statistics.order()[:most]
    listed = max((min(len(statistics.classes(query)), _NAMED) for query in shown), default=0)
    tall = _TILE + listed * LINE
    top = _MARGIN + 2 * LINE + _USE + 5 * LINE + 34
    dead = textwrap.wrap(_dead_line(statistics), 235)
    foot = top + -(-len(shown) // _COLUMNS) * tall
    sheet = Sheet(2 * _MARGIN + _COLUMNS * _WIDE - 24, foot + len(dead) * LINE + _MARGIN)
    count = len(statistics.wins)
    title = f"{count} queries over {statistics.images} image{'s' * (statistics.images != 1)}"
    sheet.words(_MARGIN, _MARGIN - 8, title, size=10.5, weight="bold")
    used = f"{count - len(statistics.dead)} are used, {len(statistics.dead)} never"
    sheet.words(_MARGIN, _MARGIN + LINE + 2, used, size=8, color=QUIET)
    _draw_use(sheet, statistics, (_MARGIN + 70, _MARGIN + 3 * LINE - 4))
    if shown:
        _draw_key(sheet, (_MARGIN, top - LINE - 26))
    for number, query in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        _draw_tile(sheet, statistics, query, (_MARGIN + column * _WIDE, top + row * tall))
    for number, line in enumerate(dead):
        sheet.words(_MARGIN, foot + number * LINE, line, size=8)
    return sheet.figure


def _draw_key(sheet: Sheet, corner: tuple[int, int]) -> None:
    """What the two panels of a tile and the colours of the points are."""
    from matplotlib.lines import Line2D

    x, y = corner
    text = "left: the mean of its masks where it is used      right: the centres of their boxes"
    sheet.words(x, y, text, size=8, color=QUIET)
    dots = [Line2D([], [], linestyle="", marker="o", markersize=4, color=colour, label=name) for name, colour in KINDS]
    at = (x + 800) / sheet.width, 1 - (y + 9) / sheet.height
    style = {"fontsize": 8, "labelcolor": QUIET, "handletextpad": 0.1, "columnspacing": 1.2, "borderpad": 0}
    sheet.figure.legend(handles=dots, loc="center left", bbox_to_anchor=at, ncols=len(dots), frameon=False, **style)


def _draw_use(sheet: Sheet, statistics: QueryStatistics, corner: tuple[int, int]) -> None:
    """A bar a query, the busiest first, with its number where there is room."""
    order = np.argsort(-statistics.used, kind="stable")
    shares = statistics.used[order] / max(statistics.images, 1)
    x, y = corner
    width = sheet.width - x - _MARGIN
    axes = sheet.axes(x, y, width, _USE)
    axes.bar(np.arange(len(order)), shares, width=0.8, color="#56B4E9")
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylim(0, max(float(shares.max(initial=0)) * 1.08, 0.01))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    ticks = range(len(order)) if len(order) <= _NUMBERED else []
    axes.set_xticks(list(ticks), [str(order[i]) for i in ticks], fontsize=6, rotation=90 * (len(order) > _UPRIGHT))
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelsize=7.5)
    sheet.words(x, y + _USE + 2 * LINE, "query, the busiest first; share of the images it is used in", 7.5, color=QUIET)


def _draw_tile(sheet: Sheet, statistics: QueryStatistics, query: int, corner: tuple[int, int]) -> None:
    x, y = corner
    share = statistics.used[query] / statistics.images
    sheet.words(x, y, f"query {query}", size=8.5, weight="bold")
    sheet.words(x + 2 * _PANEL + 10, y + 2, f"used in {share:.0%}", size=7.5, color=QUIET, ha="right")
    y += LINE + 6
    sheet.image(x, y, mean_mask_panel(statistics.mean_masks[query]))
    _draw_boxes(sheet, statistics.boxes[statistics.box_queries == query], (x + _PANEL + 10, y))
    y += _PANEL + 8
    won = statistics.classes(query)
    rest = sum(images for _, images in won[_NAMED - 1 :])
    lines = won if len(won) <= _NAMED else [*won[: _NAMED - 1], (f"{len(won) - _NAMED + 1} others", rest)]
    for name, images in lines:
        part = images / statistics.used[query]
        bar = max(2, round(part * 90))
        sheet.image(x, y + 4, np.full((11, bar, 3), (86, 180, 233), dtype=np.uint8))
        sheet.words(x + 98, y, f"{shortened(name, 24)} {part:.0%}", size=7.5)
        y += LINE


def mean_mask_panel(mean: np.ndarray) -> np.ndarray:
    """A mean mask [g, g], its highest value bright -> uint8 [_PANEL, _PANEL, 3]."""
    from segcli.codecs.image import resize

    most = float(mean.max())
    return resize(coloured(mean / most if most else mean, _MAP), (_PANEL, _PANEL))


def _draw_boxes(sheet: Sheet, boxes: np.ndarray, corner: tuple[int, int]) -> None:
    axes = sheet.axes(*corner, _PANEL, _PANEL)
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)
    axes.set_xticks([0.5], [])
    axes.set_yticks([0.5], [])
    axes.tick_params(length=0)
    axes.grid(alpha=0.25)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#bbbbbb")
    kinds = kinds_of(boxes)
    size = float(np.clip(900 / max(len(boxes), 1), 2, 14))
    for kind, (_, colour) in enumerate(KINDS):
        own = boxes[kinds == kind]
        axes.scatter(own[:, 0], own[:, 1], s=size, color=colour, linewidths=0, alpha=0.75, clip_on=False)


def kinds_of(boxes: np.ndarray) -> np.ndarray:
    """Boxes [B, 4] cxcywh relative to the image -> index into KINDS [B], as in DETR's figure 7."""
    width, height = boxes[:, 2], boxes[:, 3]
    return np.where(width * height < SMALL, 0, np.where(width >= height, 1, 2))


def _dead_line(statistics: QueryStatistics) -> str:
    dead = statistics.dead
    if not dead:
        return "No query is dead: each is used at least once."
    return f"Dead, never used here ({len(dead)}): {', '.join(map(str, dead))}"
