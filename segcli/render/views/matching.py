"""The Hungarian assignment: what every pair of query and object costs, term by term, and the pairs that were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.render.views.panels import Backdrop, lit, outline, smooth
from segcli.render.views.sheet import INK, LINE, QUIET, Sheet, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHEET, _MARGIN, _GAP = 2150, 30, 36
_NAMES = 230  # pixels for the names of the objects
_ROW = (19, 60)  # least and most pixels of a row of the matrices
_OBJECTS, _QUERIES = 40, 100  # rows and columns that a matrix shows at most
_PANEL = (230, 240)  # (height, width) at most of one of the two masks of a pair
_DARKEST = 96  # of the channels of a colour that is to be seen on a dimmed photo
_WRONG = "#B03A00"  # of a query that says another class
_MAP = "viridis_r"  # cheap is bright
_DIGITS = 2  # of a cost; what agrees in these has one colour
_WRITTEN = 26  # pixels of a cell, at least, that holds its number


@dataclass(frozen=True)
class Assignment:
    """Q queries and N objects of one photo.

    terms: name -> weighted cost, float32 [Q, N]. pairs: (query, object), one an object, or as many as there are
    queries. objects: class names [N]; colours: uint8 [N, 3] of these. says: (class, probability) of every query.
    truth: bool [N, h, w] at the network's size. masks: logits [M, h', w'] of the pairs' queries over the padded frame.
    ious: float [M, N], of each pair's query with every object. shape: what truth and masks show: "mask", or "box".
    """

    terms: dict[str, np.ndarray]
    pairs: tuple[tuple[int, int], ...]
    objects: tuple[str, ...]
    colours: np.ndarray
    says: tuple[tuple[str, float], ...]
    truth: np.ndarray
    masks: np.ndarray
    ious: np.ndarray
    shape: str = "mask"

    @property
    def total(self) -> np.ndarray:
        """float32 [Q, N], what the assignment makes least in sum."""
        return np.sum(list(self.terms.values()), axis=0)

    def order(self) -> list[int]:
        """Places in `pairs`, the largest objects first."""
        areas = self.truth.sum((1, 2))
        return sorted(range(len(self.pairs)), key=lambda i: (-int(areas[self.pairs[i][1]]), i))

    def cost(self, place: int) -> dict[str, float]:
        """The terms of one pair."""
        return {name: float(values[self.pairs[place]]) for name, values in self.terms.items()}


def draw_matching(photo: np.ndarray, found: Assignment, share: tuple[float, float], most: int = 12) -> Figure:
    """The matrices of all terms and of their sum, and below them the `most` largest objects with their queries.

    Args:
        photo: uint8 RGB [H, W, 3].
        share: the photo's share of the padded frame, (rows, columns).
    """
    order = found.order()
    rows = [found.pairs[i] for i in order[:_OBJECTS]]
    matrices = {**found.terms, "sum": found.total}
    across = -(-len(matrices) // 2)
    row = int(np.clip(420 // max(len(rows), 1), *_ROW))
    tall = row * len(rows)
    wide = (_SHEET - 2 * _MARGIN - _NAMES - (across - 1) * _GAP) // across
    columns = _columns(found, rows)
    top = _MARGIN + 3 * LINE
    pairs_top = top + 2 * (tall + 3 * LINE) + 2 * LINE
    backdrop = Backdrop.of(photo, _PANEL)
    pair = (2 * backdrop.size[1] + 46, backdrop.size[0] + 4 * LINE + 12)  # (width, height) of a tile
    step = max(pair[0], 440)  # room for a line of words
    in_line = max(1, (_SHEET - 2 * _MARGIN + 40) // step)
    shown = order[:most]
    sheet = Sheet(_SHEET, pairs_top + -(-len(shown) // in_line) * pair[1] + _MARGIN)
    _title(sheet, found, len(rows), len(columns))
    for number, (name, values) in enumerate(matrices.items()):
        line, column = divmod(number, across)
        x, y = _MARGIN + _NAMES + column * (wide + _GAP), top + LINE + line * (tall + 3 * LINE)
        if not column:
            _names(sheet, found, rows, (x - 8, y), row)
        _matrix(sheet, name, values, rows, columns, (x, y, wide, tall))
    rest = len(order) - len(shown)
    text = f"pairs: true {found.shape}, {found.shape} of its query" + (
        f"; {rest} smaller objects are not shown" if rest else ""
    )
    sheet.words(_MARGIN, pairs_top - LINE - 14, text, size=9, weight="bold")
    for number, place in enumerate(shown):
        line, column = divmod(number, in_line)
        _pair(sheet, backdrop, found, place, share, (_MARGIN + column * step, pairs_top + line * pair[1]), step)
    return sheet.figure


def _title(sheet: Sheet, found: Assignment, rows: int, columns: int) -> None:
    queries, objects = found.total.shape
    left = f": {objects - queries} find none" if objects > queries else ""
    sheet.words(_MARGIN, _MARGIN - 8, f"{objects} objects, {queries} queries{left}", size=10.5, weight="bold")
    shown = f"{rows} largest objects" if rows < objects else "objects, the largest first"
    text = (
        f"rows: {shown}; columns: {'their queries' if columns <= rows else 'their queries, then the cheapest others'}; "
        "bright is cheap, by rank in its panel; boxes: the assignment of least total cost"
    )
    sheet.words(_MARGIN, _MARGIN + LINE + 2, text, size=8, color=QUIET)


def _columns(found: Assignment, rows: list[tuple[int, int]]) -> list[int]:
    """The queries of the rows' objects in their order, then the others, the cheapest first."""
    own = [query for query, _ in rows]
    cheapest = found.total.min(1)
    others = [q for q in np.argsort(cheapest, kind="stable").tolist() if q not in set(own)]
    return (own + others)[: max(_QUERIES, len(own))]


def _names(sheet: Sheet, found: Assignment, rows: list[tuple[int, int]], corner: tuple[int, int], row: int) -> None:
    x, y = corner
    for number, (_, target) in enumerate(rows):
        at = y + (number + 0.5) * row
        sheet.words(x, at, shortened(found.objects[target], 24), size=7.5, ha="right", va="center")


def _matrix(
    sheet: Sheet,
    name: str,
    values: np.ndarray,
    rows: list[tuple[int, int]],
    columns: list[int],
    place: tuple[int, int, int, int],
) -> None:
    from matplotlib.patches import Rectangle

    part = values[columns][:, [target for _, target in rows]].T
    low, high = float(part.min()), float(part.max())
    x, y, wide, tall = place
    axes = sheet.axes(x, y, wide, tall)
    places = ranks(part)
    axes.imshow(places, cmap=_MAP, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    if wide / len(columns) >= _WRITTEN:
        for (line, column), value in np.ndenumerate(part):
            ink = "black" if places[line, column] < 0.5 else "white"
            axes.text(column, line, _number(float(value), 1), ha="center", va="center", fontsize=5.5, color=ink)
    axes.grid(False)
    axes.set_yticks([])
    axes.set_xticks([])
    if wide / len(columns) >= 15:
        turned = 90 * (wide / len(columns) < 26)
        axes.set_xticks(range(len(columns)), [str(q) for q in columns], fontsize=5.5, rotation=turned)
        axes.tick_params(axis="x", length=0, pad=1.5)
    for number, (query, _) in enumerate(rows):
        corner = columns.index(query) - 0.5, number - 0.5
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="white", linewidth=2.2, clip_on=False))
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.0, clip_on=False))
    title = "sum" if name == "sum" else f"{name} cost, weighted"
    sheet.words(x, y - 6, title, size=9, weight="bold", va="bottom")
    sheet.words(
        x + wide,
        y - 6,
        f"{_number(low, 1)} (bright) to {_number(high, 1)}",
        size=7.5,
        color=QUIET,
        ha="right",
        va="bottom",
    )


def ranks(costs: np.ndarray) -> np.ndarray:
    """The share of other costs that are less, 0..1, float64 of the same shape; equal ones have equal shares.

    A large object's mask can cost a hundred, where differences of a tenth decide about small ones: on any scale of the
    values themselves most of a panel would have one colour.
    """
    _, inverse, counts = np.unique(costs.round(_DIGITS), return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    return (below / max(1, int(below[-1])))[inverse].reshape(costs.shape)


def _pair(
    sheet: Sheet,
    backdrop: Backdrop,
    found: Assignment,
    place: int,
    share: tuple[float, float],
    corner: tuple[int, int],
    width: int,
) -> None:
    query, target = found.pairs[place]
    x, y = corner
    colour = np.maximum(found.colours[target], _DARKEST)
    said, score = found.says[query]
    right = said == found.objects[target]
    characters = (width - 40) // 11
    sheet.words(x, y, shortened(found.objects[target], characters), size=8.5, weight="bold")
    text = shortened(f"← query {query}: {said} {score:.2f}", characters)
    sheet.words(x, y + LINE, text, size=8, color=INK if right else _WRONG)
    y += 2 * LINE + 4
    truth = smooth(found.truth[target].astype(np.float32), (1, 1), backdrop.size)
    panel = lit(backdrop, truth, colour)
    outline(panel, truth > 0.5, colour)
    sheet.image(x, y, panel)
    logits = smooth(found.masks[place], share, backdrop.size)
    panel = lit(backdrop, 1 / (1 + np.exp(-logits.clip(-30, 30))), colour)
    outline(panel, logits > 0, colour)
    sheet.image(x + backdrop.size[1] + 6, y, panel)
    terms = " ".join(f"{name} {_number(value, 2)}" for name, value in found.cost(place).items())
    text = shortened(f"IoU {found.ious[place, target]:.2f}  |  {terms}", max(20, (width - 40) // 9))
    sheet.words(x, y + backdrop.size[0] + 4, text, size=7.5, color=QUIET)


def _number(value: float, digits: int) -> str:
    """Rounded, without a minus before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"
