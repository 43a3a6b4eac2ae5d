"""Training curves: the loss and its terms, the learning rate and the metric over the steps of one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEARNING_RATE = "learning rate"
_PARTS = 50  # a smoothed curve averages over this share of the steps: 1/50


@dataclass(frozen=True, eq=False)
class Curve:
    """Values [S] float64 at steps [S] int64, ascending; NaN where a value was not finite."""

    steps: np.ndarray
    values: np.ndarray

    def smoothed(self) -> np.ndarray:
        """The mean over a window of steps around each, NaN left out -> float64 [S]."""
        reach = len(self.values) // (2 * _PARTS)
        known = np.isfinite(self.values)
        sums = np.concatenate([[0.0], np.cumsum(np.where(known, self.values, 0))])
        counts = np.concatenate([[0], np.cumsum(known)])
        places = np.arange(len(self.values))
        low, high = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(self.values))
        number = counts[high] - counts[low]
        return np.where(number > 0, (sums[high] - sums[low]) / np.maximum(number, 1), np.nan)


@dataclass(frozen=True)
class RunCurves:
    """What a run has measured so far.

    name: tells runs apart. noisy: what is known at every step, by title. metric: curves of the validations, by title.
    """

    name: str
    noisy: dict[str, Curve] = field(default_factory=dict)
    metric: dict[str, Curve] = field(default_factory=dict)


def titles(runs: Sequence[RunCurves]) -> list[str]:
    """The titles of all runs, each once: what was measured at every step, then the metrics."""
    return list(dict.fromkeys(title for kind in ("noisy", "metric") for run in runs for title in getattr(run, kind)))


def curves_figure(runs: Sequence[RunCurves]) -> Figure:
    """A panel a title, a colour a run: single steps pale, their mean strong; metrics with a mark a validation."""
    import matplotlib

    from segcli.render.plots import STYLE, figure

    panels = titles(runs)
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    span = step_span(runs)
    with matplotlib.rc_context(STYLE):
        picture = figure(max(4.0 * columns, 5.0), 2.7 * rows + 0.3)
        grid = picture.subplots(rows, columns, squeeze=False)
        for axes in grid.ravel()[len(panels) :]:
            axes.remove()
        for title, axes in zip(panels, grid.ravel(), strict=False):
            _panel(axes, title, runs)
            axes.set_xlim(*span)
            axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        lines, names = grid[0, 0].get_legend_handles_labels()
        picture.legend(lines, names, loc="outside upper center", ncols=min(3, len(runs)))
    return picture


def step_span(runs: Sequence[RunCurves]) -> tuple[int, int]:
    """From 0 to the last step of any run, so that panels can be read across."""
    return 0, max(int(curve.steps[-1]) for run in runs for curve in (*run.noisy.values(), *run.metric.values()))


def summary(run: RunCurves) -> str:
    """A run's name and the best of each of its metrics."""
    parts = [run.name]
    for title, curve in run.metric.items():
        if np.isfinite(curve.values).any():
            best = int(np.nanargmax(curve.values))
            parts.append(f"best {title.split(' on ')[0]} {curve.values[best]:.1f} % at step {curve.steps[best]}")
    return ": ".join(parts[:1] + [", ".join(parts[1:])] * (len(parts) > 1))


def _panel(axes: Axes, title: str, runs: Sequence[RunCurves]) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_xlabel("step")
    for number, run in enumerate(runs):
        colour = f"C{number}"
        noisy, metric = run.noisy.get(title), run.metric.get(title)
        curve = (
            noisy or metric or Curve(np.zeros(0), np.zeros(0))
        )  # a run without it still gets its place in the legend
        if noisy is not None:
            axes.plot(curve.steps, curve.values, color=colour, alpha=0.25, linewidth=0.7)
        strong = curve.smoothed() if noisy is not None and title != LEARNING_RATE else curve.values
        marks = "o" if metric is not None else ""
        axes.plot(curve.steps, strong, marker=marks, markersize=3, color=colour, linewidth=1.5, label=summary(run))
    if any(title in run.metric for run in runs) or title == LEARNING_RATE:
        axes.set_ylim(bottom=0)
    if title == LEARNING_RATE:
        axes.ticklabel_format(axis="y", style="scientific", scilimits=(-2, 3))
