"""Pictures in tables: parquet files, and the arrow files that Hugging Face's `datasets` saves. Needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from segcli.errors import InputError, SegcliError, UsageError, cut
from segcli.files.image_places import confined
from segcli.files.image_ref import MOST_BYTES, ImageRef, checked, read_file, regular

TABLE_SUFFIXES = frozenset({".parquet", ".arrow"})


@dataclass(frozen=True, slots=True)
class CellRef(ImageRef):
    """A picture in one cell of a table."""

    table: str
    column: str
    row: int
    called: str  # the name that the table gives it, or one made of the row's number

    @property
    def place(self) -> Path:
        return Path(self.table, self.called)

    @property
    def file(self) -> Path:
        return Path(self.table)

    def read(self) -> bytes:
        return encoded(cell(self.table, self.column, self.row), Path(self.table), f"{self} ({self.column})")


def encoded(value: Any, table: Path, name: str) -> bytes:
    """A cell's picture: its bytes, or a struct of bytes and the path of a file beside the table.

    Raises InputError for a cell without a picture.
    """
    if isinstance(value, dict):
        if value.get("bytes") is None and isinstance(value.get("path"), str):
            return read_file(table.parent / confined(value["path"]), name)
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise InputError(f"{name}: holds no picture")
    return checked(value, name)


def cell(table: str, column: str, row: int) -> Any:
    """One value. A group of rows is read at a time, as that is how tables are packed. Raises InputError."""
    try:
        starts = _starts(table, _state(table))
        group = max(index for index, start in enumerate(starts[:-1]) if start <= row)
        return _group(table, _state(table), group, column)[row - starts[group]].as_py()
    except SegcliError:
        raise
    except Exception as error:  # pyarrow's own, and the system's
        raise InputError(f"{table}: row {row} cannot be read ({str(error)[:120]}); download it again") from error


def schema(table: Path) -> Any:
    """The columns and their types (pyarrow.Schema). Raises InputError for a file that is no table."""
    with _reading(table):
        if table.suffix == ".parquet":
            return _opened(str(table), _state(str(table))).schema_arrow
        return _memory(table).schema


def count_rows(table: Path) -> int:
    """How many rows a table has. Raises InputError for one that claims more than its bytes can hold."""
    with _reading(table):
        count, size = int(_starts(str(table), _state(str(table)))[-1]), _state(str(table))[0]
    if count > size:  # as a picture has some dozen bytes at least
        raise InputError(f"{table}: claims {count:,} rows in {size:,} bytes; download it again")
    return count


def column_values(table: Path, column: str, field: str | None = None) -> list[Any]:
    """All values of a small column, or of one field of a struct, such as the paths of pictures. Raises InputError."""
    import pyarrow.compute

    name = f"{column}.{field}" if field else column
    with _reading(table):
        if table.suffix == ".parquet":
            with _reader(str(table)) as reader:
                values = reader.read(columns=[name], use_threads=False).column(0)
        else:
            values = _memory(table).column(column)
        return list((pyarrow.compute.struct_field(values, field) if field else values).to_pylist())


@contextmanager
def _reading(table: Path) -> Iterator[None]:
    """What pyarrow raises, as InputError."""
    try:
        regular(table, str(table))
        yield
    except SegcliError:
        raise
    except Exception as error:  # pyarrow's own, and the system's
        raise InputError(f"{table}: cannot be read as a table ({cut(error, 120)}); download it again") from error


def _state(table: str) -> tuple[int, int]:
    state = Path(table).stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=64)
def _opened(table: str, state: tuple[int, int]) -> Any:
    """For what its footer says: pyarrow's readers crash where two threads read rows through one of them."""
    return _reader(table)


def _reader(table: str, by_reference: tuple[str, ...] = ()) -> Any:
    """by_reference: columns whose repeated values are held once."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError(f"{table}: tables need the package pyarrow: pip install 'segcli[hf]'") from None
    return pyarrow.parquet.ParquetFile(table, read_dictionary=list(by_reference))


def _memory(table: Path) -> Any:
    return _arrow(str(table), _state(str(table)))


@lru_cache(maxsize=64)
def _arrow(table: str, state: tuple[int, int]) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise UsageError(f"{table}: tables need the package pyarrow: pip install 'segcli[hf]'") from None
    with pyarrow.memory_map(table) as source:
        try:
            read = pyarrow.ipc.open_stream(source).read_all()
        except pyarrow.ArrowInvalid:
            read = pyarrow.ipc.open_file(source).read_all()
    read.validate(full=True)  # its buffers are used as they are, and their offsets are the file's
    return read


@lru_cache(maxsize=64)
def _starts(table: str, state: tuple[int, int]) -> list[int]:
    """The first row of each group, and the number of all rows."""
    if not table.endswith(".parquet"):
        return [0, _arrow(table, state).num_rows]
    starts = [0]
    metadata = _opened(table, state).metadata
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


@lru_cache(maxsize=4)
def _group(table: str, state: tuple[int, int], group: int, column: str) -> Any:
    if not table.endswith(".parquet"):
        return _arrow(table, state).column(column)
    parts = _opened(table, state).metadata.row_group(group)
    chunks = [parts.column(number) for number in range(parts.num_columns)]
    chunks = [chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] == column]
    if (size := sum(chunk.total_uncompressed_size for chunk in chunks)) > MOST_BYTES:
        raise InputError(
            f"{table}: {size / 1e9:.1f} GB of {column!r} in one row group; save it again with smaller ones "
            "(row_group_size=100)"
        )
    repeated = tuple(chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY")
    with _reader(table, repeated) as reader:
        return reader.read_row_group(group, columns=[column], use_threads=False).column(0)
