"""Files and folders that are there whole or not at all, also after a power cut: written beside, synced, renamed.

The one place where this is done. Parts have hidden names with the number of the process that writes them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import platform
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from segcli.errors import OutputError, UsageError, shown

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another --out, then continue with --skip-existing",
    errno.EDQUOT: "free some of your quota or choose another --out, then continue with --skip-existing",
    errno.EACCES: "check the folder's permissions or choose another --out",
    errno.EPERM: "check the folder's permissions or choose another --out",
    errno.EROFS: "choose another --out",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another --out",
    errno.EEXIST: "a file stands where a folder is needed; choose another --out",
    errno.ENAMETOOLONG: "shorten the photo's name",
}
_MOST_PARTS = 250  # of a path: each is a step of Python's mkdir into itself
_serial = itertools.count()


def output_error(path: Path, error: OSError) -> OutputError:
    """One line that names the file, the system's reason, and what helps. Raise it `from` the error."""
    remedy = _REMEDIES.get(error.errno or 0, "choose another --out")
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


def refuse_existing(paths: Iterable[Path], remedy: str) -> None:
    """Raise UsageError, naming the first of the paths where something is already, and the remedy."""
    existing = [path for path in paths if os.path.lexists(path)]
    if existing:
        others = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise UsageError(f"{existing[0]}{others} exists already: {remedy}")


@contextmanager
def written_beside(path: Path, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """A stream to a part beside `path`, which takes its place when all is written and is removed otherwise.

    lasting: brought to the disk first; False for files of a cache, whose loss costs nothing. Raises OSError.
    """
    with _part_of(path) as part:
        with open(part, "wb") as stream:
            yield stream
            if lasting:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(part, path)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a file beside `path`, bring it to the disk, rename: `path` is the old file or the new one.

    The file has a folder to itself, for what `write` may put beside it in turn (safetensors does): what a killed
    process leaves has one name. Raises OSError as `write` and the disk do; nothing is left behind.
    """
    with _part_of(path) as part:
        part.mkdir()
        file = part / path.name
        file.touch()
        mode = file.stat().st_mode
        write(file)
        file.chmod(mode)  # safetensors makes its files private to the user, whatever the umask
        sync_file(file)
        os.replace(file, path)
    sync_folder(path.parent)


def write_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file, making its folder; an older one is replaced in one step.

    Raises:
        OutputError: disk full, no permission, …; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                file.writelines(data)
    except OSError as error:
        raise output_error(path, error) from error


def write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, content) pairs into a folder that appears when all are there; an older one is replaced.

    Raises:
        OutputError: as `write_file`.
    """
    try:
        with new_folder(path) as part:
            for name, data in files:
                if Path(name).name != name:
                    raise OutputError(f"{path}: a file in it would be called {shown(name)}, which is no plain name")
                (part / name).write_bytes(data)
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place in the end, or is removed. An older one is replaced.

    Raises OSError; then nothing is left behind, and what was at `path` is there still.
    """
    old = _beside(path)
    with _part_of(path) as part:
        part.mkdir(parents=True)
        yield part
        sync_folder(part)
        if is_there := path.exists():
            os.replace(path, old)
        try:
            os.replace(part, path)
        except OSError:
            if is_there:
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    part = _beside(path)
    try:
        yield part
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                part.unlink()


def below(folder: Path, path: Path) -> Path:
    """`path`, which must lie below `folder` when links and ".." in it are followed.

    Every file whose name comes from somewhere else than segcli goes through this before it is written. Raises
    OutputError naming it.
    """
    if len(path.parts) > _MOST_PARTS:
        raise OutputError(f"{shown(str(path))}: lies {len(path.parts):,} folders deep; shorten the image's name")
    home, place = folder.resolve(), path.parent.resolve()
    if not path.name or path.name == ".." or not place.is_relative_to(home):
        raise OutputError(f"{path}: lies outside of {folder}; rename it, or remove the link that leads there")
    return path


_HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # a folder may be shared, and processes have numbers of their own
_PART = re.compile(rf"\.segcli-{_HOST}-(\d+)-\d+\.part")


def remove_left_over(folder: Path) -> None:
    """Remove the parts in a folder that processes of this machine which are no more have left there."""
    for part in folder.glob(f".segcli-{_HOST}-*.part"):
        match = _PART.fullmatch(part.name)
        if match is None or _is_running(int(match[1])):
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                part.unlink()


def _is_running(process: int) -> bool:
    if os.name == "nt":  # where asking ends the process; parts stay
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, so that moving is one step; short, as names are limited."""
    return path.with_name(f".segcli-{_HOST}-{os.getpid()}-{next(_serial)}.part")


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make renames last; Windows cannot open a folder, and does not need it."""
    if os.name != "nt":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
