"""Which photo is meant by a name that was written elsewhere: the one lookup for datasets and for results.

Names come with the folders and slashes of another machine, with letters in another case or another spelling (é as one
sign or two), with percent signs of an address, without an ending, or as a number. What such a name ends in is looked up
among the pictures that are there: `C:\\me\\images\\x.jpg`, `/data/local-files/?d=p/x.jpg`, `https://host/p/x.jpg`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from segcli.errors import UsageError
from segcli.files.image_names import decoded, is_folder, is_image_name, is_litter, is_plain, same_letters

_FOREIGN = re.compile(r"/|\.\./|[A-Za-z]:/|[a-z0-9]+://")  # what a path of another machine begins with
_LOCAL_FILES = "?d="  # Label Studio: a path below the folder that it serves
COCO_NAME = re.compile(
    r"(?:COCO_[a-z]+\d{4}_)?([0-9]+)"
)  # 000000000139 of COCO 2017, COCO_val2014_000000000139 of 2014
# A name as it is, then in one spelling of its letters, then that without the percent signs of an address.
SPELLINGS: tuple[Callable[[str], str], ...] = (str, same_letters, lambda name: same_letters(decoded(name)))


def with_slashes(name: str) -> str:
    """A file name as it is written here: Windows separates folders by backslashes."""
    return name.replace("\\", "/")


def confined(name: str) -> str:
    """A name as a path below the folder it is looked for in, whatever it says: no drive, root, or way up.

    A dataset's file names are data: they do not choose which of the machine's files are read.
    """
    return "/".join(part for part in with_slashes(name).split("/") if part not in ("", ".", "..") and part[1:] != ":")


def leaves(name: str) -> bool:
    """Whether a name is a path out of the folder it is relative to."""
    name = with_slashes(name)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return True
    return os.path.normpath(name).split(os.sep)[0] == ".."


def led_out(source: str, root: Path, found: Iterable[tuple[str, Path]], split: str = "train") -> tuple[str, ...]:
    """What to say of names that lead out of a dataset's folder, and of which nothing is found within.

    found: names, and the paths that stand for them.
    """
    pairs = [(name, path) for name, path in found if leaves(name)]
    exist = there([path for _, path in pairs])
    missing = [name for (name, _), exists in zip(pairs, exist, strict=True) if not exists]
    if not missing:
        return ()
    names = "1 name leads" if len(missing) == 1 else f"{len(missing):,} names lead"
    return (
        f"{source}: {names} out of {root}, such as {missing[0][:200]}: files outside are not read unless dataset.toml "
        f'names their folder ([{"train" if split == "all" else split}] images = "…")',
    )


class ImagePlaces:
    """The pictures below a folder, listed once, by the ends of their paths.

    wanted: which folders to look into; depth: how far down.
    """

    def __init__(self, root: Path, wanted: Callable[[Path], bool] = lambda folder: True, depth: int = 99) -> None:
        self._root = root
        self._files = [path.relative_to(root).as_posix() for path in _images(root, wanted, depth)]
        self._deepest = max((file.count("/") + 1 for file in self._files), default=0)
        self._tables: dict[tuple[int, int, bool], dict[str, list[str]]] = {}
        self._numbers: dict[int, list[str]] = {}

    def fitting(self, name: str, *, whole: bool = False, endings: bool = True) -> list[Path]:
        """The files that end as a name does, in as many folders as possible; in other letters only if none has these.

        whole: a name of this machine must be the end of the file's path as it is, with all of its folders.
        endings: False for a name that has lost its ending (.jpg).
        """
        parts = _parts(with_slashes(name))
        shortest = len(parts) if whole and not _FOREIGN.match(name) else 1
        for spelling, spelled in enumerate(SPELLINGS):
            for length in range(min(len(parts), self._deepest), shortest - 1, -1):
                files = self._table(length, min(spelling, 1), endings).get(spelled("/".join(parts[-length:])))
                if files:
                    return [self._root / file for file in files]
        return []

    def of_result(self, file: str | None, image_id: int | str | None) -> list[Path]:
        """The photos that a result may be of, which says its name, its name without the ending, or only an id."""
        for name in (file, None if image_id is None else str(image_id)):
            found = (self.fitting(name) or self.fitting(name, endings=False)) if name else []
            if not found and name and name.isdecimal():
                found = self.numbered(int(name))
            if found:
                return found
        return []

    def numbered(self, number: int) -> list[Path]:
        """The photos that are named by a number, as COCO's are."""
        if not self._numbers:
            for file in self._files:
                if match := COCO_NAME.fullmatch(PurePosixPath(file).stem):
                    self._numbers.setdefault(int(match[1]), []).append(file)
        return [self._root / file for file in self._numbers.get(number, ())]

    def _table(self, length: int, spelling: int, endings: bool) -> dict[str, list[str]]:
        """The last `length` parts of a path -> the files. Made when first asked for: mostly one table does."""
        key = (length, spelling, endings)
        if key not in self._tables:
            table: dict[str, list[str]] = {}
            for file in self._files:
                if file.count("/") + 1 >= length:
                    end = "/".join(file.rsplit("/", length)[-length:])
                    end = end if endings else os.path.splitext(end)[0]
                    table.setdefault(SPELLINGS[spelling](end), []).append(file)
            self._tables[key] = table
        return self._tables[key]


def assigned(source: Path, places: ImagePlaces, names: list[str], *, whole: bool, taken: set[Path]) -> dict[str, Path]:
    """Names -> the files that they mean; without those that mean none.

    taken: files that other names mean. Raises UsageError for a name of several files, and for a file of several names.
    """
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in dict.fromkeys(names):
        files = [file for file in places.fitting(name, whole=whole) if file not in taken]
        if not files and not whole:  # all of them may have been saved in another format since
            files = [file for file in places.fitting(without_ending(name), endings=False) if file not in taken]
            files = files if len(files) == 1 else []
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


def without_ending(name: str) -> str:
    """A name without what says that it is a picture's."""
    return os.path.splitext(name)[0] if is_image_name(name.rsplit("/", 1)[-1]) else name


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
    return [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]


def _images(folder: Path, wanted: Callable[[Path], bool], depth: int) -> Iterator[Path]:
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            names = [
                (entry.name, is_folder(entry)) for entry in entries if not is_litter(entry.name) and is_plain(entry)
            ]
    except OSError:
        return  # a folder that may not be looked into holds nothing that could be meant
    folders = sorted(name for name, is_folder in names if is_folder)
    if wanted(folder):
        yield from (folder / name for name in sorted(n for n, is_folder in names if not is_folder and is_image_name(n)))
    if depth:
        for name in folders:
            yield from _images(folder / name, wanted, depth - 1)
