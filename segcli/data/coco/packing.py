"""How a pack is made: the rows of an annotation file as they come, written out, then put together image by image."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from segcli.codecs.json_stream import walk
from segcli.data.records import out_of_range
from segcli.errors import InputError, UsageError

Piece = Callable[[dict[str, Any]], "dict[str, Any] | None"]
_WHOLE = 32 << 20  # bytes of a file that is parsed at once: a tenth less time than walking it, 4 to 7 times the memory
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_WHOLE_NUMBER = re.compile(r"\s*-?\d+\s*")
_TABLES = ("images", "categories", "annotations")


class Packing:
    """The rows of one COCO file, images and annotations in any order.

    Kept annotations go to `spill` at once; here only their places are kept, so that memory grows with the number of
    images and not with what is drawn on them.
    """

    def __init__(self, file: Path, piece: Piece, spill: IO[bytes]) -> None:
        self._file, self._piece, self._spill = file, piece, spill
        self._end = self._at = 0  # of what is spilled; where reading it has come to
        self._images: dict[str, tuple[str, bytes]] = {}  # -> file name, size as JSON
        self._categories: dict[int, dict[str, Any]] = {}
        self._spans: dict[str, array[int]] = {}  # image -> start, stop, start, stop, … in the spill
        self._owners: dict[str, Any] = {}  # image -> its first annotation, to be named if there is no such image
        self._used: dict[int, str] = {}  # category -> its first annotation, to be named if there is no such category
        self._ids: set[Any] = set()
        self._repeated: dict[Any, None] = {}
        self._rows = self._unmasked = 0
        self._zero: int | None = None

    def read(self) -> None:
        """Take in the whole file. Raises UsageError for JSON that is broken, and for rows that are not COCO's."""
        missing = set(_TABLES)
        for key, row in _rows(self._file):
            if key not in _TABLES:
                continue
            missing.discard(key)
            try:
                self._take(key, row)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                what = f'a row of "{key}" is malformed ({_in_words(error)})'
                raise UsageError(f"{self._file}: {what}; correct it or export again") from error
        if "images" in missing or "categories" in missing:
            absent = " and ".join(f'"{key}"' for key in _TABLES[:2] if key in missing)
            raise UsageError(f"{self._file}: not COCO annotations, {absent} is missing or empty")
        stranger = next((image for image in self._owners if image not in self._images), None)
        if stranger is not None:
            owner = self._owners[stranger]
            raise UsageError(f"{self._file}: annotation {owner} is of image {stranger}, not listed")
        unknown = sorted(self._used.keys() - self._categories.keys())
        if unknown:
            where = f"{self._file}: {self._used[unknown[0]]}"
            raise out_of_range(where, unknown, sorted(self._categories), ())

    def _take(self, key: str, row: dict[str, Any]) -> None:
        if key == "annotations":
            self._take_annotation(row)
        elif key == "images":
            name = _plain(row["id"])
            if name in self._images:
                raise UsageError(f"{self._file}: two images share an id ({name}); ids must be unique")
            self._images[name] = (str(row["file_name"]), _head(row))
        else:
            number = whole_number(row, "id")
            if number in self._categories:
                raise UsageError(f"{self._file}: two categories share an id ({number}); ids must be unique")
            self._categories[number] = dict(row, id=number, name=str(row["name"]))

    def _take_annotation(self, row: dict[str, Any]) -> None:
        image, number = _plain(row.get("image_id")), row.get("id")
        if isinstance(number, str) and _WHOLE_NUMBER.fullmatch(number):
            number = int(number)
            row = row | {"id": number}
        where = self._rows if number is None else number
        self._rows += 1
        self._owners.setdefault(image, where)
        if any("score" in part for part in row.get("segments_info", ())):
            # Beside predictions lie id maps under the photos' names, which would be taken for the photos.
            made = "segcli data convert DIR OUT --to coco-panoptic --images PHOTOS makes a dataset of them"
            raise UsageError(f"{self._file}: its segments have scores, so they are predictions; {made}")
        try:
            if number in self._ids:
                self._repeated[number] = None
            elif number is not None:
                self._ids.add(number)
            kept = self._piece(row)
        except (KeyError, TypeError, ValueError) as error:
            what = f"annotation {where} of image {image} is malformed ({_in_words(error)})"
            raise UsageError(f"{self._file}: {what}; correct it or export again") from error
        if kept is None:
            self._unmasked += 1
            return
        for part in kept.get("segments", (kept,)):
            if part["category_id"] not in self._used:
                self._used[part["category_id"]] = f"annotation {where} of image {image}"
        if kept.get("id") == 0 and self._zero is None:
            self._zero = kept["category_id"]
        self._keep(image, _ENCODER.encode(kept).encode() + b",")

    def _keep(self, image: str, text: bytes) -> None:
        spans = self._spans.setdefault(image, array("q"))
        if spans and spans[-1] == self._end:
            spans[-1] += len(text)
        else:
            spans.extend((self._end, self._end + len(text)))
        self._spill.write(text)
        self._end += len(text)

    def join(self, data: BinaryIO) -> dict[str, Any]:
        """Write the pieces, one after the other in the order of the images, and return the index of them."""
        rows: list[tuple[str, str, int, int, int]] = []
        offset = 0
        self._spill.seek(0)
        for image, (file_name, head) in self._images.items():
            chunk = b"[" + b",".join([head, *self._spilled(image)]) + b"]"
            data.write(chunk)
            rows.append((image, file_name, offset, len(chunk), int(image in self._spans)))
            offset += len(chunk)
        return {
            "images": rows,
            "categories": list(self._categories.values()),
            "used": sorted(self._used),
            "unmasked": self._unmasked,
            "zero": self._zero,
            "repeated": list(self._repeated),
        }

    def _spilled(self, image: str) -> list[bytes]:
        spans = self._spans.get(image, array("q"))
        parts = []
        for start, stop in zip(spans[::2], spans[1::2], strict=True):
            if start != self._at:  # mostly the annotations are in the order of the images, and seeking costs the buffer
                self._spill.seek(start)
            parts.append(self._spill.read(stop - start)[:-1])  # without its last comma
            self._at = stop
        return parts


def whole_number(row: dict[str, Any], key: str) -> int:
    """A field that holds a whole number, which some exporters write as text. Raises ValueError if it holds none."""
    value = row[key]
    if isinstance(value, str) and not _WHOLE_NUMBER.fullmatch(value):
        raise ValueError(f'"{key}" is {value!r}; expected a whole number')
    number = int(value)
    if number != float(value):
        raise ValueError(f'"{key}" is {value}; expected a whole number')
    return number


def _plain(value: Any) -> str:
    """An id as text, the same for 1, 1.0 and "1"."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _in_words(error: Exception) -> str:
    """What a row lacks or holds, without Python's words for it."""
    if isinstance(error, KeyError):
        return f'"{error.args[0]}" is missing'
    return str(error) if isinstance(error, ValueError) else "a field is of the wrong kind"


def _rows(file: Path) -> Iterator[tuple[str | None, Any]]:
    """(key, row) of every row of a file's tables, in the order of the file."""
    try:
        if file.stat().st_size <= _WHOLE:
            try:
                raw = json.loads(file.read_bytes())
            except (ValueError, RecursionError):
                pass  # the walk says where and what
            else:
                tables = raw.items() if isinstance(raw, dict) else ()
                yield from ((key, row) for key, rows in tables if isinstance(rows, list) for row in rows)
                return
        yield from ((element.key, element.value) for element in walk(file) if element.place)
    except InputError as error:
        raise UsageError(str(error)) from error


def _head(row: dict[str, Any]) -> bytes:
    """What a piece begins with: the image's size. Written by hand, as an encoder is slow for so little."""
    height, width = row.get("height"), row.get("width")
    return f"[{int(height)},{int(width)}]".encode() if height and width else b"null"
