"""COCO's JSON files and what they name: which file is which split, and where its images lie."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from segcli.data.cache import signature
from segcli.data.coco.packs import Pack, PackedImage, keys_in
from segcli.data.layouts.folders import files_in, folders_below, locate, split_of, subfolders
from segcli.data.layouts.pairs import IMAGE_FOLDERS
from segcli.data.records import Record
from segcli.data.settings import Settings
from segcli.errors import UsageError
from segcli.files.image_places import (
    ImagePlaces,
    ambiguous,
    assigned,
    completed,
    confined,
    leaves,
    where_there,
    with_slashes,
)
from segcli.files.image_ref import FileRef
from segcli.files.json_stream import damage

Kind = Literal["panoptic", "instance"]
_OTHER_TASKS = ("person_keypoints", "captions", "stuff_", "image_info")  # of the official annotation archives
_USUAL = {"panoptic": ("panoptic",), "instance": ("instances", "_annotations", "annotations")}
_NAMES = ("instances_", "panoptic_", "_annotations.", "annotations.")
_TABLES = ("images", "annotations", "categories")
_TRUTH_WORDS = ("panoptic", "annotation", "label", "mask", "segment", "gt")


def annotation_files(root: Path, settings: Settings, kind: Kind) -> dict[str, list[Path]]:
    """split (or "all") -> the COCO files of this kind. Empty if there are none. Raises UsageError for a damaged one."""
    declared = {split: place.annotations for split, place in settings.places.items() if place.annotations}
    if declared:
        return {split: [file] for split, file in declared.items() if kind_of(file) == kind}
    found: dict[str, list[Path]] = {}
    for file in _json_files(list(folders_below(root, 3)) if settings.everywhere else _usual_folders(root)):
        own = kind_of(file)
        if own is None:
            _refuse_damaged(file)
        if own == kind:
            parts = reversed(file.parent.relative_to(root).parts)
            split = split_of(file.stem) or next(filter(None, map(split_of, parts)), None) or "all"
            found.setdefault(split, []).append(file)
    if settings.chosen is not None:
        found = {split: [settings.chosen] if settings.chosen in files else files for split, files in found.items()}
    if settings.everywhere and any(len({file.parent for file in files}) > 1 for files in found.values()):
        return {}  # of several datasets, most likely
    return {split: [file for file in files if file.name.startswith(_USUAL[kind])] or files
            for split, files in found.items()}  # fmt: skip


def kind_of(file: Path) -> Kind | None:
    """What sort of COCO file this is, by its keys; None if it is no COCO segmentation file."""
    if file.name.startswith(_OTHER_TASKS):
        return None
    return _kind_by_keys(file, signature([file]))


@lru_cache(maxsize=256)
def _kind_by_keys(file: Path, state: str) -> Kind | None:
    """Kept as long as the file's `state` is the same: the files are large and asked about several times."""
    keys = keys_in(file, ("images", "annotations", "segments_info"))
    if not {"images", "annotations"} <= keys:
        return None
    return "panoptic" if "segments_info" in keys else "instance"


def _refuse_damaged(file: Path) -> None:
    """Raise UsageError for what is left of a COCO file: without it a split would silently be missing. What else is no
    JSON is none of COCO's."""
    if not file.name.startswith(_OTHER_TASKS) and (reason := _damage(file, signature([file]))):
        raise UsageError(reason if "export it again" in reason else f"{reason}; copy or export it again")


@lru_cache(maxsize=256)
def _damage(file: Path, state: str) -> str | None:
    """What is wrong with a file that is called as COCO's are, or names a table of theirs, if it is no JSON."""
    named = file.name.startswith(_NAMES) or "coco" in file.name.lower()
    return damage(file) if named or keys_in(file, _TABLES) else None


def _usual_folders(root: Path) -> list[Path]:
    folders = [root]
    for child in subfolders(root):
        if child.name.lower() == "annotations":
            folders += [child, *(f for f in subfolders(child) if split_of(f.name))]
        elif split_of(child.name):
            folders.append(child)
    return folders


def _json_files(folders: list[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        files = files_in(folder, frozenset({".json"}))
        found += files if all(map(kind_of, files[:_LOOKED_AT])) else files[:_LOOKED_AT]
    return found


_LOOKED_AT = 40  # JSON files of a folder: more than so many are one an image, of COCO or of another format (labelme)


def refuse_rivals(packs: list[tuple[str, Pack]], kind: Kind) -> None:
    """Raise UsageError for files of one split that list the same images: each might be the one that is meant. Files
    that share none are parts of it.
    """
    owners: dict[tuple[str, str], Pack] = {}
    for split, packed in packs:
        for image in packed.images:
            other = owners.setdefault((split, image.file_name), packed)
            if other is not packed:
                names = ", ".join(pack.source.name for of, pack in packs[:4] if of == split)
                of = f"the {split} split" if split != "all" else "no split by their names"
                raise UsageError(
                    f"{packed.source.parent}: several COCO {kind} files for {of} ({names}) list the same image "
                    f'({image.file_name}); say which under [train] annotations = "…" in dataset.toml'
                )


def named_files(files: dict[str, list[Path]], root: Path) -> str | None:
    """Some files in a few words; None if there are none."""
    every = [file for of_split in files.values() for file in of_split]
    shown = [file.name if file.parent in (root, root / "annotations") else f"{file.parent.name}/{file.name}"
             for file in every[:_SHOWN]]  # fmt: skip
    return ", ".join(shown) + (f", … ({len(every)} files)" if len(every) > _SHOWN else "") or None


_SHOWN = 6


def image_files(root: Path, settings: Settings, split: str, file: Path, names: list[str]) -> list[Path]:
    """Where each image lies that an annotation file names: in the folder of most of them, or, where it is missing
    there, in images/ inside (or outside) of it, or else where the end of its path is found. Those that are nowhere are
    named as if they were in the first.

    Raises UsageError if none of them is anywhere below the dataset's folder, or if a name could be several files.
    """
    place = settings.places.get(split)
    given = names
    names = [name if not leaves(name) else confined(name) for name in given]  # no name leads out of the folder
    if place and (images := place.images):
        return completed(file, given, [images / name for name in names], lambda: ImagePlaces(images))
    ranks = {folder: _rank(folder, root, split, file) for folder in folders_below(root, depth=3)}
    ranked = sorted(ranks, key=lambda folder: ranks[folder])
    found = locate(names, ranked) if names else root
    if found is None:
        return _foreign(root, split, file, given)
    _refuse_rivals(file, names, found, [folder for folder in ranked if ranks[folder] == ranks[found]])

    paths = [found / name for name in names]
    # Where a split grew over the years some photos lie beside the annotations and some in images/ next to them.
    other = found.parent if found.name == "images" else found / "images"
    if other.is_dir():
        paths = where_there(paths, [other / name for name in names])
    return completed(file, given, paths, lambda: _likely(root, split))


def _rank(folder: Path, root: Path, split: str, file: Path) -> tuple[bool, ...]:
    """How far a folder is from being the one of a split's images; equal ranks are equally likely."""
    return (
        _other_split(folder, root, split),
        _of_truth(folder, root),
        folder != file.parent and split_of(folder.name) != split,
        not _plainly_named(folder.name.lower(), split),
    )


def _plainly_named(name: str, split: str) -> bool:
    """Whether a folder is called images or after its split, with at most a year."""
    return name in IMAGE_FOLDERS or (split_of(name) == split and name.rstrip("0123456789").isalpha())


def _refuse_rivals(file: Path, names: list[str], found: Path, folders: list[Path]) -> None:
    """Raise UsageError if another of the folders holds all that is in the one that was found."""
    held = [name for name in names[:: max(1, len(names) // 20)][:20] if (found / name).is_file()]
    rivals = [folder for folder in folders if held and folder != found and _holds_others(folder, found, held)]
    if rivals:
        files = [folder / held[0] for folder in (found, *rivals)]
        raise ambiguous(file, held[0], files, 'name the folder of all images in dataset.toml ([train] images = "…")')


def _holds_others(folder: Path, found: Path, names: list[str]) -> bool:
    """Whether a folder holds all of these files, and not as links to those that were found."""
    return all((folder / name).is_file() and not (folder / name).samefile(found / name) for name in names)


def _foreign(root: Path, split: str, file: Path, names: list[str]) -> list[Path]:
    """The images, where no folder holds any of them under the names as they are."""
    found = assigned(file, _likely(root, split), names, whole=False, taken=set())
    found = found or assigned(file, ImagePlaces(root), names, whole=False, taken=set())
    if not found:
        where = "lead out of" if leaves(names[0]) else "are not below"
        raise UsageError(
            f"{file}: names images such as {names[0]}, which {where} {root}; "
            f'put them there, or name their folder under [{split if split != "all" else "train"}] images = "…" '
            "in dataset.toml"
        )
    home = next(iter(found.values())).parent
    return [found.get(name) or home / Path(name).name for name in names]


def _likely(root: Path, split: str) -> ImagePlaces:
    """The images below a folder, but for other splits' and label files."""
    return ImagePlaces(root, lambda folder: not _other_split(folder, root, split) and not _of_truth(folder, root))


def truth_folder(root: Path, settings: Settings, split: str, file: Path, names: list[list[str]]) -> Path:
    """Where the id PNGs lie that a panoptic file names. names: of some of them, in every way in which they may be
    meant. Raises UsageError if they are nowhere.
    """
    place = settings.places.get(split)
    if place and place.labels:
        return place.labels
    ranked = sorted(
        folders_below(root, depth=3),
        key=lambda folder: (
            folder != file.with_suffix(""),
            _other_split(folder, root, split),
            not _of_truth(folder, root) and split_of(folder.name) != split,
        ),
    )
    found = next(filter(None, (locate(one_way, ranked) for one_way in names)), None) if names else root
    if found is None:
        raise UsageError(
            f"{file}: names id maps such as {names[0][0]}, which are not below {root}; they belong in "
            f"{file.with_suffix('').name}/ beside it"
        )
    return found


def _of_truth(folder: Path, root: Path) -> bool:
    """Whether a folder's path says that label files are in it: images and id maps may have the same names."""
    return any(word in part.lower() for part in folder.relative_to(root).parts for word in _TRUTH_WORDS)


def _other_split(folder: Path, root: Path, split: str) -> bool:
    """Whether a folder belongs to another split: train and val may hold files of the same names."""
    splits = {split_of(part) for part in folder.relative_to(root).parts} - {None}
    return split != "all" and bool(splits) and split not in splits


def records(number: int, files: list[Path], images: list[PackedImage], before: Iterable[Record] = ()) -> list[Record]:
    """Records for images of the reader's `number`-th pack, and their files. before: those of the same split, which may
    have the same ids."""
    taken = {record.image_id for record in before}
    return [
        Record(
            f"{number}-{image.image_id}" if image.image_id in taken else image.image_id,
            FileRef(str(file)),
            (number, *image.place),
            _common_end(image.file_name, file),
        )
        for image, file in zip(images, files, strict=True)
    ]


def _common_end(name: str, file: Path) -> str:
    """What a file's path and its name in the annotations both end in: no folder of another machine."""
    pairs = zip(reversed(with_slashes(name).split("/")), reversed(file.parts), strict=False)
    common = [part for part, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    return "/".join(reversed(common)) or file.name


def merged_categories(packs: Iterable[Pack]) -> list[dict[str, Any]]:
    """The categories of all splits, which must agree on the name of an id."""
    merged: dict[int, dict[str, Any]] = {}
    for pack in packs:
        for category in pack.categories:
            known = merged.setdefault(category["id"], category)
            if known["name"] != category["name"]:
                raise UsageError(
                    f"{pack.source}: category {category['id']} is {category['name']!r} here and {known['name']!r} in "
                    "another file; all must share one list of categories"
                )
    return list(merged.values())


def merged_rows(packs: Iterable[Pack]) -> dict[int | None, tuple[int, int]]:
    """Category -> annotations that cannot be used, and all, over all splits."""
    merged: dict[int | None, tuple[int, int]] = {}
    for pack in packs:
        for category, (bad, all_) in pack.rows.items():
            before = merged.get(category, (0, 0))
            merged[category] = (before[0] + bad, before[1] + all_)
    return merged
