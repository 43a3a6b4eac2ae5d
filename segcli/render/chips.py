"""Text on pictures: chips, which are names on their colour, and the fonts for any script."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from segcli.render.colours import text_colour

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

TEXT = 0.024  # font size as a share of √(H·W)
SMALLEST = 10  # pixels; below, letters are no longer told apart
_LONGEST = 28  # characters of a class name


@dataclass(frozen=True)
class Chip:
    """A text that was measured: width and height in pixels, and where in them the text is drawn."""

    text: str
    font: FreeTypeFont
    width: int
    height: int
    baseline: tuple[int, int]


def text_size(height: int, width: int) -> int:
    """The font size for a picture, in pixels."""
    return max(SMALLEST, round(TEXT * math.sqrt(height * width)))


def shortened(name: str) -> str:
    """A class name on one line, cut where it is longer than anybody reads on a picture."""
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST else name[: _LONGEST - 3].rstrip(" ,-") + "..."


def measure(file: str | None, text: str, size: int, width: int, height: int) -> Chip | None:
    """Measure a label; shrink it to fit the picture, or None if it cannot be read any more."""
    while True:
        font = font_of(file, size)
        left, _, right, _ = font.getbbox(text)
        ascent, descent = font.getmetrics()
        pad_x, pad_y = max(2, round(0.35 * size)), max(1, round(0.12 * size))
        chip = Chip(
            text,
            font,
            math.ceil(right - left) + 2 * pad_x,
            ascent + descent + 2 * pad_y,
            (pad_x - math.floor(left), pad_y),
        )
        if chip.width <= width and chip.height <= height:
            return chip
        if size <= SMALLEST:
            return None
        size = max(SMALLEST, int(size * 0.8))


def draw_chip(image: np.ndarray, chip: Chip, place: tuple[int, int], colour: np.ndarray) -> None:
    """Draw a chip with its top left corner at `place` = (x, y), in place."""
    from PIL import Image, ImageDraw

    x, y = place
    region = image[y : y + chip.height, x : x + chip.width]
    card = Image.new("RGB", (chip.width, chip.height), tuple(colour.tolist()))
    ImageDraw.Draw(card).text(chip.baseline, chip.text, font=chip.font, fill=text_colour(colour))
    scale = 4  # Pillow's shapes have hard edges: corners are drawn larger and averaged
    shape = Image.new("L", (chip.width * scale, chip.height * scale), 0)
    ImageDraw.Draw(shape).rounded_rectangle(
        (0, 0, shape.width - 1, shape.height - 1), radius=0.22 * shape.height, fill=255
    )
    below = Image.fromarray(region)
    below.paste(card, mask=shape.reduce(scale))
    region[:] = np.asarray(below)


@lru_cache(maxsize=8)
def font_of(file: str | None, size: int) -> FreeTypeFont:
    """A font file in a size; None is Pillow's own font, which covers ASCII."""
    from PIL import ImageFont

    return ImageFont.truetype(file, size) if file else cast("FreeTypeFont", ImageFont.load_default(size))


@lru_cache(maxsize=1024)
def writable(name: str, otherwise: str) -> tuple[str | None, str]:
    """(font file, text): a font that has every letter of the name, None for Pillow's own, which covers ASCII.

    For other scripts the font that matplotlib brings is asked, then the usual system fonts; where none has the letters,
    accents are dropped, and a name that still cannot be written is replaced by `otherwise`.
    """
    if name.isascii():
        return None, name
    for file in (*_matplotlib_font(), *_SYSTEM_FONTS):
        try:
            font = font_of(file, 16)
        except OSError:
            continue
        missing = bytes(font.getmask("\U0010ffff"))
        if all(c.isspace() or bytes(font.getmask(c)) != missing for c in name):
            return file, name
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return None, plain if plain.isascii() else otherwise


def _matplotlib_font() -> list[str]:
    """DejaVu Sans (Latin, Greek, Cyrillic and more), found without importing matplotlib."""
    found = find_spec("matplotlib")
    places = found.submodule_search_locations if found else None
    return [str(Path(place, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")) for place in places or ()]


_SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "segoeui.ttf",
    "arial.ttf",
    "msyh.ttc",
    "malgun.ttf",
    "YuGothM.ttc",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
)
