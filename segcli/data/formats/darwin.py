"""Darwin JSON, as V7 exports it: one file an image, with polygons, boxes, ellipses and masks (versions 1 and 2)."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.rle import encode_map
from segcli.data.coco.made import Drawn, drawn_found, even_odd
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in, folders_below, split_of
from segcli.data.numbers import file_name, finite, points_of, shown, side, whole
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import InputError
from segcli.files.image_places import with_slashes
from segcli.files.json_file import read_json

FORMAT = "darwin"
SOUGHT = "Darwin JSON (V7)"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_LOOKED_AT = 5
_DEPTH = 3  # releases/NAME/annotations
_KEYS = ("annotations", "item", "slots", "image", "original_filename", "images")
_ROUND = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def _folders(root: Path) -> list[Path]:
    """The folders of Darwin files."""
    return [folder for folder in folders_below(root, _DEPTH) if any(map(_is_own, islice(_json(folder), _LOOKED_AT)))]


def _json(folder: Path) -> list[Path]:
    return files_in(folder, frozenset({".json"}))


def _is_own(file: Path) -> bool:
    keys = keys_in(file, _KEYS)
    return "images" not in keys and ({"annotations", "item", "slots"} <= keys or
                                     {"annotations", "image", "original_filename"} <= keys)  # fmt: skip


def probe(root: Path, settings: Settings) -> str | None:
    """Where the JSON files are, in a few words; None if there are none."""
    return ", ".join(f"{len(_json(folder))} JSON files in {folder.name}/" for folder in _folders(root)) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset; the folders that images lie in, there or in V7, say their splits.

    Raises UsageError where no image can be found.
    """
    files = [file for folder in _folders(root) for file in _json(folder)]
    what = f"Darwin: {probe(root, settings)}"
    return drawn_found(root, settings, FORMAT, what, partial(_parsed, files=files), files)


def _parsed(root: Path, files: list[Path]) -> Drawn:
    drawn = Drawn()
    for file in files:
        try:
            raw = read_json(file, InputError, "export it again")
            if not isinstance(raw, dict) or not isinstance(raw.get("annotations"), list):
                raise InputError(f"{file}: not a Darwin file (annotations is missing)")
            name, height, width = _image(raw, file)
        except (InputError, ValueError) as error:
            drawn.lose(file, str(error))
            continue
        folders = [*reversed(Path(name).parts[:-1]), *reversed(file.parent.relative_to(root).parts)]
        split = next(filter(None, map(split_of, folders)), "all")
        image = f"{split}|{file.relative_to(root).as_posix()}"
        drawn.images.append({"id": image, "file_name": name, "height": height, "width": width})
        if height and width:
            _take_objects(raw["annotations"], image, (height, width), drawn, file.stat().st_size)
        else:
            drawn.lose(file, "its image has no stated size")
    return drawn


def _image(raw: dict[str, Any], file: Path) -> tuple[str, int | None, int | None]:
    """(folder and name, height, width) of the image of a file. Raises ValueError for one that names none, and for a
    clip."""
    if "item" not in raw:
        image = raw.get("image")
        if not isinstance(image, dict):
            raise ValueError(f"{file}: its image is {shown(image)}")
        name, folder = image.get("original_filename") or image.get("filename"), image.get("path")
        width, height = image.get("width"), image.get("height")
    else:
        item = raw["item"] if isinstance(raw["item"], dict) else {}
        slots = [slot for slot in item.get("slots") or () if isinstance(slot, dict)]
        if not slots or slots[0].get("frame_count", 1) not in (None, 1) or slots[0].get("type") == "video":
            raise ValueError(f"{file}: not of one image (a clip?)")
        name, folder = item.get("name"), item.get("path")
        width, height = slots[0].get("width"), slots[0].get("height")
    name = with_slashes(file_name(name, "name"))
    folder = folder.strip("/") if isinstance(folder, str) else ""
    return (f"{folder}/{name}" if folder else name), side(height), side(width)


def _take_objects(rows: list[Any], image: str, size: tuple[int, int], drawn: Drawn, file_size: int) -> None:
    masks: dict[str, str] = {}  # id -> class; their pixels are in the layer that comes with them
    for row in rows:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.strip():
            drawn.add(image, "object", unusable=f"an annotation without a name ({shown(row)})")
        elif "mask" in row:
            masks[str(row.get("id"))] = name.strip()
    for row in rows:
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.strip() or "mask" in row:
            continue
        try:
            if isinstance(layer := row.get("raster_layer"), dict):
                drawn.decoding(size[0] * size[1], file_size)
                for number, segmentation in _layer(layer, size).items():
                    drawn.add(image, masks.pop(number), segmentation=segmentation)
            elif (fields := _fields(row, size)) is not None:
                drawn.add(image, name.strip(), **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            label = next(iter(masks.values()), "object") if "raster_layer" in row else name.strip()
            drawn.add(image, label, unusable=f"an annotation that cannot be read ({str(error)[:80]})")
    for name in masks.values():
        drawn.add(image, name, unusable="a mask without pixels in a raster layer")


def _fields(row: dict[str, Any], size: tuple[int, int]) -> dict[str, Any] | None:
    """The outline of an annotation; None for one without an area. Raises ValueError, KeyError, TypeError."""
    for kind in ("polygon", "complex_polygon"):
        if kind in row:
            paths = row[kind].get("paths", row[kind].get("path"))
            paths = paths if isinstance(paths, list) and paths and isinstance(paths[0], list) else [paths]
            rings = [np.array(points_of(path, "polygon"), dtype=float).reshape(-1, 2) for path in paths]
            if min(map(len, rings)) < 3:
                raise ValueError(f"a polygon of {min(map(len, rings))} points")
            if len(rings) == 1:
                return {"segmentation": [rings[0].ravel().tolist()]}
            return {"segmentation": even_odd(rings, size)}
    if "ellipse" in row:
        ellipse = row["ellipse"]
        (x, y), (across, down) = ((finite(ellipse[key][axis], key) for axis in "xy") for key in ("center", "radius"))
        turn = finite(ellipse.get("angle") or 0, "angle")
        along, aside = across * np.cos(_ROUND), down * np.sin(_ROUND)
        xs, ys = along * np.cos(turn) - aside * np.sin(turn), along * np.sin(turn) + aside * np.cos(turn)
        return {"segmentation": [np.stack([x + xs, y + ys], axis=1).round(3).ravel().tolist()]}
    if "bounding_box" in row:
        return {"bbox": [finite(row["bounding_box"][key], key) for key in ("x", "y", "w", "h")]}
    return None


def _layer(layer: dict[str, Any], size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """id of a mask -> its run lengths. The layer's own: value, count, value, count, … along the rows."""
    runs = [whole(number, "dense_rle") for number in layer["dense_rle"]]
    values, counts = runs[::2], runs[1::2]
    if len(values) != len(counts) or min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        raise ValueError(f"run lengths of {size[1]}×{size[0]} pixels have {shown(sum(counts))}")
    numbers = {whole(value, "a mask's number"): name for name, value in layer["mask_annotation_ids_mapping"].items()}
    if unknown := set(values) - {0, *numbers}:
        raise ValueError(f"value {min(unknown)} is no mask's")
    order = {value: place for place, value in enumerate(numbers, start=1)}
    ids = np.repeat(np.array([order.get(value, 0) for value in values], dtype=np.int32), counts).reshape(size)
    return {name: rle.to_coco() for name, rle in zip(numbers.values(), encode_map(ids, len(numbers)), strict=True)}
