"""labelme: one JSON an image, with named polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import os
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from segcli.codecs.image import open_header
from segcli.codecs.rle import RLE, encode
from segcli.data.cache import signature
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in, folders_below, named, split_folders, split_of
from segcli.data.numbers import counted, file_name, points_of, shown, side
from segcli.data.records import Fault, Found, Record
from segcli.data.settings import Settings
from segcli.data.truth import LeftOut, Polygons, ShapeTruth
from segcli.errors import InputError, UsageError
from segcli.files.image_names import IMAGE_SUFFIXES, in_one_line
from segcli.files.image_places import ImagePlaces, leaves, led_out, with_slashes
from segcli.files.image_ref import FileRef, ImageRef, checked
from segcli.files.json_file import parse_json
from segcli.files.json_stream import damage
from segcli.files.text import read_plain
from segcli.types import Label

FORMAT = "labelme"
SOUGHT = "labelme JSON"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ("images",)
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_SKIPPED = {"__ignore__", "_background_"}
_LOOKED_AT = 40  # JSON files of a folder until one is labelme's
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 64, endpoint=False)),
                    np.sin(np.linspace(0, 2 * np.pi, 64, endpoint=False))], axis=1)  # fmt: skip
_WITHOUT_AREA = ("point", "points", "line", "linestrip", "cuboid")  # anything else that has corners is an outline
_KEYS = ("imagePath", "imageHeight", "imageData")  # beside "shapes"


def _folders(root: Path, everywhere: bool) -> list[tuple[str, Path]]:
    """(split or "all", a folder of JSON files)."""
    splits = {
        split: named(folder, ("annotations", "labels")) or folder for split, folder in split_folders(root).items()
    }
    candidates = {**splits, "all": named(root, ("annotations", "labels", "json")) or root}
    found = [(split, folder) for split, folder in candidates.items() if _annotations(folder, 1)]
    if not found and _annotations(root, 1):
        found = [("all", root)]
    if not found and everywhere:
        folders = [folder for folder in folders_below(root, 3) if _annotations(folder, 1)]
        parts = [reversed(folder.relative_to(root).parts) for folder in folders]
        splits_of = [next(filter(None, map(split_of, names)), None) or "all" for names in parts]
        found = list(zip(splits_of, folders, strict=True))
    return found


def _annotations(folder: Path, most: int | None = None) -> list[Path]:
    """labelme's files among the JSON files of a folder, damaged ones included; strangers, such as settings, are passed
    over.

    most: so many are enough; then up to 40 files are looked into.
    """
    found: list[Path] = []
    for number, file in enumerate(files_in(folder, frozenset({".json"}))):
        if most is not None and (len(found) == most or number == _LOOKED_AT):
            break
        keys = keys_in(file, ("shapes", *_KEYS))
        is_own = "shapes" in keys and len(keys) > 1
        if is_own or ((keys or (most is None and _beside_image(file))) and damage(file)):
            found.append(file)
    return found


def _beside_image(file: Path) -> bool:
    return any(file.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)


def probe(root: Path, settings: Settings) -> str | None:
    """Where the JSON files are, in a few words; None if there are none."""
    folders = _folders(root, settings.everywhere)
    return ", ".join(f"{len(_annotations(folder))} JSON files in {folder.name}/" for _, folder in folders) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset; its classes are the names in use, numbered from 1 in alphabetical order."""
    splits: dict[str, list[Record]] = {}
    names: set[str] = set()
    without_area: Counter[str] = Counter()
    broken: list[str] = []
    named_paths: list[tuple[str, Path]] = []
    declared = [place.images for place in settings.places.values() if place.images]
    for split, folder in _folders(root, settings.everywhere):
        taken = {record.image_id for record in splits.setdefault(split, [])}
        for file in _annotations(folder):
            try:
                raw = _parsed(file)
            except UsageError as error:
                broken.append(str(error))
                continue
            image = _image(file, raw, root, declared)
            if not isinstance(image, EmbeddedRef):
                named_paths.append((str(raw.get("imagePath")), image.place))
            image_id = f"{folder.name}/{file.stem}" if file.stem in taken else file.stem
            splits[split].append(Record(image_id, image, str(file)))
            for shape in raw["shapes"]:
                kind, name = _kind(shape), _name(shape)
                if kind in _WITHOUT_AREA:
                    without_area[kind] += 1
                elif name is not None:
                    names.add(name)
    names -= _SKIPPED
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(without_area.items()))
    message = f"shapes that enclose no area are left out: {kinds}"
    faults: tuple[Fault, ...] = (Fault("no-mask", message, without_area.total()),) if without_area else ()
    faults += tuple(Fault("unreadable", message) for message in broken)
    if settings.classes:
        labels = [Label(label.id, label.name, isthing=True, color=label.color) for label in settings.classes]
    else:
        labels = [Label(i, name, isthing=True) for i, name in enumerate(sorted(names), start=1)]
    if not labels and broken:
        raise UsageError(broken[0])
    if not labels:
        raise UsageError(f"{root}: the labelme files hold no polygons, rectangles, circles or masks")
    label_set = settings.label_set(labels, root)
    reader = LabelmeReader(tuple((label.name.strip(), label.id) for label in label_set))
    what = f"labelme: {probe(root, settings)}"
    notes = (*_without_json(root, splits), *led_out("imagePath", root, named_paths))
    return Found(FORMAT, what, splits, label_set, ("instance",), reader, notes=notes, faults=faults)


def _without_json(root: Path, splits: dict[str, list[Record]]) -> tuple[str, ...]:
    """What to say of images that lie beside annotated ones and have no JSON file: nobody has drawn there yet."""
    photos = [record.image for records in splits.values() for record in records]
    used = {Path(os.path.normpath(photo.path)) for photo in photos if photo.path}
    folders = {image.parent for image in used if image.is_relative_to(os.path.normpath(root))}
    left = [file for folder in sorted(folders) for file in files_in(folder, IMAGE_SUFFIXES) if file not in used]
    if not left:
        return ()
    images = counted(len(left), "image has", "images have")
    return (f"{images} no JSON file: left out, such as {left[0]}",)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        data = read_plain(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from error
    raw = parse_json(data, str(file), UsageError, "save it again in labelme")
    if not isinstance(raw, dict) or not isinstance(raw.get("shapes"), list):
        raise UsageError(f"{file}: not a labelme file (shapes is missing)")
    return raw


def _name(shape: Any) -> str | None:
    """A shape's label; None if it has none. Blanks around it are slips of the hand, and would make a class of their
    own that looks alike."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return in_one_line(label.strip()) or None if isinstance(label, str) else str(label) if type(label) is int else None


def _kind(shape: Any) -> str:
    """The sort of a shape. A mask is one, whatever it is called (labelme's AI tools call it a polygon)."""
    if not isinstance(shape, dict):
        return "polygon"
    kind = shape.get("shape_type")
    return "mask" if shape.get("mask") else kind.lower() if isinstance(kind, str) and kind else "polygon"


def _image(file: Path, raw: dict[str, Any], root: Path, declared: list[Path]) -> ImageRef:
    """The image a file speaks of: by its path, by its name beside the file or in images/, or within the file; else
    where the dataset has one of this name. Never outside of the dataset and the declared folders of images."""
    try:
        name = with_slashes(file_name(raw.get("imagePath"), "imagePath"))
    except ValueError:
        name = file.stem
    folders = (file.parent, file.parent.parent / "images", file.parent.parent)
    tried = [file.parent / name, *(folder / PurePosixPath(name).name for folder in folders)]
    base = os.path.abspath(root)
    inside = [path for path in tried if os.path.abspath(path).startswith(base + os.sep)]
    there = next((path for path in inside if path.is_file()), None)
    if there is None and raw.get("imageData"):
        return EmbeddedRef(str(file), PurePosixPath(name).name)
    if there is None:
        places = _places(root, signature([file.parent]))
        # As it is called, in another format, or as the JSON file is called: both may have been renamed since.
        tries = (places.fitting(name), *(places.fitting(n, endings=False) for n in (os.path.splitext(name)[0], name)))
        found = next(filter(None, tries), []) or ([] if leaves(name) else _twins(file))
        there = found[0] if len(found) == 1 else None
    for folder in declared if there is None else ():
        if len(found := _places(folder, signature([folder])).fitting(name)) == 1:
            there = found[0]
    return FileRef(str(there or inside[0] if inside else file.parent / PurePosixPath(name).name))


def _twins(file: Path) -> list[Path]:
    """The images beside a JSON file that have its name."""
    return [other for other in files_in(file.parent, IMAGE_SUFFIXES) if other.stem == file.stem]


@lru_cache(maxsize=4)
def _places(root: Path, state: str) -> ImagePlaces:
    """The images below a folder, listed once and not for every file that looks for its own."""
    return ImagePlaces(root)


@dataclass(frozen=True, slots=True)
class EmbeddedRef(ImageRef):
    """The picture that labelme put into its file, in base64."""

    json_file: str
    photo: str  # its name in the file

    @property
    def place(self) -> Path:
        return Path(self.json_file).parent / self.photo

    @property
    def file(self) -> Path:
        return Path(self.json_file)

    def read(self) -> bytes:
        try:
            text = "".join(str(_parsed(self.file)["imageData"]).split())
            text = text.partition("base64,")[2] if text.startswith("data:") else text
            return checked(base64.b64decode(text, validate=True), str(self))
        except (KeyError, ValueError) as error:
            raise InputError(f"{self.file}: imageData is damaged ({error}); save it again in labelme") from error


@dataclass(frozen=True)
class LabelmeReader:
    """Reads one JSON file an image. ids: (name, class id) pairs."""

    ids: tuple[tuple[str, int], ...]

    def files(self, record: Record) -> list[Path]:
        """The JSON file."""
        return [Path(str(record.truth))]

    def read(self, record: Record, size: tuple[int, int]) -> ShapeTruth:
        """The objects; shapes of one name and one group_id are one object."""
        file = Path(str(record.truth))
        raw = _parsed(file)
        stated = (side(raw.get("imageHeight")), side(raw.get("imageWidth")))
        if all(stated) and stated != size:
            raise InputError(
                f"{record.image}: {size[1]}×{size[0]} pixels, but {stated[1]}×{stated[0]} in {file.name}; "
                "annotations must match the image as it is stored"
            )
        ids = dict(self.ids)
        groups: dict[object, tuple[int, list[RLE | Polygons]]] = {}
        left_out: list[LeftOut] = []
        for position, shape in enumerate(raw["shapes"]):
            label = _name(shape)
            if _kind(shape) in _WITHOUT_AREA or label in _SKIPPED:
                continue
            try:
                if label is None:
                    raise ValueError("a shape without a label")
                if label not in ids:
                    raise ValueError(f"label {shown(label)} is not a class of this dataset")
                outline = _shape(shape, size)
            except ValueError as error:
                left_out.append(LeftOut(str(error), f"{file}: shape {position + 1}", ids.get(label or "")))
                continue
            group = shape.get("group_id")
            key = position if group in (None, "") else (label, str(group))
            groups.setdefault(key, (ids[label], []))[1].append(outline)
        labels = np.array([label for label, _ in groups.values()], dtype=np.int64)
        shapes = [_joined(parts, size) for _, parts in groups.values()]
        return ShapeTruth(size, shapes, labels, np.zeros(len(labels), dtype=bool), left_out=tuple(left_out))


def _shape(shape: dict[str, Any], size: tuple[int, int]) -> RLE | Polygons:
    """The outline of a shape. Raises ValueError for one that encloses nothing, or that is malformed."""
    kind = _kind(shape)
    points = np.array(points_of(shape.get("points"), kind), dtype=float).reshape(-1, 2)
    fewest = {"mask": 1, "circle": 2, "rectangle": 2}.get(kind, 3)
    if len(points) < fewest:
        raise ValueError(f"a {kind} of {len(points)} point{'s' * (len(points) != 1)}")
    if kind != "mask" and len(points) > 2 and points.min() >= 0 and points.max() <= 1:
        raise ValueError("coordinates between 0 and 1 are fractions of the image; expected pixels")
    if kind not in ("mask", "circle", "rectangle"):
        return [points]
    if kind == "circle":  # centre and a point on the rim
        return [points[0] + _CIRCLE * np.hypot(*(points[1] - points[0]))]
    if kind == "rectangle":  # two opposite corners, or all four
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return [np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])]
    try:
        return _mask(shape.get("mask"), points, size)
    except Exception as error:  # base64, and whatever Pillow's decoders raise on malformed data
        raise ValueError(f"a mask that cannot be decoded ({str(error)[:80]})") from error


def _mask(text: Any, points: np.ndarray, size: tuple[int, int]) -> RLE:
    """labelme's mask: a PNG in base64 whose top left pixel is at the first point."""
    with open_header(base64.b64decode(text), "its picture", 4 * size[0] * size[1]) as image:
        pixels = np.asarray(image) > 0
    x, y = (round(float(value)) for value in points[0])
    pixels = pixels[max(0, -y) : size[0] - y, max(0, -x) : size[1] - x]
    return encode(pixels, size, (max(0, x), max(0, y)))


def _joined(parts: list[RLE | Polygons], size: tuple[int, int]) -> RLE | Polygons:
    polygons = [part for part in parts if not isinstance(part, RLE)]
    if len(polygons) == len(parts):
        return [polygon for part in polygons for polygon in part]
    if len(parts) == 1:
        return parts[0]
    from segcli.codecs.polygons import fill

    mask = fill([polygon for part in polygons for polygon in part], size)
    for part in parts:
        if isinstance(part, RLE):
            mask |= part.decode()
    return encode(mask)
