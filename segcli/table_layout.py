"""How a table of text fits into the width of a terminal: folded, turned, or without its last columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2  # blanks between columns
_TURNED = 4  # rows, at most, of a table that is turned
_SENTENCE = 24  # letters; a longer text is folded at blanks, a longer word anywhere


@dataclass(frozen=True)
class Column:
    """A table column. The important ones come first: of a table that is too wide the last are left out."""

    heading: str
    numeric: bool = False  # numbers line up on the right, and are never broken


@dataclass(frozen=True)
class Fitted:
    """A table as it is printed."""

    columns: list[Column]
    rows: list[list[str]]
    widths: list[int]  # of each column
    dropped: list[str]  # headings that found no room

    @property
    def width(self) -> int:
        return sum(self.widths) + GAP * (len(self.widths) - 1)


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Fitted:
    """Lay a table out for so many characters; None: as wide as it is.

    Headings and long texts are folded at blanks. If that is not enough, a table of few rows is turned, so that its
    columns become rows; one of many loses its last columns. Numbers, and the first column, are never broken: in it
    lie the names, to be copied.
    """
    head, body = list(columns), [list(row) for row in rows]
    laid = _folded(head, body, width)
    if laid is not None:
        return laid
    if 0 < len(body) <= _TURNED and len(head) > 2:
        names = [Column(head[0].heading), *(Column(row[0], numeric=all(c.numeric for c in head[1:])) for row in body)]
        turned = [[column.heading, *(row[place] for row in body)] for place, column in enumerate(head) if place]
        laid = _folded(names, turned, width)
        if laid is not None:
            return laid
    for count in range(len(head) - 1, 1, -1):
        laid = _folded(head[:count], [row[:count] for row in body], width)
        if laid is not None:
            return Fitted(laid.columns, laid.rows, laid.widths, [column.heading for column in head[count:]])
    natural = _folded(head, body, None)
    assert natural is not None
    return natural  # not even two columns fit: the terminal folds the lines


def _folded(columns: list[Column], rows: list[list[str]], width: int | None) -> Fitted | None:
    """The table with its texts folded to fit; None if that is not possible."""
    natural, least = [], []
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        widest = max(map(_length, cells), default=0)
        words = max((_length(word) for word in column.heading.split()), default=0)
        natural.append(max(widest, _length(column.heading)))
        if place and not column.numeric and widest > _SENTENCE:
            longest = max((_length(word) for cell in cells for word in cell.split()), default=0)
            least.append(max(words, min(longest, _SENTENCE)))
        else:
            least.append(max(words, widest))
    if width is None:
        return Fitted(columns, rows, natural, [])
    spare = width - sum(least) - GAP * (len(columns) - 1)
    if spare < 0:
        return None
    widths = list(least)
    for place in sorted(range(len(columns)), key=lambda place: columns[place].numeric):  # texts before headings
        added = min(natural[place] - least[place], spare)
        widths[place] += added
        spare -= added
    return Fitted(columns, rows, widths, [])


def _length(text: str) -> int:
    """Columns of a terminal that a text takes; letters of East Asia take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
