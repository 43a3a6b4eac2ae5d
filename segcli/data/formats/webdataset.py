"""WebDataset: tars in which a photo and its label map follow each other under one name (x.jpg, x.png or x.mask.png)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from segcli.data.layouts.class_tables import class_names
from segcli.data.layouts.folders import files_in, folders_below, split_of
from segcli.data.layouts.stored_maps import found_of_maps
from segcli.data.records import Fault, Found, Record
from segcli.data.settings import Settings
from segcli.errors import InputError, UsageError
from segcli.files.image_ref import MemberRef
from segcli.files.tar_index import Member, members

FORMAT = "webdataset"
SOUGHT = "WebDataset tars"
WRITTEN_AS = "semantic-png"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_PHOTOS = ("jpg", "jpeg", "webp", "image.png", "img.png", "input.png", "image.jpg", "photo.jpg", "jpg.jpg")
_MAPS = ("mask.png", "label.png", "seg.png", "segmentation.png", "annotation.png", "target.png", "gt.png", "png", "tif")


def _tars(root: Path) -> list[Path]:
    return [file for folder in folders_below(root, 1) for file in files_in(folder, frozenset({".tar"}))]


def probe(root: Path, settings: Settings) -> str | None:
    """How many tars hold photos with label maps; None if there are none."""
    tars = _tars(root)
    return f"{len(tars)} tar{'s' * (len(tars) != 1)}" if any(map(_holds_samples, tars)) else None


def _holds_samples(tar: Path) -> bool:
    """Whether a tar is one of a dataset; a damaged one is named when another says that this is one."""
    try:
        return bool(_samples(tar))
    except InputError:
        return False


def load(root: Path, settings: Settings) -> Found:
    """The dataset. The index of each tar is made of its headers; pictures are read from where they lie."""
    tars = _tars(root)
    splits: dict[str, list[Record]] = {}
    faults: list[Fault] = []
    for number, tar in enumerate(tars):
        try:
            samples = _samples(tar)
        except InputError as error:
            raise UsageError(str(error)) from error
        split = split_of(tar.stem) or (split_of(tar.parent.name) if tar.parent != root else None) or "all"
        for key, (photo, label) in samples.items():
            if label is None:
                faults.append(Fault("unannotated", f"{tar}: {photo.name} has no label map: left out"))
                continue
            image = MemberRef(str(tar), photo.name, photo.offset, photo.length)
            place = (number, label.offset, label.length)
            splits.setdefault(split, []).append(Record(f"{number}-{key}", image, place, f"{tar.name}/{key}"))
    what = f"WebDataset: {probe(root, settings)}"
    found = found_of_maps(FORMAT, what, root, settings, splits, tars, [""] * len(tars), class_names(root))
    return Found(
        FORMAT, what, splits, found.labels, found.tasks, found.reader, found.ignore, found.notes, tuple(faults)
    )


def _samples(tar: Path) -> dict[str, tuple[Member, Member | None]]:
    """name -> (photo, label map): the members that share a name up to its first point."""
    grouped: dict[str, dict[str, Member]] = {}
    for member in members(tar):
        path = PurePosixPath(member.name)
        stem, _, ending = path.name.partition(".")
        grouped.setdefault((path.parent / stem).as_posix(), {})[ending.lower()] = member
    found: dict[str, tuple[Member, Member | None]] = {}
    for key, parts in grouped.items():
        photo = next((parts[ending] for ending in _PHOTOS if ending in parts), None)
        label = next((parts[ending] for ending in _MAPS if ending in parts), None)
        if photo is None and label is not None and parts.get("png") not in (None, label):
            photo = parts["png"]
        if photo is not None:
            found[key] = (photo, label)
    return found if any(label for _, label in found.values()) else {}
