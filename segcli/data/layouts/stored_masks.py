"""Lists of masks in tables: one black and white picture an object, in the rows of their photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.codecs.rle import encode
from segcli.data.layouts.label_values import check_size
from segcli.data.records import Record
from segcli.data.truth import LeftOut, ShapeTruth
from segcli.errors import InputError
from segcli.files.image_ref import ImageRef
from segcli.files.tables import cell, encoded


@dataclass(frozen=True, slots=True)
class ListedRef(ImageRef):
    """One picture of the list in a cell of a table."""

    table: str
    column: str
    row: int
    number: int
    value: object  # what the list holds there

    @property
    def place(self) -> Path:
        return Path(self.table, f"row {self.row} of {self.column}, mask {self.number + 1}")

    @property
    def file(self) -> Path:
        return Path(self.table)

    def read(self) -> bytes:
        return encoded(self.value, Path(self.table), str(self))


@dataclass(frozen=True)
class StoredMasksReader:
    """Reads the objects of a row. ids: the classes; classes: of each table the column of these, or ""."""

    tables: tuple[str, ...]
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    ids: tuple[int, ...]

    def files(self, record: Record) -> list[Path]:
        """None of its own: the table is the photo's too."""
        return []

    def read(self, record: Record, size: tuple[int, int]) -> ShapeTruth:
        """One object a mask: what is not 0 in it. A mask that cannot be used costs that object."""
        assert isinstance(record.truth, tuple)
        number, row, _ = record.truth
        table, column = self.tables[number], self.columns[number]
        values = cell(table, column, row) or []
        labels = cell(table, self.classes[number], row) or [] if self.classes[number] else [self.ids[0]] * len(values)
        if len(labels) != len(values):
            raise InputError(f"{table}: row {row}: {len(values)} masks ({column}), but {len(labels)} classes")
        shapes, kept, left_out = [], [], []
        for index, (value, label) in enumerate(zip(values, labels, strict=True)):
            source = ListedRef(table, column, row, index, value)
            try:
                mask = read_label_map(source)
                if mask.ndim == 3:
                    raise InputError("a mask of colours")
                check_size(mask, size, source.place)
            except InputError as error:
                left_out.append(LeftOut(str(error), str(source), label if label in self.ids else None))
                continue
            if label not in self.ids:
                left_out.append(LeftOut(f"class {label!r} is none of the dataset's", str(source)))
            elif mask.any():
                shapes.append(encode(mask != 0))
                kept.append(label)
        crowd = np.zeros(len(kept), dtype=bool)
        return ShapeTruth(size, shapes, np.array(kept, dtype=np.int64), crowd, left_out=tuple(left_out))
