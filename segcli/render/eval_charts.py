"""Charts of an evaluation: confusion of classes, precision against recall, calibration of scores.

Figures in the style of `render/plots.py`, legible with two classes and with 150.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from segcli.render.charts import shortened
from segcli.render.plots import STYLE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RECALLS = np.linspace(0, 1, 101)  # COCO's
_WRITTEN = 14  # up to so many classes every cell holds its number; beyond, the largest confusions are listed
_LISTED = 20
_NAMED = 10  # curves of single classes that have a name in the legend


def confusion(matrix: np.ndarray, true: Sequence[str], predicted: Sequence[str], title: str, unit: str) -> Figure:
    """What became of each row: a heat map of shares of the row.

    Args:
        matrix: int64 [R, C] counts. true, predicted: names of rows and columns; the classes come first on both sides
            and in the same order, then what else there is (missed, invented).
        unit: what is counted ("segments", "pixels").

    Returns:
        The figure. With many classes the most frequent confusions of two are listed beside it.
    """
    import matplotlib

    counts = matrix.sum(axis=1)
    shares = matrix / np.maximum(counts, 1)[:, None]
    many = len(true) > _WRITTEN
    cell = 0.13 if many else 0.42
    size = max(2.6, cell * max(matrix.shape))
    font = 5.0 if many else 7.5
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "axes.spines.top": True, "axes.spines.right": True}):
        picture = figure(size + 2.6 + 4.2 * many, size + 1.7)
        picture.suptitle(title, x=0.01, ha="left", fontsize="large")
        if many:
            axes, beside = picture.subplots(1, 2, width_ratios=(size, 3.2))
            _frequent(beside, matrix, true, predicted, unit)
        else:
            axes = picture.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        rows = [f"{shortened(name)} ({_short(int(count))})" for name, count in zip(true, counts, strict=True)]
        axes.set_yticks(np.arange(len(true)), rows, fontsize=font)
        axes.set_xticks(np.arange(len(predicted)), [shortened(n) for n in predicted], fontsize=font, rotation=90)
        axes.tick_params(length=0)
        axes.set_xlabel("predicted (% of the row)")
        axes.set_ylabel(f"true ({unit})")
        classes = _classes(true, predicted) - 0.5
        axes.axhline(classes, color="black", linewidth=0.8)
        axes.axvline(classes, color="black", linewidth=0.8)
        for (row, column), share in np.ndenumerate(shares):
            if not many and matrix[row, column]:
                ink = "white" if share > 0.6 else "black"
                text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)
    return picture


def precision_recall(
    overall: Mapping[str, np.ndarray], classes: Mapping[str, Mapping[str, np.ndarray]], title: str
) -> Figure:
    """A panel an IoU: each class pale, their mean strong; of many classes the best and the worst are named.

    Args:
        overall: title of the panel -> precision [101] at COCO's recalls, the mean over classes.
        classes: title of the panel -> name of the class -> precision [101].
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        picture = figure(4.6 * len(overall), 4.4)
        picture.suptitle(title, x=0.01, ha="left", fontsize="large")
        for axes, (name, mean) in zip(
            picture.subplots(1, len(overall), squeeze=False)[0], overall.items(), strict=True
        ):
            curves = sorted(classes[name].items(), key=lambda pair: -float(pair[1].mean()))
            named = curves
            if len(curves) > _NAMED:
                named = [*curves[: _NAMED // 2], *curves[-(_NAMED // 2) :]]
                for _, curve in curves:
                    axes.plot(RECALLS, curve, color="0.8", linewidth=0.6)
            for number, (label, curve) in enumerate(named):
                text = f"{shortened(label)} {100 * curve.mean():.1f}"
                dashes = "--" if number >= _NAMED // 2 else "-"
                axes.plot(RECALLS, curve, dashes, color=f"C{number % (_NAMED // 2)}", linewidth=1.0, label=text)
            if len(curves) > 1:
                axes.plot(RECALLS, mean, color="black", linewidth=2.2, label=f"mean {100 * mean.mean():.1f}")
            axes.set_title(name, loc="left", fontsize="medium")
            axes.set_xlabel("recall")
            axes.set_ylabel("precision")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1.02)
            axes.legend(
                fontsize=6.5,
                loc="upper left",
                bbox_to_anchor=(0, -0.14),
                ncols=2,
                title="AP",
                title_fontsize=7,
                alignment="left",
            )
    return picture


def calibration(counts: np.ndarray, hits: np.ndarray, scores: np.ndarray, title: str, what: str, unit: str) -> Figure:
    """Scores against how often they are right, and how many there are.

    Args:
        counts, hits: [B] of equal bins of [0, 1]: how many, and how many of them right. scores: [B] their sums.
        what: the vertical axis. unit: what is counted.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    seen = counts > 0
    mean, rate = scores[seen] / counts[seen], hits[seen] / counts[seen]
    error = expected_error(counts, hits, scores)
    with matplotlib.rc_context(STYLE):
        picture = figure(4.6, 5.2)
        top, bottom = picture.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        expected = "–" if np.isnan(error) else f"{100 * error:.1f}"
        top.set_title(f"{title}: expected error {expected} points", loc="left", fontsize="medium")
        top.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--", label="as often right as the score says")
        centres, width = (np.arange(len(counts)) + 0.5) / len(counts), 0.92 / len(counts)
        top.bar(centres[seen], rate, width=width, alpha=0.4, label="this model")
        top.plot(mean, rate, "o", markersize=4, color="C0", clip_on=False, label="at the mean score of its bin")
        top.set_xlim(0, 1)
        top.set_ylim(0, 1)
        top.set_ylabel(what)
        picture.legend(loc="outside lower left", fontsize=7.5, ncols=2)
        bottom.bar(centres, counts, width=width, color="0.5")
        crowded = counts.max(initial=0) > 50
        bottom.set_yscale("symlog" if crowded else "linear")
        if not crowded:
            bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("score (how sure the model says it is)")
        bottom.set_ylabel(f"{unit}\n(log from 1)" if crowded else unit)
    return picture


def expected_error(counts: np.ndarray, hits: np.ndarray, scores: np.ndarray) -> float:
    """The expected calibration error of bins, |right - score| weighted by how many; NaN without any."""
    total = float(counts.sum())
    return float(np.abs(hits - scores).sum() / total) if total else float("nan")


def _frequent(axes: Axes, matrix: np.ndarray, true: Sequence[str], predicted: Sequence[str], unit: str) -> None:
    """The most frequent confusions of two classes, as bars."""
    from matplotlib.ticker import MaxNLocator

    classes = _classes(true, predicted)
    pairs = matrix[:classes, :classes].copy()
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:_LISTED]
    order = order[pairs.ravel()[order] > 0]
    values = pairs.ravel()[order]
    places = np.arange(len(order))
    axes.barh(places, values, height=0.7)
    names = [
        f"{shortened(true[i])} → {shortened(predicted[j])}"
        for i, j in zip(*np.unravel_index(order, pairs.shape), strict=True)
    ]
    axes.set_yticks(places, names, fontsize=6.5)
    axes.set_ylim(max(len(order), 1) - 0.4, -0.6)
    axes.set_title(
        f"taken for another most often ({unit})" if len(order) else "no class is taken for another",
        loc="left",
        fontsize=8,
    )
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_box_aspect(min(2.5, 0.06 * max(len(order), 4)))
    axes.set_anchor("N")


def _classes(true: Sequence[str], predicted: Sequence[str]) -> int:
    """How many of the first names are on both sides."""
    pairs = enumerate(zip(true, predicted, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(true), len(predicted)))


def _short(count: int) -> str:
    """A count in at most five signs."""
    for limit, sign in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= limit:
            unit = 1000 if sign == "k" else limit
            return f"{count / unit:.0f}{sign}" if count >= 10 * unit else f"{count / unit:.1f}{sign}"
    return f"{count:,}"
