"""Which file is meant by a name that was written on another machine: with its folders, its slashes, its letters' case.

Annotation tools write `C:\\me\\images\\x.jpg`, `/data/local-files/?d=p/x.jpg` or `https://host/p/x.jpg`. What such a
name ends in is looked up among the images that are there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from segcli.codecs.image_names import IMAGE_SUFFIXES
from segcli.data.formats.folders import subfolders
from segcli.errors import UsageError

_FOREIGN = re.compile(r"/|\.\./|[A-Za-z]:/|[a-z0-9]+://")  # what a path of another machine begins with
_LOCAL_FILES = "?d="  # Label Studio: a path below the folder that it serves


def with_slashes(name: str) -> str:
    """A file name as it is written here: Windows separates folders by backslashes."""
    return name.replace("\\", "/")


class ImagePlaces:
    """The images below a folder, listed once, by the ends of their paths.

    wanted: which folders to look into.
    """

    def __init__(self, root: Path, wanted: Callable[[Path], bool] = lambda folder: True) -> None:
        self._root = root
        self._files = [path.relative_to(root).as_posix() for path in _images(root, wanted)]
        self._deepest = max((file.count("/") + 1 for file in self._files), default=0)
        self._tables: dict[tuple[int, bool], dict[str, list[str]]] = {}

    def fitting(self, name: str, *, whole: bool = False) -> list[Path]:
        """The files that end as a name does, in as many folders as possible; in another case only if none has this one.

        whole: a name of this machine must be the end of the file's path as it is, with all of its folders.
        """
        parts = _parts(name)
        shortest = len(parts) if whole and not _FOREIGN.match(name) else 1
        for folded in (False, True):
            for length in range(min(len(parts), self._deepest), shortest - 1, -1):
                end = "/".join(parts[-length:])
                files = self._table(length, folded).get(end.lower() if folded else end)
                if files:
                    return [self._root / file for file in files]
        return []

    def _table(self, length: int, folded: bool) -> dict[str, list[str]]:
        """The last `length` parts of a path -> the files. Made when first asked for: mostly one table does."""
        if (length, folded) not in self._tables:
            table: dict[str, list[str]] = {}
            for file in self._files:
                parts = file.rsplit("/", length)[-length:]
                if file.count("/") + 1 >= length:
                    end = "/".join(parts)
                    table.setdefault(end.lower() if folded else end, []).append(file)
            self._tables[length, folded] = table
        return self._tables[length, folded]


def assigned(source: Path, places: ImagePlaces, names: list[str], *, whole: bool, taken: set[Path]) -> dict[str, Path]:
    """Names -> the files that they mean; without those that mean none.

    taken: files that other names mean. Raises UsageError for a name of several files, and for a file of several names.
    """
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in dict.fromkeys(names):
        files = [file for file in places.fitting(name, whole=whole) if file not in taken]
        if len(files) > 1:
            raise ambiguous(source, name, files)
        if files:
            other = owners.setdefault(files[0], name)
            if other != name:
                raise UsageError(
                    f"{source}: {other} and {name} would both be {files[0]}; "
                    "put each image into the folder that its file_name says"
                )
            found[name] = files[0]
    return found


def completed(source: Path, names: list[str], paths: list[Path], places: Callable[[], ImagePlaces]) -> list[Path]:
    """The paths, and for those where nothing is, the images that are meant by their names.

    Raises UsageError for a name that could be several files.
    """
    exist = there(paths)
    if all(exist):
        return paths
    missing = [name for name, exists in zip(names, exist, strict=True) if not exists]
    taken = {path for path, exists in zip(paths, exist, strict=True) if exists}
    found = assigned(source, places(), missing, whole=bool(taken), taken=taken)
    return [path if exists else found.get(name, path) for name, path, exists in zip(names, paths, exist, strict=True)]


def ambiguous(source: Path, name: str, files: list[Path], or_else: str = "") -> UsageError:
    """The error for a name that several files fit equally well."""
    shown = ", ".join(map(str, files[:3])) + (", …" if len(files) > 3 else "")
    return UsageError(
        f"{source}: {name} could be {len(files)} files ({shown}); "
        f"write its folder before the name there{or_else and ', or ' + or_else}"
    )


def there(paths: list[Path]) -> list[bool]:
    """Which files exist. Every folder is listed once: asking for each file takes long on a network drive."""
    listed: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        try:
            listed[folder] = set(os.listdir(folder))
        except OSError:
            listed[folder] = set()
    return [path.name in listed[path.parent] for path in paths]


def where_there(paths: list[Path], others: list[Path]) -> list[Path]:
    """The paths, but the others where only these exist."""
    return [
        other if other_there and not path_there else path
        for path, path_there, other, other_there in zip(paths, there(paths), others, there(others), strict=True)
    ]


def _parts(name: str) -> list[str]:
    """The folders and the file that a path or an address names."""
    if _LOCAL_FILES in name:
        name = unquote(name.split(_LOCAL_FILES, 1)[1])
    elif "://" in name:
        name = unquote(re.split("[?#]", name, maxsplit=1)[0])
    return [part for part in PurePosixPath(name).parts if part not in ("/", "..")]


def _images(folder: Path, wanted: Callable[[Path], bool]) -> Iterator[Path]:
    if wanted(folder):
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        yield from (folder / name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)
    for child in subfolders(folder):
        yield from _images(child, wanted)
