"""Splits that lists of names beside the data tell: train.txt and val.txt, in the folder or where datasets keep them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from segcli.data.layouts.folders import files_in, named, split_of
from segcli.data.records import Record
from segcli.errors import cut
from segcli.files.image_names import same_letters
from segcli.files.image_places import with_slashes, without_ending
from segcli.files.text import lines_of

_FOLDERS = ("splits", "split", "lists", "ImageSets", "annotations", "sets")
_INNER = ("Segmentation", "Main")
_LISTED = 0.9  # share of a list's names that are images here: else it is a list of something else


def listed_splits(root: Path, records: list[Record]) -> tuple[dict[str, list[Record]], str]:
    """Images of no split, divided by lists of their names; and what to say of it: also where a list that is called
    after a split is of no use. ({}, "") if there are no such lists.

    One list alone sets its images apart from the others (fastai's valid.txt).
    """
    find = _finder(root, records)
    lists: dict[str, list[Record]] = {}
    files: list[str] = []
    unused = ""
    for folder in _folders(root):
        for file in files_in(folder, frozenset({".txt"})):
            split = split_of(file.stem) if re.fullmatch(r"[a-z]+[_-]?\d{0,4}", file.stem.lower()) else None
            lines = lines_of(file) if split and split not in lists else []
            found = {line: find(with_slashes(line)) for line in lines}
            images = [record for record in found.values() if record is not None]
            if split and images and len(images) >= _LISTED * len(found):
                lists[split] = images
                files.append(file.name)
            elif found:
                strange = next(line for line, record in found.items() if record is None)
                count = f"{len(images)} of its {len(found)} lines name an image"
                unused = unused or f"{file} is not used: {count}, not {cut(strange, 80)}"
        if lists:
            break
    if not lists:
        return {}, unused
    taken: set[str] = set()
    splits: dict[str, list[Record]] = {}
    for split in sorted(lists, key=["val", "test", "train"].index):
        images = list({record.image_id: record for record in lists[split] if record.image_id not in taken}.values())
        splits[split] = images
        taken.update(record.image_id for record in images)
    rest = [record for record in records if record.image_id not in taken]
    said = f"divided by {', '.join(files)}"
    if "train" not in splits:
        splits["train"] = rest
    elif rest:
        said += f"; {len(rest)} images that no list names are left out, such as {rest[0].image}"
    splits = {split: splits[split] for split in ("train", "val", "test") if splits.get(split)}
    return (splits, said) if "train" in splits else ({}, unused)


def _finder(root: Path, records: list[Record]) -> Callable[[str], Record | None]:
    """The image that a line of a list names: with the folders, the ending and the label file's name behind it that it
    may or may not have. A name that several images have is none's."""
    named: dict[str, Record | None] = {}
    for record in records:
        parts = record.image.place.parts
        depth = len(parts) - len(root.parts) if record.image.place.is_relative_to(root) else len(parts)
        for length in range(1, max(1, depth) + 1):
            end = "/".join(parts[-length:])
            for name in {same_letters(end), same_letters(without_ending(end))}:
                named[name] = record if named.get(name, record) is record else None

    def find(line: str) -> Record | None:
        first = line.split()[0]
        for text in (line, without_ending(line), first, without_ending(first), os.path.splitext(first)[0]):
            parts = [part for part in text.split("/") if part not in ("", ".")]
            for length in range(len(parts), 0, -1):
                if (record := named.get(same_letters("/".join(parts[-length:])))) is not None:
                    return record
        return None

    return find


def _folders(root: Path) -> list[Path]:
    inside = [folder for name in _FOLDERS if (folder := named(root, (name,)))]
    return [root, *(inner for folder in inside for name in _INNER if (inner := named(folder, (name,)))), *inside]
