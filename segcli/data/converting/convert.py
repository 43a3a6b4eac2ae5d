"""A dataset in another format: every image's truth read, written again, and what is lost on the way counted."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from segcli.data.checking.per_image import in_order
from segcli.data.checking.scan import Problem
from segcli.data.coco.extras import Extras, extras_of
from segcli.data.converting.writing import Encoded, Item, Writer
from segcli.data.glance import glance
from segcli.data.layouts.shared_names import image_key
from segcli.data.records import DatasetInfo, Record
from segcli.errors import InputError, OutputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES
from segcli.files.image_ref import ImageRef
from segcli.files.writing import below, new_folder

Progress = Callable[[int, int], None]


@dataclass
class Written:
    """What was written. linked, copied: images that share their bytes with the originals, and those that do not.

    losses: what the format could not hold, changes: what it holds in another form -> (how much, in how many images).
    problems: images that were left out. notes: what is different in all images.
    """

    images: dict[str, int] = field(default_factory=dict)
    linked: int = 0
    copied: int = 0
    losses: dict[str, tuple[int, int]] = field(default_factory=dict)
    changes: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    for_editing: bool = False  # all images are copies, as a tool may save over them

    def count(self, encoded: Encoded) -> None:
        """Add what one image lost and how it changed."""
        for counts, total in ((encoded.losses, self.losses), (encoded.changes, self.changes)):
            for what, amount in counts.items():
                if amount:
                    before, images = total.get(what, (0, 0))
                    total[what] = (before + amount, images + 1)


def write_dataset(
    info: DatasetInfo, out: Path, writer: Writer, *, threads: int | None = None, progress: Progress | None = None
) -> Written:
    """Write every image of `info` to `out`, a folder that appears when all of it is there.

    Images are hard links where the file system allows it. Unreadable images are left out and listed.

    Raises:
        UsageError: labels that no class has, a folder `out` that is not free, more than the format can hold.
        OutputError: the disk is full or not writable; nothing is left behind.
    """
    refuse_taken(out, info.root)
    names = output_names(info.splits)
    numbers = _numbers(info.splits)
    extras = extras_of(info) if writer.categories() else Extras()
    report = Written(notes=writer.notes + extras.notes, for_editing=writer.IS_FOR_EDITING)
    kept: dict[str, list[str]] = {split: [] for split in info.splits}

    def encoded(position: int) -> Encoded | Problem:
        split, record = entries[position]
        try:
            size = glance(record.image).size
            truth = info.reader.read(record, size)
        except InputError as error:
            return Problem(str(record.image), str(error))
        return writer.encode(Item(split, names[position], numbers[position], size, truth))

    entries = [(split, record) for split, records in info.splits.items() for record in records]
    with _new_folder(out) as folder, ExitStack() as stack:
        tables = _tables(writer, extras, folder, info.splits, stack)
        for position, answer in enumerate(in_order(encoded, range(len(entries)), threads)):
            split, record = entries[position]
            if isinstance(answer, Problem):
                report.problems.append(answer)
            else:
                name = names[position]
                place = below(folder, folder / writer.image_place(split, name))
                _place(record.image, place, report, link=not writer.IS_FOR_EDITING)
                for beside, data in answer.files.items():
                    _write(below(folder, folder / beside), data)
                if split in tables:
                    tables[split].add(answer, extras.of(record))
                kept[split].append(name)
                report.count(answer)
            if progress:
                progress(position + 1, len(entries))
        kept = {split: of_split for split, of_split in kept.items() if of_split}
        if not kept:
            first = f"; the first: {report.problems[0].message}" if report.problems else ""
            raise UsageError(f"{info.root}: no image can be read{first}")
        for table in tables.values():
            table.close()
        for small, text in writer.finish(kept).items():
            _write(below(folder, folder / small), text.encode("utf-8", "surrogateescape"))
    report.images = {split: len(of_split) for split, of_split in kept.items()}
    return report


# --------------------------------------------------------------------------------------------------------------- names


def output_names(splits: Mapping[str, list[Record]]) -> list[str]:
    """The file name of every image in the new dataset: its own, or with its folder's where two would be the same.

    Unique without its suffix and in any case, as label files take the name over.
    """
    paths = [record.image.place for records in splits.values() for record in records]
    common = Counter(_key(path.name) for path in paths)
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name = path.name if common[_key(path.name)] == 1 else "-".join(path.parts[-2:])
        stem, suffix = os.path.splitext(name)
        suffix = suffix if suffix.lower() in IMAGE_SUFFIXES else ".jpg"  # readers tell by the content, finders by name
        tried = (f"{stem}{f'-{number}' if number > 1 else ''}{suffix}" for number in itertools.count(1))
        names.append(next(name for name in tried if _key(name) not in taken))
        taken.add(_key(names[-1]))
    return names


def _key(name: str) -> str:
    return image_key(os.path.splitext(name)[0]).casefold()


def _numbers(splits: Mapping[str, list[Record]]) -> list[int]:
    """A number for every image: the ids themselves if all are different numbers, else 1, 2, …"""
    ids = [record.image_id for records in splits.values() for record in records]
    if all(text.isdecimal() for text in ids) and len({int(text) for text in ids}) == len(ids):
        return [int(text) for text in ids]
    return list(range(1, len(ids) + 1))


# --------------------------------------------------------------------------------------------------------------- files


def refuse_taken(out: Path, root: Path) -> None:
    """Raise UsageError unless `out` is a new or an empty folder, outside of the dataset."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; give a new or empty folder")
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"{out}: lies inside the dataset {root}, where it would be taken for part of it")


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that becomes it at the end, or is removed."""
    part = out
    try:
        with new_folder(out) as part:
            yield part
    except OSError as error:
        raise _output_error(_destination(error, part, out), error) from error


def _destination(error: OSError, part: Path, out: Path) -> Path:
    """The file that could not be written, by the name that it would have had in the end."""
    file = Path(error.filename or part)
    return out / file.relative_to(part) if file.is_relative_to(part) else file


def _output_error(path: Path, error: OSError) -> OutputError:
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check its permissions"
    return OutputError(f"{path}: cannot be written ({error.strerror or error}); {remedy} or choose another folder")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _place(image: ImageRef, place: Path, report: Written, *, link: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if image.path is None:
        place.write_bytes(image.read())
        report.copied += 1
        return
    source = image.path.resolve()  # a link to a link would point astray
    if not link:
        _copy(source, place)
        report.copied += 1
        return
    try:
        os.link(source, place)
        report.linked += 1
    except OSError:
        _copy(source, place)
        report.copied += 1


def _copy(source: Path, place: Path) -> None:
    try:
        shutil.copy2(source, place)
    except OSError as error:  # which names the photo, the copy, both or none, as the system copies
        raise OSError(error.errno, error.strerror or str(error), str(place)) from error


class _Table:
    """The JSON file of a split, written while the images come: rows go to two files that are joined in the end.

    Objects keep the ids that they had if every one had an id of its own; else they are numbered from 1.
    """

    def __init__(self, file: Path, head: dict[str, Any], images: IO[str], annotations: IO[str]) -> None:
        self._file, self._head = file, head
        self._images, self._annotations = images, annotations
        self._ids: set[int] = set()
        self._count = 0  # of objects; those of panoptic data are segments, which have ids of their own

    def add(self, encoded: Encoded, more: dict[str, Any]) -> None:
        """An image, with what else its file said of it, and its objects."""
        assert encoded.image is not None
        self._append(self._images, encoded.image | more)
        for row in encoded.annotations:
            if "segments_info" not in row:
                own = row.get("id")
                if isinstance(own, int):
                    self._ids.add(own)
                self._count += 1
                row = {"id": None} | row | {"id": own if isinstance(own, int) else 0}  # first, where `close` wants it
            self._append(self._annotations, row)

    @staticmethod
    def _append(stream: IO[str], row: dict[str, Any]) -> None:
        text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
        stream.write((",\n" if stream.tell() else "") + text.encode("utf-8", "backslashreplace").decode())

    def close(self) -> None:
        if not self._images.tell():
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f'{json.dumps(self._head, ensure_ascii=False)[:-1]},\n"images": [\n')
            for heading, stream in (("", self._images), ('\n],\n"annotations": [\n', self._annotations)):
                stream.seek(0)
                file.write(heading)
                if stream is self._annotations and len(self._ids) < self._count:
                    file.writelines(f'{{"id":{n},{row.partition(",")[2]}' for n, row in enumerate(stream, start=1))
                else:
                    shutil.copyfileobj(stream, file)
            file.write("\n]}\n")


def _tables(
    writer: Writer, extras: Extras, folder: Path, splits: Mapping[str, object], stack: ExitStack
) -> dict[str, _Table]:
    import tempfile

    places = {split: place for split in splits if (place := writer.table_place(split)) is not None}
    if not places:
        return {}

    def stream() -> IO[str]:
        return stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder))

    categories = [row | extras.classes.get(row["id"], {}) for row in writer.categories()]
    head = extras.head | {"categories": categories}
    return {split: _Table(folder / place, head, stream(), stream()) for split, place in places.items()}
