"""The cache of what was found out about datasets: files that can be deleted at any time."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segcli.files.writing import written_beside

VARIABLE = "SEGCLI_CACHE"


def cache_dir() -> Path:
    """$SEGCLI_CACHE, else the platform's cache folder, else (not writable) a folder among the temporary files."""
    import platformdirs

    place = Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("segcli", appauthor=False))
    try:
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
    except OSError:
        pass
    place = Path(tempfile.gettempdir()) / f"segcli-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def signature(files: Iterable[Path]) -> str:
    """Size and time of change of some files, in one string; "-" for a file that is not there.

    A file that may not be read is marked: permissions change without the time of change.
    """
    parts = []
    for file in files:
        try:
            state = file.stat()
            parts.append(f"{state.st_size}:{state.st_mtime_ns}{'' if os.access(file, os.R_OK) else '!'}")
        except (OSError, ValueError):  # also names that no file can have
            parts.append("-")
    return " ".join(parts)


def digest(*values: object) -> str:
    """A short stable name for some values."""
    text = "\0".join(str(value) for value in values)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def read_json(file: Path) -> Any:
    """The cached value, or None if there is none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(file: Path, value: Any) -> None:
    """Keep a value, written beside and renamed. A full or read-only disk costs the speed of the next start only."""
    write_bytes(file, json.dumps(value, separators=(",", ":")).encode())


def write_bytes(file: Path, data: bytes) -> bool:
    """Keep bytes, written beside and renamed; False if the disk would not have them."""
    try:
        with written_beside(file, lasting=False) as stream:
            stream.write(data)
    except OSError:
        return False
    return True
