"""Masked attention at work: what a query's mask opens, and where the next layer looks inside it.

mask of prediction l   ->   region it opens at 1/32, 1/16, 1/8 in turn   ->   attention of layer l + 1   ->   …
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segcli.render.views.panels import HEAT, Backdrop, cells, coloured, heat, lit, outline, smooth
from segcli.render.views.sheet import LINE, QUIET, Sheet, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EQUATION = (
    r"$X_l = \mathrm{softmax}(\mathcal{M}_{l-1} + Q_l K_l^{\top})\,V_l + X_{l-1}$,"
    r"     $\mathcal{M}_{l-1} = 0$ where mask $l-1$ is foreground, $-\infty$ elsewhere"
)
_ROWS = (
    ("mask", "of prediction $l$"),
    (r"region $\mathcal{M}_l$", "it opens"),
    ("attention", "of layer $l+1$"),
)
_WIDEST, _TALLEST = 300, 260  # pixels of a panel
_LOWEST = 48  # and of the words beside it
_SHEET = 2250  # pixels across, less where panels have reached their widest
_LEAST = 1150  # and at least, for the equation
_SIDE, _GAP, _ARROW, _MARGIN = 150, 12, 16, 28
_BETWEEN = 34  # pixels from strip to strip
_FEW = 4  # cells; so much of a mask may lie between their centres
_DARKEST = 96  # of the channels of a colour that is to be seen on a dimmed photo


@dataclass(frozen=True)
class DecoderStep:
    """One layer's look at the photo: where query may look and where it does, on the same map [h, w].

    region: bool. attention: float32, the mean of the heads; sums to 1. stride: pixels of the network's input a cell.
    """

    stride: int
    region: np.ndarray
    attention: np.ndarray


@dataclass(frozen=True)
class Strip:
    """One query through all layers. Predictions 0…L have names, scores and mask logits [L + 1, h, w]; layers L steps.

    names: the best class, which may be "no object"; scores: its probability; colours: RGB.
    """

    query: int
    names: tuple[str, ...]
    scores: tuple[float, ...]
    colours: tuple[tuple[int, int, int], ...]
    masks: np.ndarray
    steps: tuple[DecoderStep, ...]


def draw_attention(photo: np.ndarray, strips: Sequence[Strip], share: tuple[float, float]) -> Figure:
    """One strip a query, below each other.

    Args:
        photo: uint8 RGB [H, W, 3].
        strips: at least one, all of the same network.
        share: the photo's share of the padded frame, (rows, columns).
    """
    columns = len(strips[0].masks)
    width = min(_WIDEST, (_SHEET - _SIDE - 2 * _MARGIN) // columns - _GAP)
    backdrop = Backdrop.of(photo, (_TALLEST, width))
    tall, wide = backdrop.size
    pitch, step = max(wide, 120) + _GAP, max(tall, _LOWEST) + _ARROW + LINE + 4
    height = LINE + 2 * step + max(tall, _LOWEST)
    top = _MARGIN + 2 * LINE + 28
    foot = top + len(strips) * (height + _BETWEEN) - _BETWEEN
    sheet = Sheet(max(2 * _MARGIN + _SIDE + columns * pitch - _GAP, _LEAST), foot + _MARGIN)
    sheet.words(_MARGIN, _MARGIN - 6, _EQUATION, size=10, math=True)
    for column in range(columns):
        x = _MARGIN + _SIDE + column * pitch
        heading = f"prediction {column}" + (" = answer" if column == columns - 1 else "")
        sheet.words(x, _MARGIN + 2 * LINE - 2, heading, size=7.5, color=QUIET)
    for number, strip in enumerate(strips):
        _draw_strip(sheet, backdrop, strip, share, (_MARGIN, top + number * (height + _BETWEEN)), pitch, step)
    return sheet.figure


def _draw_strip(
    sheet: Sheet,
    backdrop: Backdrop,
    strip: Strip,
    share: tuple[float, float],
    corner: tuple[int, int],
    pitch: int,
    step: int,
) -> None:
    x0, y0 = corner
    tall, wide = backdrop.size
    rows = [y0 + LINE + i * step for i in range(3)]
    sheet.words(x0, rows[0] - 5, f"query {strip.query}", size=9.5, weight="bold", va="bottom")
    for (name, rest), y in zip(_ROWS, rows, strict=True):
        sheet.words(x0, y + max(tall, _LOWEST) / 2, f"{name}\n{rest}", size=8, math=True, va="center", linespacing=1.4)
    across = max(8, int(pitch / 9.5))
    for column, (name, score) in enumerate(zip(strip.names, strip.scores, strict=True)):
        x, colour = x0 + _SIDE + column * pitch, np.maximum(strip.colours[column], _DARKEST)
        sheet.words(x, rows[0] - 5, f"{shortened(name, across - 5)} {score:.2f}", size=7.5, va="bottom")
        sheet.image(x, rows[0], mask_panel(backdrop, strip.masks[column], share, colour))
        if column == len(strip.steps):
            break
        layer = strip.steps[column]
        at = x + max(wide - 12, 108)  # right of the words
        sheet.arrow((at, rows[0] + tall + 2), (at, rows[1] - 3))
        sheet.words(
            x, rows[1] - 5, f"1/{layer.stride}: {_opened(strip, column, share)}", size=7, color=QUIET, va="bottom"
        )
        sheet.image(x, rows[1], region_panel(backdrop, layer, share, colour))
        sheet.arrow((at, rows[1] + tall + 2), (at, rows[2] - 3))
        sheet.image(x, rows[2], attention_panel(backdrop, layer, share))
    x = x0 + _SIDE + len(strip.steps) * pitch
    ramp = np.broadcast_to(np.linspace(0, 1, min(wide, 120)), (12, min(wide, 120)))
    sheet.image(x, rows[2] + tall - 12, coloured(ramp, HEAT))
    sheet.words(x, rows[2] + tall - 18, "little … much attention", size=7, color=QUIET, va="bottom")


def _opened(strip: Strip, layer: int, share: tuple[float, float]) -> str:
    """How much of the photo a layer may look at. In Mask2Former a mask without a single cell opens it all; an EoMT that
    has unlearnt its masks looks everywhere whatever they are.
    """
    region = strip.steps[layer].region
    if region.all():
        cells_of_mask = (strip.masks[layer] > 0).mean() * region.size
        return "everywhere" if cells_of_mask >= _FEW else "empty → everywhere"
    rows, columns = (max(1, round(side * part)) for side, part in zip(region.shape, share, strict=True))
    opened = region[:rows, :columns].mean()
    return f"{opened:.1%}" if opened < 0.095 else f"{opened:.0%}"


def mask_panel(backdrop: Backdrop, logits: np.ndarray, share: tuple[float, float], colour: np.ndarray) -> np.ndarray:
    """The photo as bright as the mask is probable, and the line where it is even odds -> uint8 [h, w, 3]."""
    values = smooth(logits, share, backdrop.size)
    picture = lit(backdrop, 1 / (1 + np.exp(-values.clip(-30, 30))), colour)
    outline(picture, values > 0, colour)
    return picture


def region_panel(backdrop: Backdrop, step: DecoderStep, share: tuple[float, float], colour: np.ndarray) -> np.ndarray:
    """The cells that may be looked at, bright -> uint8 [h, w, 3]."""
    inside = cells(step.region, share, backdrop.size)
    picture = lit(backdrop, inside, colour)
    outline(picture, inside, colour, width=1)
    return picture


def attention_panel(backdrop: Backdrop, step: DecoderStep, share: tuple[float, float]) -> np.ndarray:
    """How much is looked at each cell, the most attended bright -> uint8 [h, w, 3]."""
    # Full brightness from the 98th percentile on: a few cells often draw many times as much as any other. And the
    # square root: attention is peaked, but half as much is still worth seeing.
    most = float(np.quantile(step.attention[step.region], 0.98)) if step.region.any() else 0.0
    values = np.sqrt(np.minimum(step.attention / most, 1)) if most else step.attention
    return heat(backdrop, cells(values, share, backdrop.size), cells(step.region, share, backdrop.size))
