"""Hugging Face datasets: a folder that `datasets` saved, or parquet files, with a photo and a label map, or a list
of masks, in each row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from segcli.data.layouts.class_tables import class_names
from segcli.data.layouts.folders import files_in, folders_below, split_of
from segcli.data.layouts.stored_maps import found_of_maps
from segcli.data.layouts.stored_masks import StoredMasksReader
from segcli.data.records import Found, Record
from segcli.data.settings import Settings
from segcli.errors import InputError, UsageError
from segcli.files.tables import TABLE_SUFFIXES, CellRef, column_values, count_rows, schema
from segcli.types import Label

FORMAT = "hf-datasets"
SOUGHT = "Hugging Face datasets (parquet or arrow files)"
WRITTEN_AS = "semantic-png"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_IMAGES = ("image", "img", "photo", "pixel_values", "picture", "input")
_OBJECT_CLASSES = ("categories", "category", "classes", "labels", "class_ids", "category_ids", "label", "category_id")
_LABELS = ("label", "annotation", "mask", "labels", "annotations", "masks", "segmentation", "semantic_mask", "gt",
           "segmentation_mask", "target", "seg")  # fmt: skip


def _tables(root: Path) -> list[Path]:
    return [file for folder in folders_below(root, 2) for file in files_in(folder, TABLE_SUFFIXES)
            if not file.name.startswith("cache-")]  # fmt: skip


def probe(root: Path, settings: Settings) -> str | None:
    """How many tables there are; None if there are none."""
    count = len(_tables(root))
    return f"{count} table{'s' * (count != 1)}" if count else None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for tables without an image and a label map in a row."""
    tables = _tables(root)
    splits: dict[str, list[Record]] = {}
    columns: list[str] = []
    for number, table in enumerate(tables):
        try:
            image, label = _columns(table)
            rows, names = count_rows(table), _names(table, image)
        except InputError as error:
            raise UsageError(str(error)) from error
        columns.append(label)
        split = split_of(table.stem) or (split_of(table.parent.name) if table.parent != root else None) or "all"
        splits.setdefault(split, []).extend(
            Record(
                f"{number}-{row}", CellRef(str(table), image, row, names[row]), (number, row, 0), f"{table.name}/{row}"
            )
            for row in range(rows)
        )
    lists = [_is_list(schema(table).field(column).type) for table, column in zip(tables, columns, strict=True)]
    if any(lists):
        if not all(lists):
            raise UsageError(f"{root}: some tables hold label maps and some lists of masks; give one kind at a time")
        return _instances(root, settings, splits, tables, columns)
    what = f"Hugging Face dataset: {probe(root, settings)}, label maps in {columns[0]!r}"
    of_classes = dict(enumerate(_classes(tables[0]))) or class_names(root)
    return found_of_maps(FORMAT, what, root, settings, splits, tables, columns, of_classes)


def _instances(
    root: Path, settings: Settings, splits: dict[str, list[Record]], tables: list[Path], columns: list[str]
) -> Found:
    """Tables of lists of masks: objects of one class, or of those that a list of numbers beside the masks says."""
    of_objects = [_classes_column(table) for table in tables]
    names = dict(enumerate(_classes(tables[0]))) or class_names(root)
    if settings.classes:
        labels = [Label(label.id, label.name, isthing=True, color=label.color) for label in settings.classes]
    elif names:
        labels = [Label(number, name, isthing=True) for number, name in names.items()]
    elif any(of_objects):
        values = {v for table, own in zip(tables, of_objects, strict=True) if own
                  for row in column_values(table, own) for v in row or []}  # fmt: skip
        labels = [Label(v, f"class {v}", isthing=True) for v in sorted(v for v in values if type(v) is int)]
    else:
        labels = [Label(1, "object", isthing=True)]
    label_set = settings.label_set(labels, root)
    reader = StoredMasksReader(tuple(map(str, tables)), tuple(columns), tuple(of_objects), tuple(label_set.ids))
    what = f"Hugging Face dataset: {probe(root, settings)}, lists of masks in {columns[0]!r}"
    return Found(FORMAT, what, splits, label_set, ("instance",), reader)


def _classes_column(table: Path) -> str:
    """The list of numbers that says the class of each mask of a row; "" if there is none."""
    numbers = {field.name.lower(): field.name for field in schema(table)
               if _is_list(field.type) and re.search(r": u?int\d+", str(field.type))}  # fmt: skip
    return next((numbers[name] for name in _OBJECT_CLASSES if name in numbers), "")


def _columns(table: Path) -> tuple[str, str]:
    """(the column of the images, that of the label maps): by their names among the columns that hold pictures."""
    pictures = [field.name for field in schema(table) if _holds_pictures(field.type)]
    image = next((name for name in _IMAGES for own in pictures if own.lower() == name), None)
    image = next((own for own in pictures if image and own.lower() == image), None)
    label = next((own for name in _LABELS for own in pictures if own.lower() == name), None)
    if image is None or label is None:
        seen = ", ".join(f"{field.name} ({field.type})" for field in schema(table))[:200]
        raise UsageError(
            f"{table}: no columns of images and label maps, named image and label (or mask, annotation); the "
            f"columns are {seen}"
        )
    return image, label


def _is_list(kind: Any) -> bool:
    return "list<" in str(kind).partition("struct")[0]


def _holds_pictures(kind: Any) -> bool:
    text = re.sub(r"^(?:large_|fixed_size_)?list<\w+: (.*)>(?:\[\d+\])?$", r"\1", str(kind))
    text = text.removesuffix(" not null")
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: " in text)


def _names(table: Path, column: str) -> list[str]:
    """What each picture is called: the path that the table gives it, or its row."""
    rows = count_rows(table)
    plain = [f"{table.stem}-{row:06}.png" for row in range(rows)]
    kind = str(schema(table).field(column).type)
    if "path: " not in kind:
        return plain
    paths = column_values(table, column, "path")
    names = [Path(str(path)).name if path else name for path, name in zip(paths, plain, strict=True)]
    return names if len(set(names)) == len(names) else plain


def _classes(table: Path) -> list[str]:
    """The names that a ClassLabel feature of the table gives, if there is one."""
    metadata = (schema(table).metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
        return next(
            (
                [str(name) for name in f["names"]]
                for own in features.values()
                for f in (own, own.get("feature") or {})
                if isinstance(f.get("names"), list)
            ),
            [],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
