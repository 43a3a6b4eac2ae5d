"""A sheet of panels and words, placed in pixels from the top left; what every view is laid out on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from segcli.render.plots import STYLE, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS = 150  # pixels an inch, as `plots.save` writes them
INK, QUIET = "#1a1a1a", "#6b6b6b"
LINE = 21  # pixels from one line of small text to the next


class Sheet:
    """A white figure of some pixels. Words are drawn as they are: a class name may hold a dollar sign."""

    def __init__(self, width: int, height: int) -> None:
        assert float(STYLE["savefig.dpi"]) == DOTS
        self.width, self.height = width, height
        self.figure: Figure = figure(width / DOTS, height / DOTS)
        self.figure.set_layout_engine("none")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose frame is at these pixels."""
        place = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def image(self, x: float, y: float, pixels: np.ndarray, *, frame: str | None = None) -> Axes:
        """A picture, pixel for pixel; frame: colour of a thin line around it. The axes count in its pixels."""
        axes = self.axes(x, y, pixels.shape[1], pixels.shape[0])
        axes.imshow(pixels, interpolation="nearest", aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(frame is not None)
            if frame is not None:
                spine.set_color(frame)
        return axes

    def words(self, x: float, y: float, text: str, size: float = 8, *, math: bool = False, **style: Any) -> None:
        """Text whose top left corner is at these pixels, unless `ha` and `va` say otherwise. math: $…$ is a formula."""
        whole: Any = {"color": INK, "va": "top", "parse_math": math, "fontsize": size} | style
        self.figure.text(x / self.width, 1 - y / self.height, text, **whole)

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A small arrow from pixel to pixel."""
        from matplotlib.patches import FancyArrowPatch

        ends = [(x / self.width, 1 - y / self.height) for x, y in (start, end)]
        arrow = FancyArrowPatch(
            *ends, arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0, color=QUIET, linewidth=0.9
        )
        arrow.set_transform(self.figure.transFigure)
        self.figure.add_artist(arrow)


def shortened(text: str, characters: int) -> str:
    """A name that takes no more than this many characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= characters else text[: characters - 1].rstrip(" ,-") + "…"
