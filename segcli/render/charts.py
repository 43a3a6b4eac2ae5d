"""Charts of a dataset and of an evaluation: bars, histograms, confusion, precision against recall, calibration.

Each is a matplotlib figure in the style of `render/plots.py`, which saves it. They are legible with two classes and
with 150: many rows stand in columns beside each other, and of many lines only those that say most have names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.render.plots import STYLE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Sequence[float] | np.ndarray | Mapping[str, Sequence[float] | np.ndarray]
_ROWS = 40  # bars below each other, before another column begins
_LENGTH = 26  # characters of a name where many stand close together
_LONGEST = 60  # and beside a bar
_CHARACTER = 0.06  # inches of a name's character beside a bar
_MARKS = ("D", "o", "s")
_DASHES = ("-", "--", ":", "-.")
_NARROW = 7  # least width of a histogram's axis: where all values are one, it stands in the middle of its neighbours


def bars(
    names: Sequence[str],
    values: Series,
    title: str,
    *,
    unit: str = "",
    marks: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    log: bool = False,
) -> Figure:
    """A horizontal bar a name, from 0 and from top to bottom as given, with its value beside it.

    Args:
        names: N of them.
        values: [N], or several series by name, which get a bar each; NaN is shown as "–". All integers are counts.
        unit: what the axis measures.
        marks: further series [N], drawn as points over the bars.
        log: a logarithmic axis, for values that differ by orders of magnitude. It has no 0 for a bar to begin at, so
            values are points there.

    Returns:
        The figure, for `plots.save(figure, path)`.
    """
    import matplotlib

    series = _series(values)
    points = {name: np.asarray(values, dtype=float) for name, values in (marks or {}).items()}
    columns = max(1, math.ceil(len(names) / _ROWS))
    rows = max(1, math.ceil(len(names) / columns))
    legend = len(series) > 1 or bool(points)
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        step = 0.2 + 0.11 * (len(series) - 1)
        wide = 2.2 + _CHARACTER * max((len(shortened(name, _LONGEST)) for name in names), default=0)
        picture = figure(max(5.5, max(3.7, wide) * columns), max(1.0, rows * step) + 0.9 + 0.3 * legend)
        picture.suptitle(title, x=0.01, ha="left", fontsize="large")
        panels = picture.subplots(1, columns, squeeze=False)[0]
        limits = _limits([*series.values(), *points.values()], log=log, room=not points)
        for column, axes in enumerate(panels):
            part = slice(column * rows, (column + 1) * rows)
            if log:
                axes.set_xscale("log")
            axes.set_xlim(*limits)
            axes.set_ylim(rows - 0.4, -0.6)
            axes.set_xlabel(unit)
            shown = {n: v[part] for n, v in series.items()}
            _bar_column(axes, names[part], shown, aside=bool(points), dots=log)
            for (name, own), mark in zip(points.items(), _MARKS, strict=False):
                here = own[part]
                axes.plot(
                    here,
                    np.arange(len(here)),
                    mark,
                    color="black",
                    markersize=3.2,
                    mfc="white",
                    label=name,
                    clip_on=False,
                )
        if legend:
            lines, labels = panels[0].get_legend_handles_labels()
            picture.legend(lines, labels, loc="outside lower left", ncols=len(labels))
    return picture


def histogram(values: Series, title: str, *, xlabel: str = "", bins: int = 40, log: bool = False) -> Figure:
    """How often values occur.

    Args:
        values: any number of them, or several series by name, drawn as outlines over each other.
        bins: at most so many of equal width; of integers each holds the same number of values, one where they suffice.
        log: bins of equal ratio on a logarithmic axis; values of 0 or less are left out and counted below the axis.

    Returns:
        The figure, for `plots.save(figure, path)`.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    series = _series(values)
    left_out = sum(int((array <= 0).sum()) for array in series.values()) if log else 0
    if log:
        series = {name: array[array > 0] for name, array in series.items()}
    edges = _edges(np.concatenate([np.asarray(array, dtype=float) for array in series.values()]), series, bins, log)
    with matplotlib.rc_context(STYLE):
        picture = figure(5.5, 3.2)
        axes = picture.subplots()
        axes.set_title(title, loc="left", fontsize="large")
        for number, (name, array) in enumerate(series.items()):
            several = len(series) > 1
            style: dict[str, Any] = {"edgecolor": "white"}
            if several:  # dashed ones leave those below them to be seen
                style = {"histtype": "step", "linewidth": 1.5, "linestyle": _DASHES[number % len(_DASHES)]}
            axes.hist(array, bins=edges.tolist(), label=f"{name} ({len(array):,})" if several else None, **style)
        if log:
            axes.set_xscale("log")
        elif edges[-1] - edges[0] < _NARROW:
            middle = float(edges[0] + edges[-1]) / 2
            axes.set_xlim(middle - _NARROW / 2, middle + _NARROW / 2)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.ticklabel_format(axis="x", useOffset=False)
        note = f"; {left_out:,} that are 0 or less left out" if left_out else ""
        axes.set_xlabel(xlabel + note)
        axes.set_ylabel("count")
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        if len(series) > 1:
            axes.legend()
        elif len(only := np.asarray(next(iter(series.values())), dtype=float)):
            axes.axvline(float(np.median(only)), color="C1", linewidth=1)
            axes.legend([axes.lines[0]], [f"median {_text(float(np.median(only)))}"])
    return picture


def _series(values: Series) -> dict[str, np.ndarray]:
    named = values if isinstance(values, Mapping) else {"": values}
    return {name: np.asarray(array) for name, array in named.items()}


def _bar_column(axes: Axes, names: Sequence[str], series: Mapping[str, np.ndarray], *, aside: bool, dots: bool) -> None:
    """aside: the numbers stand at the right edge, out of the way of what else is drawn beside the bars. dots: points
    in the place of bars; there is none for 0."""
    places, height = np.arange(len(names)), 0.76 / len(series)
    least, most = axes.get_xlim()
    for number, (name, values) in enumerate(series.items()):
        at = places + (number - (len(series) - 1) / 2) * height
        ends = np.maximum(np.nan_to_num(values.astype(float)), least)
        if dots:
            axes.plot(np.where(ends > least, ends, np.nan), at, "o", markersize=4, label=name or None)
        else:
            axes.barh(at, ends - least, left=least, height=height * 0.92, label=name or None)
        for place, end, value in zip(at, ends.tolist(), values.tolist(), strict=True):
            axes.annotate(
                _text(value),
                (most if aside else end, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5 if len(series) == 1 else 5.5,
                annotation_clip=False,
            )
    axes.set_yticks(places, [shortened(name, _LONGEST) for name in names], fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _limits(arrays: Sequence[np.ndarray], *, log: bool, room: bool) -> tuple[float, float]:
    """From 0 (or below the least positive value) to the largest value, or to where it has room for its number."""
    values = np.concatenate([np.asarray(array, dtype=float) for array in arrays])
    values = values[np.isfinite(values)]
    top = float(values.max(initial=0)) or 1.0
    if not log:
        return 0.0, (1.15 if room else 1.02) * top
    least = float(values[values > 0].min(initial=top))
    return least / 2, top * (top / least * 2) ** 0.15 * 1.2


def _edges(values: np.ndarray, series: Mapping[str, np.ndarray], bins: int, log: bool) -> np.ndarray:
    values = values[np.isfinite(values)]
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    if log:
        return np.geomspace(low, high if high > low else 2 * low, bins + 1)
    if all(np.issubdtype(array.dtype, np.integer) for array in series.values()):
        step = int(high - low) // bins + 1  # a bin holds whole numbers, equally many
        return np.arange(low, high + step + 1, step) - 0.5
    return np.linspace(low, high if high > low else low + 1, bins + 1)


def _text(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def shortened(name: str, length: int = _LENGTH) -> str:
    """A name of so many characters at most."""
    return name if len(name) <= length else name[: length - 1] + "…"
