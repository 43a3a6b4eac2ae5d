"""The pictures of `segcli viz overlays`: which segments are drawn, how large, and how they are put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.image import resize
from segcli.codecs.jpeg import LONGEST_SIDE, encode_jpeg
from segcli.errors import InputError
from segcli.files.writing import below, write_file
from segcli.inspection.gallery import Gallery, GalleryItem, Shown
from segcli.render import Style
from segcli.render.error_map import error_panels
from segcli.render.legend import Entry, Panel, panel, side_by_side
from segcli.segments import Segments


@dataclass(frozen=True)
class Selection:
    """Which segments are drawn. classes: positions in the gallery's labels, None for all."""

    classes: frozenset[int] | None = None
    min_score: float = 0.0

    def of(self, segments: Segments) -> tuple[Segments, list[int]]:
        """Those of `segments`, and their ids before."""
        keep = self.keeps(segments)
        return segments if keep.all() else segments.filter(keep), (np.flatnonzero(keep) + 1).tolist()

    def keeps(self, segments: Segments) -> np.ndarray:
        """Which they are, bool [N]; without scores the least score means nothing."""
        keep: np.ndarray = ~(segments.scores < self.min_score)
        if self.classes is not None:
            keep &= np.isin(segments.labels, list(self.classes))
        return keep


_READABLE = 1000  # pixels of the long side at which the ids of small objects can be read
_CAPTION = 0.9  # of the longest side; the rest is for captions and gaps


def panels(shown: Shown, selection: Selection, style: Style, room: tuple[int, int]) -> list[Panel]:
    """The pictures of one image, shrunk before they are drawn if they do not fit into `room` = (height, width)."""
    found, ids = selection.of(shown.segments)
    parts = [found] + ([selection.of(shown.truth)[0]] if shown.truth is not None else [])
    image, parts = _resized(shown.image, parts, room, least=_READABLE if style.ids else 0)
    if shown.truth is None:
        return [panel(image, parts[0], style, ids=ids)]
    return error_panels(image, parts[1], parts[0], style)


def picture(shown: Shown, selection: Selection, style: Style, largest: int) -> np.ndarray:
    """One image's picture with its captions, no side of it above `largest`."""
    count = 1 if shown.truth is None else 3
    return side_by_side(panels(shown, selection, style, (int(_CAPTION * largest), int(_CAPTION * largest / count))))


def cell(item: GalleryItem, shown: Shown, selection: Selection, style: Style, width: int) -> Panel:
    """One image's picture for a sheet: drawn at the size it is seen at, so that its text can be read."""
    drawn = panels(shown, selection, style, (round(_CELL_ASPECT * width), width))
    if len(drawn) == 1:
        return drawn[0][0], [Entry(item.name), *drawn[0][1]]
    return side_by_side(drawn), [Entry(item.name)]


def _resized(
    image: np.ndarray, parts: list[Segments], room: tuple[int, int], least: int
) -> tuple[np.ndarray, list[Segments]]:
    """The picture shrunk to fit, or enlarged a whole number of times so that its long side has `least` pixels."""
    height, width = image.shape[:2]
    scale = min(room[0] / height, room[1] / width)
    if scale >= 1:
        scale = min(int(scale), -(-least // max(height, width)))
    if scale in (0, 1):
        return image, parts
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return resize(image, size), [segments.sampled(size) for segments in parts]


# --------------------------------------------------------------------------------------------------------------- files

_SHEET = (3600, 2400)  # height and width of a sheet in pixels, about
_CELL = (160, 800)  # a cell's width, at least and at most
_CELL_ASPECT = 0.75  # its height by its width


@dataclass(frozen=True)
class DrawnPicture:
    """What became of one image (or a sheet of them): its picture's file, or the error."""

    path: Path | None
    error: str | None = None


def targets(gallery: Gallery, items: Sequence[GalleryItem], out: Path, columns: int | None) -> list[Path]:
    """The files that `draw_gallery` writes: one picture per image, or contact sheets with this many columns."""
    if columns is None:
        return [out / item.place.parent / f"{item.place.name}.{gallery.view}.jpg" for item in items]
    sheets = -(-len(items) // _per_sheet(columns))
    return [out / (f"grid-{n + 1}.{gallery.view}.jpg" if n else f"grid.{gallery.view}.jpg") for n in range(sheets)]


def draw_gallery(
    gallery: Gallery, items: Sequence[GalleryItem], selection: Selection, style: Style, out: Path, columns: int | None
) -> Iterator[DrawnPicture]:
    """Draw and write; yields a report per failed image and per picture written.

    Raises OutputError if a file cannot be written.
    """
    files = targets(gallery, items, out, columns)
    if columns is None:
        for item, path in zip(items, files, strict=True):
            try:
                drawn = picture(item.read(), selection, style, LONGEST_SIDE)
            except InputError as error:
                yield DrawnPicture(None, str(error))
                continue
            write_file(below(out, path), encode_jpeg(drawn))
            yield DrawnPicture(path)
        return
    count = _per_sheet(columns)
    for number, path in enumerate(files):
        cells: list[Panel] = []
        for item in items[number * count : (number + 1) * count]:
            try:
                cells.append(cell(item, item.read(), selection, style, _cell(columns)))
            except InputError as error:
                yield DrawnPicture(None, str(error))
        if cells:
            write_file(path, encode_jpeg(side_by_side(cells, columns)))
            yield DrawnPicture(path)


def _cell(columns: int) -> int:
    return min(max(_SHEET[1] // columns, _CELL[0]), _CELL[1])


def _per_sheet(columns: int) -> int:
    return columns * max(1, round(_SHEET[0] / (_CELL_ASPECT * _cell(columns))))
