"""Files and folders that are there whole or not at all: written beside their place, then moved into it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from segcli.errors import OutputError, UsageError

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another --out, then go on with --skip-existing",
    errno.EDQUOT: "free some of your quota or choose another --out, then go on with --skip-existing",
    errno.EACCES: "check the folder's permissions or choose another --out",
    errno.EPERM: "check the folder's permissions or choose another --out",
    errno.EROFS: "choose another --out",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another --out",
    errno.EEXIST: "a file stands where a folder is needed; choose another --out",
    errno.ENAMETOOLONG: "shorten the photo's name",
}
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


def write_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file, making its folder; an older one is replaced in one step.

    Raises:
        OutputError: disk full, no permission, …; nothing is left behind.
    """
    part = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                file.writelines(data)
        os.replace(part, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, content) pairs into a folder that appears when all are there; an older one is replaced.

    Raises:
        OutputError: as `write_file`.
    """
    part, old = _beside(path), _beside(path)
    try:
        part.mkdir(parents=True)
        for name, data in files:
            (part / name).write_bytes(data)
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, so that moving is one step; short, as names are limited."""
    return path.with_name(f".segcli-{os.getpid()}-{next(_serial)}.part")
