"""How a pack is made: the rows of an annotation file as they come, written out, then put together image by image."""

from __future__ import annotations

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from segcli.data.coco.rows import NoOutline
from segcli.data.numbers import class_name, file_name, identity, shown, side, whole
from segcli.data.records import as_ranges
from segcli.errors import InputError, UsageError
from segcli.files.image_places import with_slashes
from segcli.files.json_stream import elements

Piece = Callable[[dict[str, Any]], "dict[str, Any] | None"]
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_WHOLE_NUMBER = re.compile(r"\s*-?\d{1,18}\s*")
_TABLES = ("images", "categories", "annotations")
_NAMES = ("file_name", "filename", "fileName", "path", "name")


class Packing:
    """The rows of one COCO file, images and annotations in any order.

    Kept annotations go to `spill` at once; here only their places are kept, so that memory grows with the number of
    images and not with what is drawn on them. A row that cannot be used is left out alone, and counted.
    """

    def __init__(self, file: Path, piece: Piece, spill: IO[bytes]) -> None:
        self._file, self._piece, self._spill = file, piece, spill
        self._end = self._at = 0  # of what is spilled; where reading it has come to
        self._images: dict[str, tuple[str, bytes]] = {}  # -> file name, size as JSON
        self._categories: dict[int, dict[str, Any]] = {}
        self._spans: dict[str, array[int]] = {}  # image -> start, stop, start, stop, … in the spill
        self._owners: dict[str, Any] = {}  # image -> its first annotation, to be named if there is no such image
        self._of_image: Counter[str] = Counter()
        self._used: dict[int, tuple[str, int]] = {}  # category -> its first annotation, their number
        self._ids: set[Any] = set()
        self._repeated: dict[Any, None] = {}
        self._rows = 0
        self._unmasked: dict[str, int] = {}  # why -> how many
        self._bad: dict[str, tuple[str, int]] = {}  # reason -> the first such row, their number
        self._bad_of: Counter[int | None] = Counter()  # category -> annotations that cannot be used
        self._zero: int | None = None
        self._nameless: list[str] = []

    def read(self) -> None:
        """Take in the whole file. Raises UsageError for JSON that is broken, and for a file that is not COCO's."""
        missing = set(_TABLES)
        for key, number, row in _rows(self._file):
            missing.discard(key)
            try:
                if not isinstance(row, dict):
                    raise ValueError(f"a row is {shown(row)}; expected an object")
                self._take(key, row)
            except ValueError as error:
                self._leave_out(str(error), f'row {number + 1} of "{key}"')
        if "images" in missing or "categories" in missing:
            absent = " and ".join(f'"{key}"' for key in _TABLES[:2] if key in missing)
            raise UsageError(f"{self._file}: not COCO annotations, {absent} is missing or empty")
        if not self._images or not self._categories:
            [(reason, (where, _)), *_] = self._bad.items()
            raise UsageError(
                f"{self._file}: no row of its images or categories can be read; the first: {where}: {reason}"
            )
        for image in self._of_image.keys() - self._images.keys():
            self._leave_out("its image is not listed", f"annotation {self._owners[image]} of image {image}",
                            self._of_image[image])  # fmt: skip
        for category in self.strange:
            where, count = self._used[category]
            listed = as_ranges(list(self._categories))
            self._leave_out(f"category {category} is not listed (listed: {listed})", where, count)
            self._bad_of[None] += count

    @property
    def strange(self) -> set[int]:
        """Categories of annotations that the file does not list."""
        return self._used.keys() - self._categories.keys()

    def _leave_out(self, reason: str, where: str, count: int = 1) -> None:
        first, before = self._bad.get(reason, (where, 0))
        self._bad[reason] = (first, before + count)

    def _take(self, key: str, row: dict[str, Any]) -> None:
        if key == "annotations":
            self._take_annotation(row)
        elif key == "images":
            name = identity(row.get("id"), "id")
            entry = (with_slashes(file_name(_name_of(row))), _head(row))
            if self._images.setdefault(name, entry) != entry:
                raise UsageError(f"{self._file}: two images share an id ({name}); ids must be unique")
        else:
            number = whole(row["id"], "id") if "id" in row else _missing("id")
            known = dict(row, id=number, name=class_name(row.get("name"), number))
            if not isinstance(known.get("supercategory", ""), str):
                del known["supercategory"]
            if not isinstance(row.get("name"), str | int | float):
                self._nameless.append(f"category {number} has no name; called {known['name']!r}")
            if self._categories.setdefault(number, known)["name"] != known["name"]:
                raise UsageError(f"{self._file}: two categories share an id ({number}); ids must be unique")

    def _take_annotation(self, row: dict[str, Any]) -> None:
        number = row.get("id")
        if isinstance(number, str) and _WHOLE_NUMBER.fullmatch(number):
            number = int(number)
        if not isinstance(number, int | str) or isinstance(number, bool):
            number = None
        row = row | {"id": number}
        where = self._rows if number is None else shown(number).strip("'")
        self._rows += 1
        segments = row.get("segments_info")
        if isinstance(segments, list) and any(isinstance(part, dict) and "score" in part for part in segments):
            # Beside predictions lie id maps under the photos' names, which would be taken for the photos.
            made = "segcli data convert DIR OUT --to coco-panoptic --images PHOTOS makes a dataset of them"
            raise UsageError(f"{self._file}: its segments have scores, so they are predictions; {made}")
        try:
            image = identity(row.get("image_id"), "image_id")
        except ValueError as error:
            self._leave_out(str(error), f"annotation {where}")
            return
        place = f"annotation {where} of image {image}"
        try:
            kept = self._piece(row)
        except NoOutline as error:
            self._unmasked[str(error)] = self._unmasked.get(str(error), 0) + 1
            return
        except ValueError as error:
            self._leave_out(str(error), place)
            self._bad_of[_category(row)] += 1
            return
        if number in self._ids:
            self._repeated[number] = None
        elif number is not None:
            self._ids.add(number)
        if kept is None:
            self._unmasked[""] = self._unmasked.get("", 0) + 1
            return
        self._owners.setdefault(image, where)
        self._of_image[image] += 1
        for reason, _ in kept.get("lost", ()):
            self._leave_out(reason, place)
            self._bad_of[None] += 1
        for part in kept.get("segments", (kept,)):
            first, count = self._used.get(part["category_id"], (place, 0))
            self._used[part["category_id"]] = (first, count + 1)
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
        strange = self.strange
        self._spill.seek(0)
        for image, (name, head) in self._images.items():
            pieces = self._spilled(image)
            if strange and pieces:
                pieces = _without(pieces, strange)
            chunk = b"[" + b",".join([head, *pieces]) + b"]"
            data.write(chunk)
            rows.append((image, name, offset, len(chunk), int(bool(pieces))))
            offset += len(chunk)
        listed = {category: count for category, (_, count) in self._used.items() if category not in strange}
        return {
            "images": rows,
            "categories": list(self._categories.values()),
            "used": sorted(listed),
            "unmasked": self._unmasked,
            "zero": self._zero,
            "repeated": list(self._repeated),
            "nameless": self._nameless,
            "bad": [[reason, where, count] for reason, (where, count) in self._bad.items()],
            "rows": [[category, self._bad_of[category], self._bad_of[category] + listed.get(category or 0, 0)]
                     if category is not None else [None, self._bad_of[None], self._rows]
                     for category in {*listed, *self._bad_of}],
        }  # fmt: skip

    def _spilled(self, image: str) -> list[bytes]:
        spans = self._spans.get(image, array("q"))
        parts = []
        for start, stop in zip(spans[::2], spans[1::2], strict=True):
            if start != self._at:  # mostly the annotations are in the order of the images, and seeking costs the buffer
                self._spill.seek(start)
            parts.append(self._spill.read(stop - start)[:-1])  # without its last comma
            self._at = stop
        return parts


def _without(pieces: list[bytes], strange: set[int]) -> list[bytes]:
    """The pieces without annotations or segments of some categories; such a segment's pixels become void."""
    kept = []
    for piece in json.loads(b"[" + b",".join(pieces) + b"]"):
        if "segments" in piece:
            lost = [part for part in piece["segments"] if part["category_id"] in strange]
            piece["segments"] = [part for part in piece["segments"] if part["category_id"] not in strange]
            piece["lost"] += [("", part["id"]) for part in lost]
        elif piece["category_id"] in strange:
            continue
        kept.append(_ENCODER.encode(piece).encode())
    return kept


def _name_of(row: dict[str, Any]) -> Any:
    """The name of an image, under the names that tools give the field. LVIS tells it by the address in COCO alone:
    folder and file are its last two parts."""
    name = next((row[key] for key in _NAMES if isinstance(row.get(key), str) and row[key]), row.get("file_name"))
    url = row.get("coco_url")
    return "/".join(url.split("/")[-2:]) if name is None and isinstance(url, str) else name


def _missing(field: str) -> int:
    raise ValueError(f'"{field}" is missing')


def _category(row: dict[str, Any]) -> int | None:
    """The category of a row that cannot be used, as far as that can be read."""
    try:
        return whole(row.get("category_id"), "category_id")
    except ValueError:
        return None


def _rows(file: Path) -> Iterator[tuple[str, int, Any]]:
    """(table, number of the row in it, row) of every row, in the order of the file."""
    numbers: Counter[str | None] = Counter()
    try:
        for element in elements(file):
            if element.place and element.key in _TABLES:
                yield str(element.key), numbers[element.key], element.value
                numbers[element.key] += 1
            elif element.key in _TABLES:
                yield from _of_object(element.key, element.value)
    except InputError as error:
        raise UsageError(str(error)) from error


def _of_object(key: str, table: Any) -> Iterator[tuple[str, int, Any]]:
    """The rows of a table that a tool wrote as an object: by their ids."""
    for number, (id_, value) in enumerate(table.items() if isinstance(table, dict) else ()):
        row = value if isinstance(value, dict) else {"name": value}
        yield key, number, row if "id" in row else row | {"id": id_}


def _head(row: dict[str, Any]) -> bytes:
    """What a piece begins with: the image's size, if it is stated. Without an encoder, which is slow for so little."""
    height, width = side(row.get("height")), side(row.get("width"))
    return f"[{height},{width}]".encode() if height and width else b"null"
