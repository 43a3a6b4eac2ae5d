"""`--save jsonl` and `parquet`: a row per segment with its mask, in one file for all photos, for readers of tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from segcli.errors import OutputError, UsageError
from segcli.files.writing import output_error, replace_file, write_file
from segcli.results.kinds.kind import Answer, SaveKind, SaveRun
from segcli.results.ledger import Entry, Ledger, to_json

_ROWS = 20_000  # of a row group


class JsonRows(SaveKind):
    """segments.jsonl: image, and the segment as its record has it, with its mask as COCO's run-length code."""

    name = "jsonl"
    about = "one row per segment"
    files = ("segments.jsonl",)

    def __init__(self, run: SaveRun) -> None:
        super().__init__(run)
        self._rows = self._ledger(run.file(self.files[0]), **run.ledger_options())
        self.ledgers = (self._rows,)

    @staticmethod
    def _ledger(path: Path, **how: Any) -> RowLedger:
        return RowLedger(path, **how)

    def check_photos(self, photos: Iterable[Any]) -> None:
        """Rows are identified by file names: there is nothing to check."""

    def is_done(self, photo: Any) -> bool:
        return photo.file_name in self._rows.done

    def write(self, answer: Answer, path: Path | None) -> None:
        from segcli.results.record import mask_records

        name = answer.photo.file_name
        if name not in self._rows.done:
            rows = mask_records(answer.segments, masks=self.run.task != "detect")
            self._rows.add(name, [{"image": name} | row for row in rows])


class ParquetRows(JsonRows):
    """segments.parquet: the same rows."""

    name = "parquet"
    about = "the same as a table for pandas, Spark, DuckDB"
    files = ("segments.parquet",)

    @staticmethod
    def _ledger(path: Path, **how: Any) -> RowLedger:
        _pyarrow()
        return ParquetLedger(path, **how)


class RowLedger(Ledger):
    """A file of rows. An image without a segment has none, and is predicted again where the file is continued."""

    lines = ".rows.jsonl"

    def add(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append one image's rows."""
        self.append(name, [to_json(rows)])

    def _rows(self) -> Iterator[dict[str, Any]]:
        return (row for _, [text] in self._entries() for row in json.loads(text))

    def _render(self) -> Iterator[str]:
        return (to_json(row) + "\n" for row in self._rows())

    def _read_back(self) -> Iterator[Entry]:
        for name, rows in groupby(self._stored(), key=lambda row: row["image"]):
            yield name, [to_json(list(rows))]

    def _stored(self) -> Iterator[dict[str, Any]]:
        with open(self.path, encoding="utf-8", newline="\n") as file:
            yield from map(json.loads, file)


class ParquetLedger(RowLedger):
    """The same as Parquet."""

    lines = ".parquet.jsonl"

    def _write(self) -> None:
        write_parquet(self.path, self._rows())

    def _stored(self) -> Iterator[dict[str, Any]]:
        return read_parquet(self.path)


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A file of rows that appears whole, a group of them in memory at a time. Raises OutputError."""
    arrow = _pyarrow()
    whole, text = arrow.int32(), arrow.string()
    mask = arrow.struct([("size", arrow.list_(whole)), ("counts", text)])
    fields = {"image": text, "id": whole, "category_id": whole, "category_name": text, "score": arrow.float64()}
    fields |= {"area": arrow.int64(), "bbox": arrow.list_(whole), "isthing": arrow.bool_(), "segmentation": mask}
    schema = arrow.schema(list(fields.items()))

    def fill(part: Path) -> None:
        with arrow.parquet.ParquetWriter(part, schema, compression="zstd") as file:
            remaining = iter(rows)
            while group := [dict(row) for row in islice(remaining, _ROWS)]:
                file.write_table(arrow.Table.from_pylist(group, schema))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, fill)
    except OSError as error:
        raise output_error(path, error) from error


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows again, a group at a time. Raises OSError or ValueError (as pyarrow's errors are)."""
    for group in _pyarrow().parquet.ParquetFile(path).iter_batches(_ROWS):
        yield from group.to_pylist()


def merge_json_rows(path: Path, parts: Sequence[Path]) -> None:
    """Join the parts of one file of rows, in order. Raises OutputError."""

    def pieces() -> Iterator[bytes]:
        for part in parts:
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    yield piece

    write_file(path, pieces())


def merge_parquet(path: Path, parts: Sequence[Path]) -> None:
    """The same of Parquet."""
    try:
        write_parquet(path, (row for part in parts for row in read_parquet(part)))
    except ValueError as error:
        raise OutputError(f"{path}: a part of it is damaged ({error}); run its shard again with --overwrite") from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError("--save parquet needs pyarrow: pip install 'segcli[hf]'") from None
    return pyarrow
