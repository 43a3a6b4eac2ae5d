"""Semantic label maps that lie in archives and tables beside their photos, and are read from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.layouts.label_values import check_size, numbered, values_of
from segcli.data.records import Found, Record, out_of_range
from segcli.data.settings import Settings
from segcli.data.truth import MapTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_ref import ImageRef, MemberRef
from segcli.files.tables import CellRef
from segcli.types import Label

Place = tuple[int, int, int]  # number of the container; offset and length in a tar, or row and 0 in a table


@dataclass(frozen=True)
class StoredMapReader:
    """Reads semantic label maps out of archives or tables."""

    containers: tuple[str, ...]
    columns: tuple[str, ...]  # of each table the column of the maps; "" for a tar
    ids: tuple[int, ...]
    ignore: tuple[int, ...]

    def files(self, record: Record) -> list[Path]:
        """None of its own: the container is the photo's too."""
        return []

    def source(self, place: Place) -> ImageRef:
        """Where a map lies."""
        number, at, length = place
        container, column = self.containers[number], self.columns[number]
        if column:
            return CellRef(container, column, at, f"row {at} of {column}")
        return MemberRef(container, f"label map at {at}", at, length)

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """One object a class that occurs."""
        assert isinstance(record.truth, tuple)
        source = self.source(record.truth)
        label_map = read_label_map(source)
        if label_map.ndim == 3:
            raise UsageError(f"{source}: a label map of colours; store the numbers of the classes")
        check_size(label_map, size, source.place)
        values = values_of(label_map)
        strange = np.setdiff1d(values, (*self.ids, *self.ignore))
        if len(strange):
            raise out_of_range(source, strange.tolist(), self.ids, self.ignore)
        present = np.setdiff1d(values, self.ignore)
        ids = numbered(label_map, present, self.ignore)
        return MapTruth(ids, present.astype(np.int64), np.zeros(len(present), dtype=bool))


def found_of_maps(
    format: str, what: str, root: Path, settings: Settings, splits: dict[str, list[Record]], containers: Sequence[Path],
    columns: Sequence[str], names: Mapping[int, str],
) -> Found:  # fmt: skip
    """The dataset. names: of the classes by their ids, if they are known; else the values that occur are classes."""
    reader = StoredMapReader(tuple(map(str, containers)), tuple(columns), (), settings.ignored())
    notes: tuple[str, ...] = ()
    if settings.classes:
        labels = list(settings.classes)
    elif names:
        labels = [Label(i, name, isthing=False) for i, name in names.items() if i not in settings.ignored()]
    else:
        values = _survey(reader, [record for records in splits.values() for record in records])
        labels = [Label(value, f"class {value}", isthing=False) for value in values if value not in settings.ignored()]
        notes = ("classes have no names; list them in dataset.toml or classes.txt beside the data",)
    if not labels:
        raise UsageError(f"{root}: the label maps hold no class, only ignored values")
    label_set = settings.label_set(labels, root)
    reader = StoredMapReader(reader.containers, reader.columns, tuple(label_set.ids), settings.ignored())
    return Found(format, what, splits, label_set, ("semantic",), reader, settings.ignored(), notes)


def _survey(reader: StoredMapReader, records: Sequence[Record]) -> list[int]:
    """The values that occur, remembered as long as no container changes."""
    files = [Path(container) for container in reader.containers]
    kept = cache_dir() / f"stored-values-{digest(*files, reader.columns, signature(files))}.json"
    known = read_json(kept)
    if isinstance(known, list) and known:
        return known

    broken: list[str] = []

    def values(record: Record) -> list[int]:
        assert isinstance(record.truth, tuple)
        try:
            label_map = read_label_map(reader.source(record.truth))
        except InputError as error:
            broken.append(str(error))
            return []
        return [int(value) for value in values_of(label_map)] if label_map.ndim == 2 else []

    with ThreadPoolExecutor() as pool:
        found = sorted({value for of_image in pool.map(values, records) for value in of_image})
    if broken and not found:
        raise UsageError(f"no label map can be read; the first: {broken[0]}")
    write_json(kept, found)
    return found
