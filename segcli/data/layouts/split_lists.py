"""Splits that lists of names beside the data tell: train.txt and val.txt, in the folder or where datasets keep them."""

from __future__ import annotations

import re
from pathlib import Path

from segcli.data.layouts.folders import files_in, named, split_of
from segcli.data.records import Record
from segcli.files.image_places import with_slashes
from segcli.files.text import lines_of

_FOLDERS = ("splits", "split", "lists", "ImageSets", "annotations", "sets")
_INNER = ("Segmentation", "Main")
_LISTED = 0.9  # share of a list's names that are images here: else it is a list of something else


def listed_splits(root: Path, records: list[Record]) -> tuple[dict[str, list[Record]], str]:
    """Images of no split, divided by lists of their names; and what to say of it. ({}, "") if there are no such lists.

    One list alone sets its images apart from the others (fastai's valid.txt).
    """
    by_name = {Path(record.image.name).stem: record for record in records}
    lists: dict[str, list[str]] = {}
    files: list[str] = []
    for folder in _folders(root):
        for file in files_in(folder, frozenset({".txt"})):
            split = split_of(file.stem) if re.fullmatch(r"[a-z]+[_-]?\d{0,4}", file.stem.lower()) else None
            names = [Path(with_slashes(line).split()[0]).stem for line in lines_of(file)] if split else []
            if split and names and split not in lists and sum(n in by_name for n in names) >= _LISTED * len(names):
                lists[split] = names
                files.append(file.name)
        if lists:
            break
    if not lists or len(by_name) < len(records):
        return {}, ""
    taken: set[str] = set()
    splits: dict[str, list[Record]] = {}
    for split in sorted(lists, key=["val", "test", "train"].index):
        names = [name for name in dict.fromkeys(lists[split]) if name in by_name and name not in taken]
        splits[split] = [by_name[name] for name in names]
        taken.update(names)
    rest = [record for name, record in by_name.items() if name not in taken]
    said = f"divided by {', '.join(files)}"
    if "train" not in splits:
        splits["train"] = rest
    elif rest:
        said += f"; {len(rest)} images that no list names are left out, such as {rest[0].image}"
    splits = {split: splits[split] for split in ("train", "val", "test") if splits.get(split)}
    return (splits, said) if "train" in splits else ({}, "")


def _folders(root: Path) -> list[Path]:
    inside = [folder for name in _FOLDERS if (folder := named(root, (name,)))]
    return [root, *(inner for folder in inside for name in _INNER if (inner := named(folder, (name,)))), *inside]
