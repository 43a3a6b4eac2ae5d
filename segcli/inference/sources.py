"""What the user names on the command line -> the images to work on, in a fixed order."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcli.codecs.image_names import IMAGE_SUFFIXES, is_image_name
from segcli.codecs.image_ref import ImageRef
from segcli.errors import InputError, UsageError

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """One image to work on.

    path: where it is; for stdin a name without a place, so that its outputs are called `stdin.*`.
    folder: the folder it was found in, below which the outputs keep its tree; None if it was named itself.
    missing: why there is nothing to open, known before any work.
    data: what came on stdin, or where the picture lies inside of another file.
    """

    path: Path
    folder: Path | None = None
    missing: str | None = None
    data: bytes | ImageRef | None = None

    @classmethod
    def of(cls, image: ImageRef) -> Source:
        """A picture of a dataset, which may lie inside of an archive or a table."""
        return cls(image.place, data=None if image.path else image)

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> Path | bytes | ImageRef:
        """What an image reader takes: the path, the bytes of stdin, or a part of another file."""
        if self.missing:
            raise InputError(self.missing)
        return self.path if self.data is None else self.data


def find_sources(names: Sequence[str], *, recursive: bool = False, skip: Path | None = None) -> list[Source]:
    """Files, folders, globs and `-` in the order given, folders and globs sorted, every image once.

    recursive: look into the folders of folders.
    skip: a folder never to look into (the one the outputs go to).
    Raises UsageError for a folder without images and for `-` with nothing piped in. A file that is not there becomes a
    Source that says so: the others go on.
    """
    found: dict[Path | str, Source] = {}
    for name in names:
        for source in _expand(name, recursive, skip):
            found.setdefault(_identity(source.path) if source.data is None else STDIN, source)
    return list(found.values())


def _expand(name: str, recursive: bool, skip: Path | None) -> Iterator[Source]:
    path = Path(name)
    if name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("-: nothing is piped into stdin; give files or folders, or pipe an image in")
        yield Source(Path("stdin"), data=sys.stdin.buffer.read())
    elif path.is_dir():
        yield from _in_folder(path, recursive, skip)
    elif os.path.lexists(path):
        yield Source(path)
    elif glob.has_magic(name):
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]
        if not matches:
            yield Source(path, missing=f"{name}: no file matches")
        yield from (Source(match) for match in matches if not match.is_dir())
    else:
        yield Source(path, missing=f"{name}: no such file or folder")


def _in_folder(folder: Path, recursive: bool, skip: Path | None) -> Iterator[Source]:
    unreadable: list[Source] = []

    def refuse(error: OSError) -> None:
        reason = f"{error.filename}: cannot look into this folder: {error.strerror}"
        unreadable.append(Source(Path(error.filename), missing=reason))

    images = list(_walk(folder, recursive, skip, refuse))
    if not images and not unreadable:
        deeper = not recursive and any(_walk(folder, True, skip, refuse))
        remedy = "the folders in it hold some: add --recursive" if deeper else f"looked for {_suffixes()}"
        raise UsageError(f"{folder}: no images in this folder; {remedy}")
    yield from (Source(image, folder) for image in images)
    yield from unreadable


def _walk(folder: Path, recursive: bool, skip: Path | None, refuse: Callable[[OSError], None]) -> Iterator[Path]:
    """Images below a folder, sorted; hidden files (macOS leaves `._photo.jpg` beside photos) are passed over."""
    skipped = skip and _identity(skip)
    for place, folders, files in os.walk(folder, onerror=refuse):
        visible = sorted(name for name in folders if recursive and not name.startswith("."))
        folders[:] = [name for name in visible if _identity(Path(place, name)) != skipped]
        for file in sorted(files):
            if is_image_name(file):
                yield Path(place, file)


def _suffixes() -> str:
    return " ".join(sorted(IMAGE_SUFFIXES))


def _identity(path: Path) -> Path:
    """One spelling for one file, however it was reached."""
    return path.resolve()
