"""COCO's one big JSON, cut into one small piece an image, on disk.

Parsed as a whole, the annotations of 118,000 images take gigabytes in every process that holds them. Here they are
parsed once, checked, and packed into a file of the cache from which a worker reads one image's piece by its place.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcli.data.cache import cache_dir, digest, read_json, signature, write_bytes, write_json
from segcli.data.records import Stated, out_of_range
from segcli.errors import InputError, UsageError

_VERSION = 3


@dataclass(frozen=True)
class PackedImage:
    """One row of "images" and the place of its annotations in the pack."""

    image_id: str
    file_name: str
    place: tuple[int, int]
    has_annotations: bool


@dataclass(frozen=True)
class Pack:
    """An annotation file, packed.

    unmasked: annotations that have a box but no mask, which are left out. zero: the category of the annotation whose id
    is 0, if there is one. repeated: annotation ids that occur more than once.
    """

    source: Path
    data: Path
    images: list[PackedImage]
    categories: list[dict[str, Any]]
    used: frozenset[int]
    unmasked: int
    zero: int | None
    repeated: list[Any]


def keys_in(file: Path, keys: Iterable[str]) -> set[str]:
    """Which of these JSON keys occur in a file, found without parsing it (or holding it in memory)."""
    if file.stat().st_size == 0:
        return set()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return {key for key in keys if view.find(f'"{key}"'.encode()) >= 0}


def pack(file: Path, kind: str, piece: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Pack:
    """Pack an annotation file, or find the pack made of it before.

    kind: names the form of the pieces. piece: what to keep of one annotation; None leaves it out (no mask).
    Raises UsageError for JSON that is broken or is not COCO: repeated ids, unknown images or categories, missing keys.
    """
    name = digest(_VERSION, kind, file.resolve(), signature([file]))
    index_file, data_file = cache_dir() / f"pack-{name}.json", cache_dir() / f"pack-{name}.bin"
    index = read_json(index_file) if data_file.is_file() else None
    if index is None:
        index, data = _build(file, piece)
        if not write_bytes(data_file, data):
            raise UsageError(
                f"{data_file}: cannot be written (disk full or read-only); set SEGCLI_CACHE to another folder"
            )
        write_json(index_file, index)
    images = [PackedImage(i, f, (o, n), bool(a)) for i, f, o, n, a in index["images"]]
    facts = (index["categories"], frozenset(index["used"]), index["unmasked"], index["zero"], index["repeated"])
    return Pack(file, data_file, images, *facts)


def read_piece(data: Path, offset: int, length: int) -> tuple[tuple[int, int] | None, list[dict[str, Any]]]:
    """((height, width) as the file states it, annotations) of one image."""
    try:
        with data.open("rb") as stream:
            stream.seek(offset)
            size, *annotations = json.loads(stream.read(length))
            return size and (size[0], size[1]), annotations
    except (OSError, ValueError) as error:
        raise InputError(f"{data}: packed annotations cannot be read ({error}); start again to rebuild them") from error


def _build(file: Path, piece: Callable[[dict[str, Any]], dict[str, Any] | None]) -> tuple[dict[str, Any], bytes]:
    try:
        raw = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(f"{file}: not valid JSON ({error}); export the annotations again") from error
    try:
        images = {str(row["id"]): (str(row["file_name"]), _size(row)) for row in raw["images"]}
        categories = {int(row["id"]): dict(row, name=str(row["name"])) for row in raw["categories"]}
        annotations = raw["annotations"]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file}: not COCO annotations, {error!r} is missing or malformed") from error
    if len(images) != len(raw["images"]):
        raise UsageError(f"{file}: two images share an id ({len(raw['images'])} images, {len(images)} ids)")
    if len(categories) != len(raw["categories"]):
        raise UsageError(f"{file}: two categories share an id; ids must be unique")
    pieces: dict[str, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    used: set[int] = set()
    unmasked = 0
    for number, annotation in enumerate(annotations):
        image_id = str(annotation.get("image_id"))
        if image_id not in pieces:
            raise UsageError(f"{file}: annotation {annotation.get('id', number)} is of image {image_id}, not listed")
        try:
            kept = piece(annotation)
        except (KeyError, TypeError, ValueError) as error:
            where = annotation.get("id", number)
            raise UsageError(f"{file}: annotation {where} of image {image_id} is malformed ({error!r})") from error
        if kept is None:
            unmasked += 1
        else:
            pieces[image_id].append(kept)
            used |= _categories_of(kept)
    unknown = used - set(categories)
    if unknown:
        raise out_of_range(file, sorted(unknown), sorted(categories), ())
    counts = Counter(annotation["id"] for annotation in annotations if annotation.get("id") is not None)
    repeated = [name for name, count in counts.items() if count > 1]
    index, data = _joined(images, pieces, list(categories.values()), used, unmasked)
    return index | {"repeated": repeated}, data


def facts_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of its mask, as far as it is made of numbers: "area" and "bbox" (x, y, w, h)."""
    area, box = row.get("area"), row.get("bbox")
    facts: dict[str, Any] = {}
    if isinstance(area, int | float) and math.isfinite(area):
        facts["area"] = area
    if isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) and math.isfinite(v) for v in box):
        facts["bbox"] = box
    return facts


def stated(name: str, row: dict[str, Any]) -> Stated:
    """What `facts_of` kept, read back."""
    box = row.get("bbox")
    return Stated(name, row.get("area"), box and (box[0], box[1], box[2], box[3]))


def _size(row: dict[str, Any]) -> list[int] | None:
    height, width = row.get("height"), row.get("width")
    return [int(height), int(width)] if height and width else None


def _categories_of(kept: dict[str, Any]) -> set[int]:
    return {row["category_id"] for row in kept.get("segments", [kept])}


def _joined(
    images: dict[str, tuple[str, list[int] | None]],
    pieces: dict[str, list[dict[str, Any]]],
    categories: list[dict[str, Any]],
    used: set[int],
    unmasked: int,
) -> tuple[dict[str, Any], bytes]:
    chunks: list[bytes] = []
    rows: list[tuple[str, str, int, int, int]] = []
    offset = 0
    for image_id, (file_name, size) in images.items():
        chunk = json.dumps([size, *pieces[image_id]], separators=(",", ":")).encode()
        rows.append((image_id, file_name, offset, len(chunk), int(bool(pieces[image_id]))))
        chunks.append(chunk)
        offset += len(chunk)
    zero = next((row["category_id"] for piece in pieces.values() for row in piece if row.get("id") == 0), None)
    index = {"images": rows, "categories": categories, "used": sorted(used), "unmasked": unmasked, "zero": zero}
    return index, b"".join(chunks)
