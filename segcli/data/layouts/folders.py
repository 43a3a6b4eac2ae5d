"""What the formats share about folders: images in them, splits by name, pairs, and the held-out part."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from segcli.data.records import TRAIN_FROM, Record
from segcli.errors import UsageError
from segcli.files.image_names import is_folder, is_litter, is_plain
from segcli.files.image_ref import ImageRef

LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg"})  # JPEG: to be refused by name
HELD_OUT = 0.1
_WORDS = {
    "train": "train", "training": "train", "trn": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: "instances_val2017.json" -> "val"."""
    splits = [_WORDS[word] for word in re.findall(r"[a-z]+", name.lower()) if word in _WORDS]
    return splits[0] if splits else None


def split_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders that are named after a split and nothing else ("train2017", "validation")."""
    found: dict[str, Path] = {}
    for child in subfolders(folder):
        word = re.sub(r"\d+$", "", child.name.lower())
        if word in _WORDS:
            if _WORDS[word] in found:
                raise UsageError(
                    f"{folder}: {found[_WORDS[word]].name}/ and {child.name}/ both look like the {_WORDS[word]} split; "
                    "say which in dataset.toml"
                )
            found[_WORDS[word]] = child
    return found


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if is_folder(e) and not is_litter(e.name))


def files_in(folder: Path, suffixes: frozenset[str], *, deep: bool = False) -> list[Path]:
    """The visible files with these suffixes, sorted; in folders of folders too if `deep`."""
    return sorted(_walk(folder, suffixes, deep))


def _walk(folder: Path, suffixes: frozenset[str], deep: bool) -> Iterator[Path]:
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_litter(entry.name):
                continue
            if is_folder(entry):
                if deep:
                    yield from _walk(Path(entry.path), suffixes, deep)
            elif os.path.splitext(entry.name)[1].lower() in suffixes and is_plain(entry):
                yield Path(entry.path)


def named(folder: Path, names: Iterable[str]) -> Path | None:
    """The first sub-folder that has one of these names, in any case."""
    children = {child.name.lower(): child for child in subfolders(folder)}
    return next((children[name.lower()] for name in names if name.lower() in children), None)


def locate(names: list[str], folders: Iterable[Path]) -> Path | None:
    """The first folder that holds most of some files (relative names, of which a few are tried), else the one with the
    largest part of them: some files may simply be missing. None if no folder holds any.
    """
    tried = names[:: max(1, len(names) // 20)][:20]
    best, most = None, 0
    for folder in folders:
        count = sum((folder / name).is_file() for name in tried)
        if count > most:
            best, most = folder, count
        if 2 * most >= len(tried):
            break
    return best


def folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """A folder and the visible folders in it, `depth` levels down."""
    yield folder
    if depth:
        for child in subfolders(folder):
            yield from folders_below(child, depth - 1)


def hold_out(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """(train, val): about a tenth is held out, by a hash of the image's name, so that it stays held out when images are
    added, moved, numbered anew or read in another order. At least one image is held out, and one is left, if there are
    two. Records of one file stay together.
    """
    names: dict[ImageRef, str] = {}  # of each file
    for record in records:
        name = record.name or record.image_id
        names[record.image] = min(name, names.get(record.image, name))
    ranks = {file: rank(name) for file, name in names.items()}
    count = sum(rank < HELD_OUT for rank in ranks.values())
    held = set(sorted(ranks, key=lambda file: ranks[file])[: min(max(count, 1), len(ranks) - 1)])
    return [r for r in records if r.image not in held], [r for r in records if r.image in held]


def rank(text: str) -> float:
    """A number in [0, 1) that belongs to a name, on every machine and for ever."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") / 2**64


def with_validation(
    splits: dict[str, list[Record]], train_from: str = TRAIN_FROM
) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    """Splits with "train" and "val" in them, and what to say about it. Images of no split ("all") are for training.

    train_from: where the user would name these.

    Raises UsageError if nothing is left to train on.
    """
    splits = {name: records for name, records in splits.items() if records}
    train = splits.pop("all", []) + splits.pop("train", [])
    if not train:
        there = f"; only {', '.join(splits)} was found" if splits else ""
        raise UsageError(f"no images to train on{there}; name the training images {train_from}")
    if "val" in splits:
        return {"train": train, **splits}, ()
    if len({record.image for record in train}) == 1:
        return {"train": train, "val": train, **splits}, ("only one image: used for both training and validation",)
    kept, held = hold_out(train)
    note = (
        f"no validation split: {len(held)} of {len(train)} images ({100 * len(held) / len(train):.0f} %) are held out "
        "for it, by a hash of their names"
    )
    return {"train": kept, "val": held, **splits}, (note,)
