"""Annotations of other tools brought into COCO's form, in the cache, so that one pack and one reader serve them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segcli.codecs.image import MAX_PIXELS
from segcli.codecs.polygons import fill
from segcli.codecs.rle import encode
from segcli.data.cache import cache_dir, digest, read_json, signature, write_json
from segcli.data.coco.packing import Piece
from segcli.data.coco.packs import Pack, pack
from segcli.data.coco.rows import box_piece, instance_piece, rectangle_piece
from segcli.data.numbers import counted
from segcli.data.records import Fault, Found, Record
from segcli.data.settings import Settings
from segcli.errors import UsageError
from segcli.files.image_places import ImagePlaces
from segcli.files.image_ref import FileRef
from segcli.types import Label, Task

_VERSION = 1
_FREE_PIXELS, _PIXELS_PER_BYTE = 1_000_000_000, 20_000  # of masks in one file


@dataclass
class Drawn:
    """What a tool's file says, as COCO tables. Classes are numbered from 1 in the order in which they come."""

    images: list[dict[str, Any]] = field(default_factory=list)  # id, file_name, height, width
    annotations: list[dict[str, Any]] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    _pixels: int = 0  # of masks that were decoded

    def decoding(self, pixels: int, size: int) -> None:
        """To be told of every mask before it is decoded. size: bytes of the file.

        Raises ValueError where masks have more pixels than a picture or than runs of this file can mean: a few bytes
        may say "a billion", and say it again and again.
        """
        self._pixels += pixels
        if pixels > MAX_PIXELS or self._pixels > _FREE_PIXELS + size * _PIXELS_PER_BYTE:
            raise ValueError(f"{pixels:,} pixels, more than this file can hold")

    def class_of(self, name: str) -> int:
        """The number of a class, a new one if it is new."""
        return self.classes.setdefault(name, len(self.classes) + 1)

    def add(self, image: int | str, name: str, **fields: Any) -> None:
        """An object of an image. fields: "segmentation", "bbox", or "unusable": why the row cannot be read."""
        row = {"id": len(self.annotations) + 1, "image_id": image, "category_id": self.class_of(name)}
        self.annotations.append(row | fields)

    def lose(self, file: Path, why: str) -> None:
        """A file of one image that cannot be read: the image is left out, and said."""
        self.annotations.append({"id": file.name, "image_id": file.name, "unusable": why})


def even_odd(rings: Sequence[np.ndarray], size: tuple[int, int]) -> dict[str, Any]:
    """The mask of one outline of several rings, float [n, 2] x, y each: what an odd number of them encloses."""
    points = np.concatenate(rings)
    left, top = np.floor(points.min(axis=0)).clip(0, size[::-1]).astype(int).tolist()
    right, bottom = np.ceil(points.max(axis=0)).clip(0, size[::-1]).astype(int).tolist()
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for ring in rings:
        mask ^= fill([ring - (left, top)], mask.shape)
    return encode(mask, size, (left, top)).to_coco()


def drawn_pack(source: Path, format: str, parse: Callable[[Path], Drawn], files: Sequence[Path] = ()) -> Pack:
    """The pack of a tool's file, parsed once until the file changes. Raises UsageError as `parse` and `pack`.

    files: what is read, where `source` is a folder.
    """
    files = files or [source]
    made = cache_dir() / f"{format}-{digest(_VERSION, source.resolve(), *files, signature(files))}.json"
    if read_json(made) is None:
        drawn = parse(source)
        categories = [{"id": number, "name": name} for name, number in drawn.classes.items()]
        if not categories or not drawn.images:
            raise UsageError(f"{source}: holds no objects of any class; draw some, or export the annotations again")
        write_json(made, {"images": drawn.images, "categories": categories, "annotations": drawn.annotations})
    return replace(pack(made, "instance", instance_piece), source=source, drawn=made)


def drawn_found(
    root: Path, settings: Settings, format: str, what: str, parse: Callable[[Path], Drawn], files: Sequence[Path]
) -> Found:
    """The dataset of a tool that writes many files, drawn as one pack; ids of its images begin with `split|`.

    Raises UsageError as `drawn_pack` and `found_of`.
    """
    packed = drawn_pack(root, format, parse, files)
    return found_of(root, settings, format, what, [packed], lambda number, image: image.partition("|")[0])


def found_of(
    root: Path,
    settings: Settings,
    format: str,
    what: str,
    packs: Iterable[Pack],
    split_of_image: Callable[[int, str], str],
) -> Found:
    """The dataset of some packs, whose images are looked up by their names below the root. The same class has one
    number in all files: they are renumbered by their names. Where all that was drawn are boxes, they serve detection.
    """
    from segcli.data.formats.coco_instance import InstanceReader

    packs = list(packs)
    if settings.boxes:
        packs = [_packed_as(packed, "rectangles", rectangle_piece) for packed in packs]
    boxes = any(packed.unmasked for packed in packs) and not any(packed.used for packed in packs)
    if boxes:
        packs = [_packed_as(packed, "detect", box_piece) for packed in packs]
    places = ImagePlaces(root)
    names = sorted({row["name"] for packed in packs for row in packed.categories})
    numbers = {name: number for number, name in enumerate(names, start=1)}
    if settings.classes:
        numbers = {label.name: label.id for label in settings.classes}
    splits: dict[str, list[Record]] = {}
    faults: list[Fault] = []
    missing: list[str] = []
    for number, packed in enumerate(packs):
        faults += packed.faults()
        unmasked = sum(packed.unmasked.values())
        if unmasked:
            have = counted(unmasked, "annotation has", "annotations have")
            message = f"{packed.source.name}: {have} no {'box' if boxes else 'outline'}: left out"
            faults.append(Fault("no-mask", message, unmasked))
        for image in packed.images:
            found = places.fitting(image.file_name) or places.fitting(_without_prefix(image.file_name))
            if len(found) != 1:
                missing.append(image.file_name)
            file = found[0] if found else root / PurePosixPath(image.file_name).name
            image_id = f"{number}-{image.image_id}" if len(packs) > 1 else image.image_id
            record = Record(image_id, FileRef(str(file)), (number, *image.place), file.name)
            splits.setdefault(split_of_image(number, image.image_id), []).append(record)
    if missing and len(missing) == sum(map(len, splits.values())):
        raise UsageError(
            f"{packs[0].source}: names images such as {missing[0]}, which are not below {root}; put them there"
        )
    labels = settings.label_set([Label(i, name, isthing=True) for name, i in numbers.items()], packs[0].source)
    renamed = tuple(
        tuple((row["id"], numbers[row["name"]]) for row in packed.categories if row["name"] in numbers)
        for packed in packs
    )
    reader = InstanceReader(
        tuple(packed.data for packed in packs), tuple(str(packed.source) for packed in packs),
        tuple(packed.zero for packed in packs), boxes, renamed,
    )  # fmt: skip
    rows: dict[int | None, tuple[int, int]] = {}
    for packed, table in zip(packs, map(dict, renamed), strict=True):
        for category, (bad, all_) in packed.rows.items():
            label = table.get(category) if category is not None else None
            before = rows.get(label, (0, 0))
            rows[label] = (before[0] + bad, before[1] + all_)
    tasks: tuple[Task, ...] = ("detect",) if boxes else ("instance",)
    return Found(format, what, splits, labels, tasks, reader, faults=tuple(faults), rows=rows)


def _packed_as(packed: Pack, kind: str, piece: Piece) -> Pack:
    """What a tool's file was brought into, packed otherwise."""
    if packed.drawn is None:
        return packed
    return replace(pack(packed.drawn, kind, piece), source=packed.source, drawn=packed.drawn)


def _without_prefix(name: str) -> str:
    """Label Studio puts eight letters and a dash before the names of uploads."""
    folder, _, file = name.rpartition("/")
    head, dash, rest = file.partition("-")
    is_prefix = dash and len(head) == 8 and all(sign in "0123456789abcdef" for sign in head)
    return (f"{folder}/{rest}" if folder else rest) if is_prefix else name
