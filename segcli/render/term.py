"""Curves as text: eight dots a character (Unicode's braille patterns), with an axis of steps and one of values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcli.render.curves import LEARNING_RATE, Curve, RunCurves, step_span, summary, titles

_HEIGHT = 8  # lines of a chart
_MARGIN = 10  # characters before the axis, for its numbers
# ANSI's blue, yellow, cyan, magenta, green and red, in that order; the terminal's own palette says how they look.
_COLOURS = (34, 33, 36, 35, 32, 31)
# The bit of each dot in a braille character, by row and column.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)


def chart_lines(runs: Sequence[RunCurves], width: int, *, colour: bool) -> list[str]:
    """Every title's chart, as lines of text at most `width` characters wide.

    Runs share a chart where colours can tell them apart; without, each has its own, on the same axes.
    """
    lines: list[str] = []
    span = step_span(runs)
    for title in titles(runs):
        shown = [(run, number, curve) for number, run in enumerate(runs) if (curve := _curve(run, title)) is not None]
        low, high = _range([curve for *_, curve in shown], from_zero=title not in shown[0][0].noisy)
        lines += ["", title]
        groups = [shown] if colour else [[one] for one in shown]
        for group in groups:
            cells = [
                (_cells(curve, span, (low, high), width - _MARGIN - 2, marks=title in run.metric), number)
                for run, number, curve in group
            ]
            if not colour and len(runs) > 1:
                lines.append(f"{'':{_MARGIN}}  {group[0][0].name}")
            lines += _framed(cells, (low, high), colour)
        lines.append(_steps(span, width))
    keys = [_tinted("━━", number) + " " + summary(run) if colour else summary(run) for number, run in enumerate(runs)]
    return keys + lines


def _curve(run: RunCurves, title: str) -> Curve | None:
    if title in run.noisy and title != LEARNING_RATE:
        return Curve(run.noisy[title].steps, run.noisy[title].smoothed())
    return run.noisy.get(title) or run.metric.get(title)


def _range(curves: Sequence[Curve], from_zero: bool) -> tuple[float, float]:
    values = np.concatenate([curve.values for curve in curves])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = (0.0 if from_zero else float(values.min())), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _cells(curve: Curve, span: tuple[int, int], values: tuple[float, float], width: int, *, marks: bool) -> np.ndarray:
    """The dots of a curve, joined by upright strokes -> uint8 [_HEIGHT, width], a braille pattern a cell.

    marks: the cells of its points are full.
    """
    dots = np.zeros((4 * _HEIGHT, 2 * width), dtype=bool)
    known = np.isfinite(curve.values)
    steps, heights = curve.steps[known], curve.values[known]
    if len(steps):
        columns = np.arange(2 * width)
        places = (steps - span[0]) / max(span[1] - span[0], 1) * (2 * width - 1)
        first, last = round(places[0]), round(places[-1])
        rows = np.interp(columns, places, (values[1] - heights) / (values[1] - values[0]) * (4 * _HEIGHT - 1))
        rows = rows.round().astype(int)
        for column in range(first, last + 1):
            before = rows[column - 1] if column > first else rows[column]
            low, high = sorted((int(before), int(rows[column])))
            dots[low + (before < rows[column]) : high + (before <= rows[column]), column] = True
            dots[rows[column], column] = True
    blocks = dots.reshape(_HEIGHT, 4, width, 2)
    if marks and len(steps):
        across = places.round().astype(int)
        blocks[rows[across] // 4, :, across // 2] = True
    return (blocks * _DOTS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint8)


def _framed(cells: Sequence[tuple[np.ndarray, int]], values: tuple[float, float], colour: bool) -> list[str]:
    """Cells of one or several runs with the axis of values before them; where runs meet, the last is seen."""
    lines = []
    for row in range(_HEIGHT):
        number = {0: values[1], _HEIGHT - 1: values[0]}.get(row)
        text = f"{'' if number is None else f'{number:.3g}':>{_MARGIN}} ┤"
        for column in range(cells[0][0].shape[1]):
            here = [(int(pattern[row, column]), run) for pattern, run in cells if pattern[row, column]]
            character = chr(0x2800 + here[-1][0]) if here else " "
            text += _tinted(character, here[-1][1]) if here and colour else character
        lines.append(text.rstrip())
    return lines


def _steps(span: tuple[int, int], width: int) -> str:
    room = width - _MARGIN - 2
    return f"{'':{_MARGIN}} └{f' {span[1]} steps':─>{room}}"


def _tinted(text: str, number: int) -> str:
    return f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{text}\x1b[0m"
