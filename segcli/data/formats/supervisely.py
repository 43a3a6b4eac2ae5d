"""Supervisely: a project's datasets, each with ann/ (one JSON an image) beside img/; bitmaps, polygons, rectangles."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.image import open_header
from segcli.codecs.rle import encode
from segcli.data.coco.made import Drawn, drawn_found, even_odd
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in, folders_below, split_of
from segcli.data.numbers import finite, points_of, shown, side, whole
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import InputError
from segcli.files.image_names import IMAGE_SUFFIXES, is_image_name
from segcli.files.json_file import read_json

FORMAT = "supervisely"
SOUGHT = "Supervisely (ann/ beside img/)"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_LOOKED_AT = 5
_DEPTH = 4  # a project, its datasets, and theirs
_TAGS = {"train", "training", "val", "valid", "validation", "test"}
_MAX_BYTES = 1 << 28  # of a bitmap's PNG, unpacked


def _folders(root: Path) -> list[Path]:
    """The ann/ folders of a project's datasets."""
    return [folder for folder in folders_below(root, _DEPTH) if folder.name == "ann" and _is_own(folder)]


def _is_own(folder: Path) -> bool:
    keys = ("objects", "size")
    return any(keys_in(file, keys) == set(keys) for file in islice(_files(folder), _LOOKED_AT))


def _files(folder: Path) -> list[Path]:
    return files_in(folder, frozenset({".json"}))


def probe(root: Path, settings: Settings) -> str | None:
    """The datasets' names; None if there are none."""
    names = [folder.parent.name for folder in _folders(root)]
    return ", ".join(names[:6]) + (f", … ({len(names)} datasets)" if len(names) > 6 else "") or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. An image is of the split that its dataset's folder is called after, or a tag of its own.

    Raises UsageError where no image can be found.
    """
    folders = _folders(root)
    files = [file for folder in folders for file in _files(folder)]
    what = f"Supervisely: {probe(root, settings)}"
    return drawn_found(root, settings, FORMAT, what, partial(_parsed, folders=folders), files)


def _parsed(root: Path, folders: list[Path]) -> Drawn:
    drawn = Drawn()
    for folder in folders:
        photos = {photo.name: photo for photo in files_in(folder.parent / "img", IMAGE_SUFFIXES)}
        photos |= {photo.stem: photo for photo in photos.values()}
        for file in _files(folder):
            try:
                raw = read_json(file, InputError, "export it again")
                if not isinstance(raw, dict) or not isinstance(raw.get("objects"), list):
                    raise InputError(f"{file}: not an annotation of Supervisely (objects is missing)")
            except InputError as error:
                drawn.lose(file, str(error))
                continue
            photo = photos.get(file.stem) or photos.get(Path(file.stem).stem if is_image_name(file.stem) else "")
            place = (photo or folder.parent / "img" / file.stem).relative_to(root)
            _take_image(raw, place, drawn, file.stat().st_size)
    return drawn


def _take_image(raw: dict[str, Any], place: Path, drawn: Drawn, file_size: int) -> None:
    sizes = raw["size"] if isinstance(raw.get("size"), dict) else {}
    size = (side(sizes.get("height")), side(sizes.get("width")))
    tags = [tag.get("name") for tag in raw.get("tags") or () if isinstance(tag, dict)]
    named = [part for part in reversed(place.parts[:-2]) if split_of(part)]
    named += [tag for tag in tags if isinstance(tag, str) and tag.lower() in _TAGS]
    image = f"{split_of(named[0]) if named else 'all'}|{place.as_posix()}"
    drawn.images.append({"id": image, "file_name": place.as_posix(), "height": size[0], "width": size[1]})
    for figure in raw["objects"]:
        if not isinstance(figure, dict):
            drawn.add(image, "object", unusable=f"an object is {shown(figure)}")
            continue
        name, kind = figure.get("classTitle"), figure.get("geometryType", figure.get("shape"))
        if kind is None:
            kind = next((kind for kind in ("bitmap", "polygon") if figure.get(kind)), "polygon")
        if kind not in _READERS:
            continue  # lines, points, graphs: nothing that has an area
        try:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"its classTitle is {shown(name)}")
            height, width = size
            if height is None or width is None:
                raise ValueError("its image has no stated size")
            drawn.decoding(height * width if kind == "bitmap" else 0, file_size)
            drawn.add(image, name.strip(), **_READERS[kind](figure, (height, width)))
        except (ValueError, KeyError, TypeError) as error:
            label = name.strip() if isinstance(name, str) and name.strip() else "object"
            drawn.add(image, label, unusable=f"a {kind} that cannot be read ({str(error)[:80]})")


def _rings(part: dict[str, Any]) -> list[np.ndarray]:
    """An outline and its holes."""
    rings = [part["exterior"], *(part.get("interior") or ())]
    points = [np.array(points_of(ring, "polygon"), dtype=float).reshape(-1, 2) for ring in rings]
    if len(points[0]) < 3:
        raise ValueError(f"{len(points[0])} points")
    return [ring for ring in points if len(ring) >= 3]


def _polygon(figure: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    return {"segmentation": encode(_filled(_rings(figure["points"]), size), size).to_coco()}


def _multipolygon(figure: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    mask = np.zeros(size, dtype=bool)
    for part in figure["parts"]:
        mask |= _filled(_rings(part), size)
    return {"segmentation": encode(mask, size).to_coco()}


def _filled(rings: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Whole numbers are pixels, and those of the outline belong to the object (those of a hole's outline to the hole),
    as Supervisely draws them; others are continuous, as COCO's."""
    from PIL import Image, ImageDraw

    if any((ring != ring.round()).any() for ring in rings):
        from segcli.codecs.rle import RLE

        return RLE.from_coco(even_odd(rings, size)).decode()
    canvas = Image.new("1", size[::-1])
    draw = ImageDraw.Draw(canvas)
    for number, ring in enumerate(rings):
        draw.polygon([tuple(point) for point in ring.tolist()], fill=int(not number), outline=int(not number))
    return np.asarray(canvas)


def _rectangle(figure: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Two opposite corners, of which the second is the last pixel."""
    (x0, y0), (x1, y1) = points_of(figure["points"]["exterior"], "rectangle")[:2]
    return {"bbox": [min(x0, x1), min(y0, y1), abs(x1 - x0) + 1, abs(y1 - y0) + 1]}


def _bitmap(figure: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """A PNG, packed by zlib, in base64, whose first pixel is at the origin."""
    bitmap = figure["bitmap"]
    x, y = (whole(finite(value, "origin") // 1, "origin") for value in bitmap["origin"])
    packed = base64.b64decode(bitmap["data"], validate=True)
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, _MAX_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError("its picture is too large")
    except zlib.error:
        data = packed  # of exports that leave it out
    try:
        with open_header(data, "its picture", 4 * size[0] * size[1]) as image:
            palette = image.mode == "P"  # what Supervisely writes; a mask in transparency is another tool's
            pixels = np.asarray(image if palette or image.mode in ("1", "L") else image.convert("RGBA"))
    except Exception as error:  # whatever Pillow's decoders raise on malformed data
        raise ValueError(str(error)[:80]) from error
    mask = pixels[..., 3] > 0 if pixels.ndim == 3 else pixels > 0
    mask = mask[max(0, -y) : size[0] - y, max(0, -x) : size[1] - x]
    return {"segmentation": encode(mask, size, (max(0, x), max(0, y))).to_coco()}


_READERS: dict[str, Callable[[dict[str, Any], tuple[int, int]], dict[str, Any]]] = {
    "bitmap": _bitmap,
    "polygon": _polygon,
    "multipolygon": _multipolygon,
    "rectangle": _rectangle,
}
