"""`--save csv`: tables for a spreadsheet or pandas, two for all photos."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcli.results.kinds.kind import Answer, SaveKind, SaveRun
from segcli.results.ledger import Ledger, to_json

if TYPE_CHECKING:
    from segcli.results.plan import Photo

COLUMNS = (
    "image", "id", "class", "score", "area", "x", "y", "width", "height", "centroid_x", "centroid_y",
    "perimeter", "eccentricity", "orientation", "solidity",
)  # fmt: skip


class CsvTables(SaveKind):
    """segments.csv, one row per segment; counts.csv, one row per image and one column per class. Lengths: pixels."""

    name = "csv"
    about = "tables of segments and counts"
    files = ("segments.csv", "counts.csv")

    def __init__(self, run: SaveRun) -> None:
        super().__init__(run)
        how = run.ledger_options()
        self._segments = _SegmentRows(run.file(self.files[0]), **how)
        self._counts = _ClassCounts(run.file(self.files[1]), run.labels.names, **how)
        self.ledgers = (self._segments, self._counts)

    def check_photos(self, photos: Iterable[Photo]) -> None:
        """Rows are identified by file names: there is nothing to check."""

    def is_done(self, photo: Photo) -> bool:
        return photo.file_name in self._counts.done  # an image without a segment has no row in the other table

    def write(self, answer: Answer, path: Path | None) -> None:
        name = answer.photo.file_name
        if name in self._counts.done:
            return
        self._segments.add(name, [{"image": name} | row for row in answer.segments.to_rows()])
        self._counts.add(name, Counter(answer.segments.names()))


class _Table(Ledger):
    """A CSV file written one image at a time. What is remembered of an image is one JSON value."""

    def _read_rows(self) -> Iterator[dict[str, str]]:
        with open(self.path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not reader.fieldnames or reader.fieldnames[0] != "image":
                raise ValueError("no column image")
            yield from reader


class _SegmentRows(_Table):
    def add(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.append(name, [to_json([[_cell(row.get(column)) for column in COLUMNS] for row in rows])])

    def _render(self) -> Iterator[str]:
        yield _line(COLUMNS)
        for _, [rows] in self._entries():
            yield from map(_line, json.loads(rows))

    def _read_back(self) -> Iterator[tuple[int | str, list[str]]]:
        name, rows = None, list[list[str]]()
        for row in self._read_rows():
            if row["image"] != name and rows:
                yield str(name), [to_json(rows)]
                rows = []
            name = row["image"]
            rows.append([row[column] for column in COLUMNS])
        if rows:
            yield str(name), [to_json(rows)]


class _ClassCounts(_Table):
    def __init__(self, path: Path, names: Sequence[str], **how: Any) -> None:
        self._names = names
        super().__init__(path, **how)

    def add(self, name: str, counts: Mapping[str, int]) -> None:
        self.append(name, [to_json(dict(counts))])

    def _render(self) -> Iterator[str]:
        """Columns are the classes that occur in some image, in the model's order."""
        occurring = {name for _, [counts] in self._entries() for name, number in json.loads(counts).items() if number}
        columns = [*(name for name in dict.fromkeys(self._names) if name in occurring)]
        columns += sorted(occurring - set(columns))
        yield _line(["image", *columns])
        for image, [text] in self._entries():
            counts = json.loads(text)
            yield _line([str(image), *(counts.get(name, 0) for name in columns)])

    def _read_back(self) -> Iterator[tuple[int | str, list[str]]]:
        for row in self._read_rows():
            name = row.pop("image")
            yield name, [to_json({column: int(number) for column, number in row.items()})]


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 4) if isinstance(value, float) else value


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")
