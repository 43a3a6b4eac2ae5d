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
from segcli.types import OBJECT_TASKS

if TYPE_CHECKING:
    from segcli.results.plan import Photo
    from segcli.segments import Segments

COLUMNS = (
    "image", "id", "category_id", "category_name", "score", "area", "x", "y", "width", "height", "border",
    "centroid_x", "centroid_y", "perimeter", "eccentricity", "orientation_rad", "solidity", "covered",
)  # fmt: skip


class CsvTables(SaveKind):
    """segments.csv, one row per segment; counts.csv, one row per image and one column per class. Lengths: pixels.

    Of instances, which may overlap, a pixel counts once, as in the id map: an area is what is seen there, and one that
    others cover is no row and not counted. "covered" is the share of the mask that others took.
    """

    name = "csv"
    about = "tables of segments and counts"
    files = ("segments.csv", "counts.csv")

    def __init__(self, run: SaveRun) -> None:
        super().__init__(run)
        how = run.ledger_options()
        self._segments = _SegmentRows(run.file(self.files[0]), **how)
        only = run.facts.get("only")
        names = [label.name for label in run.labels if label.isthing or run.task not in OBJECT_TASKS]
        self._counts = _CountsLedger(run.file(self.files[1]), only or names, **how)
        self.ledgers = (self._segments, self._counts)

    def check_photos(self, photos: Iterable[Photo]) -> None:
        """Rows are identified by file names: there is nothing to check."""

    def is_done(self, photo: Photo) -> bool:
        return photo.file_name in self._counts.done  # an image without a segment has no row in the other table

    def write(self, answer: Answer, path: Path | None) -> None:
        name = answer.photo.file_name
        if name in self._counts.done:
            return
        rows = seen_rows(answer.segments)
        self._segments.add(name, [{"image": name} | row for row in rows])
        self._counts.add(name, Counter(row["category_name"] for row in rows), sum(row["area"] for row in rows))


def seen_rows(segments: Segments) -> list[dict[str, Any]]:
    """The rows of one image's segments, as the id map shows them."""
    seen = segments.as_seen() if segments.task == "instance" else segments
    rows = seen.to_rows()
    if segments.task == "instance":
        covered = segments.covered().tolist()
        rows = [row | {"covered": covered[row["id"] - 1]} for row in rows if row["area"]]
    return rows


class _CsvLedger(Ledger):
    """A CSV file written one image at a time. What is remembered of an image is one JSON value."""

    def _read_rows(self) -> Iterator[dict[str, str]]:
        with open(self.path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if not reader.fieldnames or reader.fieldnames[0] != "image":
                raise ValueError("no column image")
            yield from reader


class _SegmentRows(_CsvLedger):
    def add(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.append(name, [to_json([[cell(row.get(column)) for column in COLUMNS] for row in rows])])

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


class _CountsLedger(_CsvLedger):
    """A row an image: how many of each class, how many in all, and the mean of their areas."""

    def __init__(self, path: Path, names: Sequence[str], **how: Any) -> None:
        self._names = list(dict.fromkeys(names))
        super().__init__(path, **how)

    def add(self, name: str, counts: Mapping[str, int], area: int) -> None:
        total = sum(counts.values())
        self.append(name, [to_json([dict(counts), round(area / total, 1) if total else None])])

    def _render(self) -> Iterator[str]:
        """Columns are the classes that were looked for, in the model's order, so that tables of several runs of one
        model fit together."""
        yield _line(["image", *self._names, "total", "mean_area"])
        for image, [text] in self._entries():
            counts, mean = json.loads(text)
            numbers = [counts.get(name, 0) for name in self._names]
            yield _line([str(image), *numbers, sum(numbers), cell(mean)])

    def _read_back(self) -> Iterator[tuple[int | str, list[str]]]:
        for row in self._read_rows():
            if list(row) != ["image", *self._names, "total", "mean_area"]:
                raise ValueError("its columns are not the classes of this model")
            counts = {name: int(row[name]) for name in self._names if row[name] != "0"}
            yield row["image"], [to_json([counts, float(row["mean_area"]) if row["mean_area"] else None])]


def cell(value: Any) -> Any:
    """A value as the tables have it."""
    if value is None:
        return ""
    return round(value, 4) if isinstance(value, float) else int(value) if isinstance(value, bool) else value


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")
