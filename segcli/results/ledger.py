"""One JSON file for all images, written one line per image, in constant memory.

While a run goes on each finished image is appended to a hidden file beside the result (`.predictions.jsonl`), as one
line in one write. `close` merges an earlier result with these lines into the final file and removes them. So the
final file is valid JSON at any time, Ctrl-C included; a run that was killed leaves its lines, and the next one with
--skip-existing goes on from there. The final file holds one image a line too, by which it is read back.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from segcli.errors import OutputError
from segcli.files.image_ref import regular
from segcli.files.writing import output_error, write_file
from segcli.types import LabelSet

Entry = tuple[int | str, list[str]]  # image id, one JSON text per array of the final file


def to_json(value: Any) -> str:
    """JSON with letters as they are. Undecodable bytes of a file name stay escaped, as UTF-8 cannot hold them."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Ledger(ABC):
    """Base of the two COCO files.

    Args:
        path: the final file.
        overwrite: discard an earlier result.
        resume: continue an earlier result; with neither, an existing file is an OutputError.
        relays: collect entries in `relayed` for the process that writes the file, and touch no file.
    """

    lines: ClassVar[str] = ".jsonl"  # ends the name of the hidden file

    def __init__(self, path: Path, *, overwrite: bool = False, resume: bool = False, relays: bool = False) -> None:
        self.path = path
        self.done: set[int | str] = set()
        self.relayed: list[Entry] | None = [] if relays else None
        self._broken = False
        self._lines = path.with_name(f".{path.stem}{self.lines}")
        self._resumes = resume and not overwrite
        if relays:
            return
        if self._resumes:
            self._take_up()
        else:
            if path.exists() and not overwrite:
                raise OutputError(f"{path}: exists; replace it with --overwrite or go on with --skip-existing")
            self._remove_lines()

    def _take_up(self) -> None:
        if self._lines.exists():
            regular(self._lines, str(self._lines))
            with open(self._lines, "rb") as file:
                whole = sum(len(line) for line in file if line.endswith(b"\n"))
            os.truncate(self._lines, whole)  # a killed run may leave half a line
        self.done = {image_id for image_id, _ in self._entries()}

    def check_ids(self, ids: Iterable[int | str]) -> None:
        """Raise OutputError if the images to come are named by numbers and those there by text, or the reverse."""
        kinds = {type(image_id) for image_id in (*self.done, *ids)}
        if len(kinds) > 1:
            raise OutputError(
                f"{self.path}: holds image ids of another kind (numbers or file names) than these photos get; "
                "choose another --out"
            )

    def append(self, image_id: int | str, texts: list[str]) -> None:
        """Append one image's entry, as `relayed` has it. Raises OutputError if it cannot be written."""
        if self.relayed is not None:
            self.relayed.append((image_id, texts))
            return
        line = "\t".join([to_json(image_id), *texts]).encode() + b"\n"
        try:
            self._lines.parent.mkdir(parents=True, exist_ok=True)
            with open(self._lines, "ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    written = file.write(line)
                    while written < len(line):
                        written += file.write(line[written:])
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            self._broken = True
            raise output_error(self.path, error) from error
        self.done.add(image_id)

    def close(self) -> Path:
        """Merge everything into the final file and return its path."""
        if self.relayed is not None:
            return self.path
        nothing = self._broken and not self.done  # could be written: a file without entries would say none was found
        if not nothing and (self._lines.exists() or not self.path.exists() or not self._resumes):
            self._write()
        self._remove_lines()
        return self.path

    def _write(self) -> None:
        """Write the final file."""
        write_file(self.path, (text.encode() for text in self._render()))

    def _remove_lines(self) -> None:
        try:
            self._lines.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self._lines, error) from error

    def _entries(self) -> Iterator[Entry]:
        """All entries: the earlier result, then this run's lines."""
        if self._resumes and self.path.exists():
            try:
                yield from self._read_back()
            except (ValueError, IndexError, OSError) as error:
                raise OutputError(
                    f"{self.path}: cannot be continued, segcli did not write it; "
                    "replace it with --overwrite or choose another --out"
                ) from error
        if self._lines.exists():
            with open(self._lines, encoding="utf-8", newline="\n") as file:
                for line in file:
                    image_id, *texts = line.rstrip("\n").split("\t")
                    yield json.loads(image_id), texts

    @abstractmethod
    def _read_back(self) -> Iterator[Entry]:
        """The entries of the final file of an earlier run."""

    @abstractmethod
    def _render(self) -> Iterator[str]:
        """The text of the final file, in pieces."""


class CocoResults(Ledger):
    """COCO results format: one array of {image_id, category_id, segmentation, score}."""

    def add(self, image_id: int | str, results: list[dict[str, Any]]) -> None:
        """Append one image's results; also if nothing was found."""
        self.append(image_id, [",".join(to_json(result) for result in results)])

    def _render(self) -> Iterator[str]:
        yield "[\n"
        yield from _joined(texts[0] for _, texts in self._entries() if texts[0])
        yield "\n]\n"

    def _read_back(self) -> Iterator[Entry]:
        with open(self.path, encoding="utf-8", newline="\n") as file:
            for text in _array(file, "["):
                yield _first_value(text, '{"image_id": '), [text]


class CocoPanoptic(Ledger):
    """COCO panoptic results: {categories, images, annotations}, the masks in a folder of PNGs beside it."""

    def __init__(self, path: Path, labels: LabelSet, **how: Any) -> None:
        self._labels = labels
        super().__init__(path, **how)

    def add(self, image: dict[str, Any], annotation: dict[str, Any]) -> None:
        """Append one image, `id` first, and its annotation."""
        self.append(image["id"], [to_json(image), to_json(annotation)])

    def _render(self) -> Iterator[str]:
        categories = [
            {"id": label.id, "name": label.name, "supercategory": label.name, "isthing": int(label.isthing)}
            | ({"color": list(label.color)} if label.color else {})
            for label in self._labels
        ]
        yield f'{{"categories": {to_json(categories)},\n"images": [\n'
        yield from _joined(texts[0] for _, texts in self._entries())
        yield '\n],\n"annotations": [\n'
        yield from _joined(texts[1] for _, texts in self._entries())
        yield "\n]}\n"

    def _read_back(self) -> Iterator[Entry]:
        with (
            open(self.path, encoding="utf-8", newline="\n") as images,
            open(self.path, encoding="utf-8", newline="\n") as annotations,
        ):
            pairs = zip(_array(images, '"images": ['), _array(annotations, '"annotations": ['), strict=True)
            for image, annotation in pairs:
                yield _first_value(image, '{"id": '), [image, annotation]


def _joined(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f",\n{text}" if number else text


def _array(lines: Iterator[str], opening: str) -> Iterator[str]:
    """The elements of an array that begins after the line `opening`, one a line, without their commas."""
    for line in lines:
        if line.rstrip("\n") == opening:
            break
    else:
        raise ValueError(f"no line {opening}")
    for line in lines:
        if line.startswith("]"):
            return
        if text := line.rstrip("\n").removesuffix(","):
            yield text
    raise ValueError("cut short")


def _first_value(text: str, key: str) -> Any:
    if not text.startswith(key):
        raise ValueError(f"does not begin with {key}")
    return json.JSONDecoder().raw_decode(text, len(key))[0]


def merge_coco_results(path: Path, parts: Sequence[Path]) -> None:
    """Join the parts of one COCO results file, in order. Raises OutputError for a part that segcli did not write."""

    def text() -> Iterator[str]:
        yield "[\n"
        yield from _joined(_of_parts(parts, "["))
        yield "\n]\n"

    write_file(path, (piece.encode() for piece in text()))


def merge_coco_panoptic(path: Path, parts: Sequence[Path]) -> None:
    """The same for COCO panoptic files; the categories are those of the first part."""

    def text() -> Iterator[str]:
        with parts[0].open(encoding="utf-8", newline="\n") as file:
            yield file.readline()
        yield '"images": [\n'
        yield from _joined(_of_parts(parts, '"images": ['))
        yield '\n],\n"annotations": [\n'
        yield from _joined(_of_parts(parts, '"annotations": ['))
        yield "\n]}\n"

    write_file(path, (piece.encode() for piece in text()))


def _of_parts(parts: Sequence[Path], opening: str) -> Iterator[str]:
    for part in parts:
        try:
            with part.open(encoding="utf-8", newline="\n") as file:
                yield from _array(file, opening)
        except (ValueError, OSError) as error:
            raise OutputError(f"{part}: damaged ({error}); run its shard again with --overwrite") from error
