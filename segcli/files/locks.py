"""One run a folder of results: a second one is refused, and told who holds it.

The lock is the operating system's (filelock), so it ends with its process however that ends; on network file systems it
is as good as theirs. The file tells people who the holder is, and goes when the run ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from segcli.errors import OutputError, UsageError, cut
from segcli.files.writing import output_error

if TYPE_CHECKING:
    from filelock import BaseFileLock

_NAME = ".segcli.lock"


@contextmanager
def owned(out: Path, *, beside: bool = False, shard: str | None = None) -> Iterator[None]:
    """The folder (or file) `out` belongs to this run alone while the block runs.

    beside: the lock lies beside `out`, which must not be there yet or is a file; else in it, and it is made.
    shard: the name of a part of one run ("2-of-4"). Parts of different names share a folder, with no whole run.
    Raises UsageError if another run holds it, OutputError if there cannot be a lock.
    """
    folder = out.parent if beside else out
    stem = f".{out.name}{_NAME}" if beside else _NAME
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder; choose another --out")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    file = folder / (stem if shard is None else f"{stem}-{shard}")
    lock = _lock(file)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            others = [] if shard is not None else list(folder.glob(f"{stem}-*"))
            _take(lock, file, out)
        except OSError as error:
            raise output_error(out, error) from error
        for other in others if shard is None else [folder / stem]:
            if other.exists():
                held = _lock(other)
                _take(held, other, out)
                _release(held, other)
        yield
    finally:
        try:
            _leave(lock, file, made)
        except KeyboardInterrupt:  # Ctrl-C and SIGTERM may come at any instruction, here too
            _leave(lock, file, made)
            raise


def _leave(lock: BaseFileLock, file: Path, made: list[Path]) -> None:
    if lock.is_locked:
        _release(lock, file)
    for place in made:  # if nothing was written
        with contextlib.suppress(OSError):
            place.rmdir()


def _lock(file: Path) -> BaseFileLock:
    from filelock import FileLock

    # Two locks of one process on one file are two runs, as in two notebooks of one kernel.
    return FileLock(file, thread_local=False, is_singleton=False)


def _take(lock: BaseFileLock, file: Path, out: Path) -> None:
    from filelock import Timeout

    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UsageError(
            f"{out}: another run of segcli is writing there ({_holder(file)}); wait for it, or choose another --out"
        ) from error
    with contextlib.suppress(OSError):
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}
        file.write_text(json.dumps(holder), encoding="utf-8")


def _release(lock: BaseFileLock, file: Path) -> None:
    """The file goes while the lock is still held: who waits on it sees that it is gone, and makes a new one."""
    with contextlib.suppress(OSError):
        file.unlink()
    lock.release()


def _holder(file: Path) -> str:
    try:
        holder = json.loads(file.read_text(encoding="utf-8"))
        return f"process {cut(holder['pid'], 20)} on {cut(holder['host'], 60)} since {cut(holder['since'], 30)}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "which one is not known"
