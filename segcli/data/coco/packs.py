"""COCO's one big JSON, cut into one small piece an image, on disk.

Parsed as a whole, the annotations of 118,000 images take gigabytes in every process that holds them. Here they are
parsed once, checked, and packed into a file of the cache from which a worker reads one image's piece by its place.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.coco.packing import Packing, Piece
from segcli.data.records import Fault, Stated, bad_rows
from segcli.errors import InputError, UsageError
from segcli.files.text import encoding_of
from segcli.files.writing import written_beside

_VERSION = 7
_CHUNK = 1 << 24  # bytes that are searched at once
_IN_MEMORY = 1 << 24  # bytes of annotations that wait for their images in memory; more wait on disk


@dataclass(frozen=True)
class PackedImage:
    """One row of "images" and the place of its annotations in the pack."""

    image_id: str
    file_name: str
    place: tuple[int, int]
    has_annotations: bool


@dataclass(frozen=True)
class Pack:
    """An annotation file, packed."""

    source: Path
    data: Path
    images: list[PackedImage]
    categories: list[dict[str, Any]]
    used: frozenset[int]  # categories with annotations
    unmasked: dict[str, int]  # annotations that have a box but no mask, which are left out: why -> how many
    zero: int | None  # the category of the annotation whose id is 0, if there is one
    repeated: list[Any]  # annotation ids that occur more than once
    nameless: list[str]  # what to say of categories without a name
    bad: list[tuple[str, str, int]]  # rows that cannot be used: reason, the first of them, how many
    # category -> annotations that cannot be used, and all; None: of no category
    rows: dict[int | None, tuple[int, int]]
    drawn: Path | None = None  # what was packed, where `source` is of another tool and was brought into COCO's form

    def faults(self) -> list[Fault]:
        """What to say of the rows that are left out."""
        return [bad_rows(self.source.name, *bad) for bad in self.bad]


def keys_in(file: Path, keys: Iterable[str]) -> set[str]:
    """Which of these JSON keys occur in a file, found without parsing it (or holding it in memory).

    Raises InputError if it cannot be read.
    """
    try:
        return _keys_in(file, keys)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from error


def _keys_in(file: Path, keys: Iterable[str]) -> set[str]:
    found: set[str] = set()
    with file.open("rb") as stream:
        head = stream.read(64)
        encoding = encoding_of(head[:4])
        if head.decode(encoding, "replace").lstrip("\ufeff \t\r\n")[:1] not in ("{", "[", ""):
            return found  # no JSON, however long it is
        wanted = {f'"{key}"'.encode(encoding): key for key in keys}
        longest = max(map(len, wanted))
        stream.seek(0)
        rest = b""
        while wanted and (chunk := stream.read(_CHUNK)):
            text = rest + chunk
            found |= {wanted.pop(word) for word in list(wanted) if word in text}
            rest = text[1 - longest :]
    return found


def pack(file: Path, kind: str, piece: Piece) -> Pack:
    """Pack an annotation file, or find the pack made of it before.

    kind: names the form of the pieces. piece: what to keep of one annotation; None leaves it out (no mask).
    Raises UsageError for JSON that is broken or is not COCO, and for ids of images or categories that mean two things.
    """
    name = digest(_VERSION, kind, file.resolve(), signature([file]))
    index_file, data_file = cache_dir() / f"pack-{name}.json", cache_dir() / f"pack-{name}.bin"
    index = read_json(index_file) if data_file.is_file() else None
    if index is None:
        folder = data_file.parent  # not the system's temporary one, which may be memory itself
        try:
            with (
                written_beside(data_file, lasting=False) as data,
                tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(folder)) as spill,
            ):
                packing = Packing(file, piece, spill)
                packing.read()
                index = packing.join(data)
        except OSError as error:
            raise UsageError(
                f"{data_file}: cannot be written ({error.strerror or error}); set SEGCLI_CACHE to another folder"
            ) from error
        write_json(index_file, index)
    images = [PackedImage(i, f, (o, n), bool(a)) for i, f, o, n, a in index["images"]]
    facts = {key: index[key] for key in ("categories", "unmasked", "zero", "repeated", "nameless")}
    bad = [(reason, where, count) for reason, where, count in index["bad"]]
    rows = {category: (few, all_) for category, few, all_ in index["rows"]}
    return Pack(file, data_file, images, used=frozenset(index["used"]), bad=bad, rows=rows, **facts)


def read_piece(data: Path, offset: int, length: int) -> tuple[tuple[int, int] | None, list[dict[str, Any]]]:
    """((height, width) as the file states it, annotations) of one image."""
    try:
        with data.open("rb") as stream:
            stream.seek(offset)
            size, *annotations = json.loads(stream.read(length))
            return size and (size[0], size[1]), annotations
    except (OSError, ValueError) as error:
        raise InputError(f"{data}: packed annotations cannot be read ({error}); start again to rebuild them") from error


def stated(name: str, row: dict[str, Any]) -> Stated:
    """What `facts_of` kept, read back."""
    box = row.get("bbox")
    return Stated(name, row.get("area"), box and (box[0], box[1], box[2], box[3]))
