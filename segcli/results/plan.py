"""Where each photo's results go, decided for all photos at once so that no two can collide."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcli.files.image_places import COCO_NAME
from segcli.results.kinds import SAVE_KINDS

# Names that results of a photo must not have: predictions.json and panoptic.json cover all photos.
RESERVED = frozenset(
    Path(name).stem
    for name in (name for kind in SAVE_KINDS.values() for name in kind.files)
    if Path(name).suffix in {kind.suffix for kind in SAVE_KINDS.values()}
)


@dataclass(frozen=True)
class Photo:
    """One input and the names its results carry.

    path: where it is read from.
    file_name: its name below the source tree with "/" between folders, unique among the photos.
    stem: where its results go, relative to the output folder and without a suffix.
    image_id: its id in COCO files. COCO names its files by number (000000000139.jpg is image 139): if every photo
        is named by a number, and no two by the same, that number; otherwise `file_name`.
    """

    path: Path
    file_name: str
    stem: Path
    image_id: int | str


def plan(sources: Sequence[tuple[Path, Path | None]]) -> list[Photo]:
    """Plan (path, folder) pairs; the tree below `folder` is kept, a file named itself (folder None) has none.

    Photos of one name from different places get as much of their own path in front as tells them apart. Photos that
    differ only in their extension (a.jpg, a.png) keep it (a.jpg.json, a.png.json), also where only letter case
    differs, which Windows and macOS do not tell apart.
    """
    names = _distinct([_plain(path) for path, _ in sources], [_name(path, root) for path, root in sources])
    stems = _stems(names)
    ids = _image_ids(names)
    return [Photo(sources[number][0], name.as_posix(), stems[number], ids[number]) for number, name in enumerate(names)]


def _plain(path: Path) -> Path:
    """Absolute, and without the ".." that would lead out of the folder of the results."""
    return Path(os.path.normpath(path.absolute()))


def _name(path: Path, root: Path | None) -> Path:
    """Below its folder; of a file that is named itself or lies elsewhere, its own name."""
    plain = _plain(path)
    if root is not None and _plain(root) in plain.parents:
        return plain.relative_to(_plain(root))
    return Path(plain.name)


def _distinct(paths: list[Path], names: list[Path]) -> list[Path]:
    parts = [path.parts[1:] for path in paths]  # without "/" or a drive
    names = list(names)
    while True:
        counts = Counter(_key(name) for name in names)
        longer = [
            Path(*own[-len(name.parts) - 1 :]) if counts[_key(name)] > 1 and len(own) > len(name.parts) else name
            for own, name in zip(parts, names, strict=True)
        ]
        if longer == names:
            return names
        names = longer


def _stems(names: list[Path]) -> list[Path]:
    stems = [name.with_name(name.stem) for name in names]
    while True:  # a kept extension can itself collide: a.jpg, a.png and a.jpg.tif
        counts = Counter(_key(stem) for stem in stems)
        kept = [
            name if counts[_key(stem)] > 1 or _key(stem) in RESERVED else stem
            for name, stem in zip(names, stems, strict=True)
        ]
        if kept == stems:
            return stems
        stems = kept


def _image_ids(names: list[Path]) -> list[int] | list[str]:
    found = [COCO_NAME.fullmatch(name.stem) for name in names]
    numbers = [int(match[1]) for match in found if match]
    if len(set(numbers)) == len(names):
        return numbers
    return [name.as_posix() for name in names]


def _key(name: Path) -> str:
    return unicodedata.normalize("NFC", name.as_posix()).casefold()
