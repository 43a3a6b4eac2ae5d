"""The full ADE20K (2021_17_01): ADE_*.jpg beside ADE_*_seg.png and ADE_*.json, with every class that was drawn.

A pixel of the map is of class R // 10 · 256 + G and belongs to the object that B numbers. The JSON file names the
classes of its picture; there is no other list that segcli could read (index_ade20k_2021.pkl is a pickle).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.label_png import read_label_map
from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.layouts.folders import files_in, split_folders
from segcli.data.layouts.label_values import check_size, numbered, values_of
from segcli.data.numbers import class_name
from segcli.data.records import Found, Record, out_of_range
from segcli.data.settings import Settings
from segcli.data.truth import MapTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_ref import FileRef
from segcli.files.text import read_plain
from segcli.types import Label, Task

FORMAT = "ade20k-full"
SOUGHT = "the full ADE20K (images/ADE/training with ADE_*_seg.png)"
WRITTEN_AS = "semantic-png"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_HOMES = ("", "images/ADE", "images", "ADE", "ADE20K_2021_17_01/images/ADE")
_MAP = "_seg.png"
_FOLDERS = 40  # that are looked into before a tree is another's
_MOST_CLASSES = 1 << 16


def _splits(root: Path) -> dict[str, Path]:
    for home in _HOMES:
        folders = split_folders(root / home)
        if folders and any(_holds_maps(folder) for folder in folders.values()):
            return folders
    return {}


def _holds_maps(folder: Path) -> bool:
    """Whether a map lies beside a photo and a JSON file; a few folders are looked into."""
    for _, _, names in islice(os.walk(folder), _FOLDERS):
        maps = (name.removesuffix(_MAP) for name in names if name.startswith("ADE_") and name.endswith(_MAP))
        first = next(maps, None)
        if first is not None:
            return f"{first}.jpg" in names and f"{first}.json" in names
    return False


def probe(root: Path, settings: Settings) -> str | None:
    """The splits' folders; None if this is no such tree."""
    return ", ".join(folder.name for folder in _splits(root).values()) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset: semantic, and all tasks where dataset.toml says which classes are things.

    Raises UsageError if no JSON file names a class.
    """
    splits: dict[str, list[Record]] = {}
    tables: list[Path] = []
    for split, folder in _splits(root).items():
        photos = files_in(folder, frozenset({".jpg"}), deep=True)
        tables += [photo.with_suffix(".json") for photo in photos]
        splits[split] = [
            Record(photo.stem, FileRef(str(photo)), str(photo.with_name(photo.stem + _MAP)), photo.name)
            for photo in photos
        ]
    labels = settings.label_set(_classes(root, tables), root)
    things = tuple(label.id for label in labels if label.isthing)
    tasks: tuple[Task, ...] = ("panoptic", "semantic", "instance") if things else ("semantic",)
    notes: tuple[str, ...] = ("value 0 (not labelled) is void in ADE20K",)
    if not things:
        notes += (f"objects are told apart too: name the countable classes in {settings.file} (things = [...])",)
    reader = FullReader(tuple(labels.ids), things)
    return Found(FORMAT, f"ADE20K (full): {probe(root, settings)}", splits, labels, tasks, reader, (0,), notes)


def _classes(root: Path, tables: list[Path]) -> list[Label]:
    """The classes in use, by their numbers. A name that several have gets its number behind it; remembered until a file
    changes."""
    kept = cache_dir() / f"ade20k-classes-{digest(root.resolve(), signature(tables))}.json"
    rows = read_json(kept)
    if not isinstance(rows, list):
        rows = sorted({number: name for table in tables for number, name in _named(table)}.items())
        write_json(kept, rows)
    if not rows:
        raise UsageError(f"{root}: no JSON file beside the pictures names a class (name_ndx, name)")
    times = Counter(name for _, name in rows)
    return [Label(n, name if times[name] == 1 else f"{name} ({n})", isthing=False) for n, name in rows]


def _named(table: Path) -> list[tuple[int, str]]:
    """(number, name) of the objects of a picture, parts left out; none for a file that is missing or damaged."""
    try:
        raw: Any = json.loads(read_plain(table).decode("utf-8", "replace"))
        objects = raw["annotation"]["object"]
        return [
            (row["name_ndx"], class_name(row.get("name") or row.get("raw_name"), row["name_ndx"]))
            for row in ([objects] if isinstance(objects, dict) else objects)
            if type(row["name_ndx"]) is int and 0 < row["name_ndx"] < _MOST_CLASSES and not _is_part(row)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _is_part(row: dict[str, Any]) -> bool:
    parts = row.get("parts")
    return isinstance(parts, dict) and parts.get("part_level") not in (0, None)


@dataclass(frozen=True)
class FullReader:
    """ids: the classes; things: those whose objects are told apart by B."""

    ids: tuple[int, ...]
    things: tuple[int, ...]

    def files(self, record: Record) -> list[Path]:
        """The map."""
        return [Path(str(record.truth))]

    def read(self, record: Record, size: tuple[int, int]) -> MapTruth:
        """One object a class, and of things one a number. Raises as `Reader.read`."""
        file = Path(str(record.truth))
        picture = read_label_map(file)
        check_size(picture, size, file)
        if picture.ndim != 3:
            raise InputError(f"{file}: grey, not ADE20K's red, green and blue; take the file as it is published")
        red, green, blue = (picture[..., channel].astype(np.int32) for channel in range(3))
        classes = red // 10 * 256 + green
        codes = classes * 256 + np.where(np.isin(classes, self.things), blue, 0)
        values = values_of(codes)
        labels = values // 256
        strange = np.setdiff1d(labels, (0, *self.ids))
        if len(strange):
            raise out_of_range(file, strange.tolist(), self.ids, (0,))
        present = values[labels > 0]
        ids = numbered(codes, present, values[labels == 0].tolist())
        return MapTruth(ids, (present // 256).astype(np.int64), np.zeros(len(present), dtype=bool))
