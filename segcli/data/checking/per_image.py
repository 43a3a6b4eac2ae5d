"""Something about every image of a split: computed in threads, in order, and remembered until its files change.

Decoding releases Python's lock, so that threads share the work without copies of the dataset.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.dataset import Dataset
from segcli.data.records import DatasetInfo, Record
from segcli.errors import InputError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Row = TypeVar("Row")
_AHEAD = 4  # answers a thread that may wait for the one who asked, so that memory does not grow with the dataset


def in_order(work: Callable[[Item], Answer], items: Iterable[Item], threads: int | None = None) -> Iterator[Answer]:
    """`work` of every item, in the order of the items, by several threads (one a core if None)."""
    count = threads or os.cpu_count() or 1
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for task in waiting:
                task.cancel()


def is_passing(error: BaseException) -> bool:
    """Whether the system's fault is behind an error (permissions, a network drive, too many open files), and not the
    file's: it may be over without a change of the file. Of damaged files decoders raise OSError without a number, or
    are sent to places that no file has; a file that is missing changes when it comes.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno not in (None, errno.ENOENT, errno.EINVAL):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def remembered_rows(
    kind: str,
    info: DatasetInfo,
    dataset: Dataset,
    split: str,
    read: Callable[[Dataset, Record], Row],
    *,
    to_json: Callable[[Row], Any],
    from_json: Callable[[Any], Row | None],
    passing: Callable[[Row], bool],
    threads: int | None = None,
) -> Iterator[Row]:
    """A row an image, in the order of the records; those whose files did not change come from the cache.

    kind: names the form of the rows, with its version. from_json: None for what it cannot read. passing: rows
    that are not kept (`is_passing`). Rows made before an interruption are kept too.
    """
    kept = cache_dir() / f"{kind}-{digest(info.root.resolve(), split, repr(info.reader))}.json"
    known: dict[str, list[Any]] = read_json(kept) or {}
    fresh: dict[str, list[Any]] = {}

    def row_of(record: Record) -> tuple[str, Row, bool]:
        state = signature([record.image.file, *_label_files(dataset, record)]) + f" {record.truth}"
        entry = known.get(str(record.image))
        row = from_json(entry[1]) if entry and entry[0] == state else None
        return (state, read(dataset, record), True) if row is None else (state, row, False)

    changed = complete = False
    try:
        for record, (state, row, is_new) in zip(
            dataset.records, in_order(row_of, dataset.records, threads), strict=True
        ):
            if not passing(row):
                fresh[str(record.image)] = [state, to_json(row)]
                changed |= is_new
            yield row
        complete = True
    finally:
        if changed or (complete and len(fresh) != len(known)):
            write_json(kept, fresh if complete else known | fresh)


def _label_files(dataset: Dataset, record: Record) -> list[Path]:
    try:
        return dataset.reader.files(record)
    except InputError:
        return []
