"""Sources from the command line -> the images to work on, in a fixed order."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcli.codecs.signature import is_signed
from segcli.errors import InputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image_name
from segcli.files.image_ref import ImageRef, read_bounded, regular
from segcli.results.kinds import SAVE_KINDS

STDIN = "-"
STDIN_NAME = "stdin"  # what its picture is called
STORES = (".tar", ".zip", ".parquet", ".jsonl")  # files that hold pictures, or name them
# Taken for a tar, to be told why they are not read.
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
# What a folder of a training run and one of an evaluation hold.
_RESULTS = (frozenset({"metrics.jsonl", "config.toml"}), frozenset({"metrics.json", "settings.json"}))
_KINDS = [kind for kind in SAVE_KINDS.values() if kind.suffix]
_FILES = tuple(str(kind.suffix) for kind in _KINDS if str(kind.suffix).count(".") > 1)  # of older versions unsigned
_FOLDERS = tuple(str(kind.suffix) for kind in _KINDS if kind.is_folder)


@dataclass(frozen=True)
class Source:
    """One image to work on.

    path: where it is; for stdin a name without a folder, so that its outputs are called `stdin.*`.
    folder: the folder it was found in, below which the outputs keep its tree; None if it was named itself.
    missing: why there is nothing to open, known before any work.
    data: the bytes from stdin, or the image's place inside another file.
    """

    path: Path
    folder: Path | None = None
    missing: str | None = None
    data: bytes | ImageRef | None = None

    @classmethod
    def of(cls, image: ImageRef) -> Source:
        """A picture of a dataset, which may be inside an archive or a table."""
        return cls(image.place, data=None if image.path else image)

    def __str__(self) -> str:
        return str(self.data) if isinstance(self.data, ImageRef) else str(self.path)

    def open(self) -> Path | bytes | ImageRef:
        """What an image reader takes: the path, the bytes of stdin, or a part of another file."""
        if self.missing:
            raise InputError(self.missing)
        return self.path if self.data is None else self.data


def find_sources(
    names: Sequence[str],
    *,
    recursive: bool = False,
    skip: Path | None = None,
    passed: Callable[[Path], None] = lambda picture: None,
) -> list[Source]:
    """Files, folders, globs and `-` in the order given, folders and globs sorted, every image once.

    recursive: look into the folders of folders.
    skip: a folder to leave out (the one the outputs go to).
    passed: called for every picture in a folder that is skipped because segcli wrote it.
    Raises UsageError for a folder without images and for `-` with nothing piped in. A file that is not there becomes a
    Source that says so: the others go on.
    """
    found: dict[Path | str, Source] = {}
    for name in names:
        for source in _expand(name, recursive, skip, passed):
            found.setdefault(_key(source), source)
    return list(found.values())


def _key(source: Source) -> Path | str:
    """Identifies an image, however it was named."""
    if source.data is None:  # two links to one file are two images: stores that keep equal files once hold such
        return _identity(source.path.parent) / source.path.name
    return STDIN if isinstance(source.data, bytes) else str(source.data)


def _in_store(name: str) -> Iterator[Source]:
    """The pictures in an archive, a table or a list, or behind a URL."""
    from segcli.inference.picture_stores import pictures_in

    root = Path(name)
    for picture in pictures_in(name):
        inside = picture.place != root and picture.place.is_relative_to(root)
        missing = _unending(picture.path, pipe=False) if picture.path else None
        yield Source(picture.place, root if inside else None, missing, None if picture.path else picture)


def _expand(name: str, recursive: bool, skip: Path | None, passed: Callable[[Path], None]) -> Iterator[Source]:
    path = Path(name)
    if name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("-: nothing is piped into stdin; give files or folders, or pipe an image in")
        yield Source(Path(STDIN_NAME), data=read_bounded(sys.stdin.buffer, STDIN_NAME))
    elif path.is_dir():
        yield from _in_folder(path, recursive, skip, passed)
    elif "://" in name or (os.path.lexists(path) and name.lower().endswith(STORES + COMPRESSED)):
        yield from _in_store(name)
    elif os.path.lexists(path):
        yield Source(path, missing=_unending(path))
    elif glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        files = [match for match in matches if match.is_file() or not match.exists()]  # a link may lead nowhere
        folders = [match for match in matches if match.is_dir()]
        yield from (Source(match) for match in files)
        if not files:  # folders alone are looked into, as where a shell expands the name
            for folder in folders:
                yield from _in_folder(folder, recursive, skip, passed)
        if not (files or folders):
            yield Source(path, missing=f"{name}: no file matches")
    else:
        yield Source(path, missing=f"{name}: no such file or folder")


def _unending(path: Path, *, pipe: bool = True) -> str | None:
    """Why a named file cannot be an image: a device has no end. A pipe that the user names may be meant."""
    try:
        regular(path, str(path), pipe=pipe)
    except InputError as error:
        return str(error)
    except (OSError, ValueError):
        pass  # which is told when it is opened
    return None


def _in_folder(folder: Path, recursive: bool, skip: Path | None, passed: Callable[[Path], None]) -> Iterator[Source]:
    unreadable: list[Source] = []
    own: list[Path] = []

    def refuse(error: OSError) -> None:
        reason = f"{error.filename}: cannot list this folder: {error.strerror}"
        unreadable.append(Source(Path(error.filename), missing=reason))

    images = list(_walk(folder, recursive, skip, refuse, own))
    for picture in own:
        passed(picture)
    if not images and not unreadable:
        deeper = not recursive and any(_walk(folder, True, skip, refuse, []))
        remedy = "the folders in it hold some: add --recursive" if deeper else f"looked for {_suffixes()}"
        if own and not deeper:
            remedy = f"the {len(own)} in it are results of segcli; name the ones you want, as in {own[0]}"
        if clips := sorted(path.name for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES):
            remedy = f"clips are predicted by name, as in {folder / clips[0]}"
        raise UsageError(f"{folder}: no images in this folder; {remedy}")
    yield from (Source(image, folder) for image in images)
    yield from unreadable


def _walk(
    folder: Path, recursive: bool, skip: Path | None, refuse: Callable[[OSError], None], own: list[Path]
) -> Iterator[Path]:
    """Images below a folder, sorted; hidden files (macOS leaves `._photo.jpg` beside photos) are passed over.

    own: gets the pictures that segcli wrote: they are signed, lie in `skip`, or in a folder of a run or an evaluation.
    """
    skipped = skip and _identity(skip)
    results: set[Path] = set()  # folders all of whose pictures are segcli's
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        here = Path(place)
        if here.is_symlink() and here != folder and _identity(here) in map(_identity, here.absolute().parents):
            folders.clear()
            continue  # a link to a folder that it is in: round and round
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        ours = here.parent in results or (here != folder and _identity(here) == skipped)
        if ours or any(names.issubset(files) for names in _RESULTS) or here.name.endswith(_FOLDERS):
            results.add(here)
        for file in sorted(files):
            if is_image_name(file):
                picture = Path(place, file)
                if not picture.is_file() and picture.exists():
                    continue  # a pipe or a device
                if here in results or file.endswith(_FILES) or is_signed(picture):
                    own.append(picture)
                else:
                    yield picture


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))


def _identity(path: Path) -> Path:
    """One spelling for one folder, however it was reached."""
    return path.resolve()
