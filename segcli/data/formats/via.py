"""VGG Image Annotator: regions of all images in one JSON file (its project, or its export) or CSV file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcli.data.coco.made import Drawn, drawn_pack, found_of
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in, folders_below, split_folders, split_of
from segcli.data.numbers import file_name, finite, shown
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import UsageError
from segcli.files.image_places import with_slashes
from segcli.files.json_file import read_json
from segcli.files.text import table_rows

FORMAT = "via"
SOUGHT = "VGG Image Annotator (JSON or CSV)"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_CLASS = ("class", "label", "name", "type", "category", "object")  # what its attribute is called, the likeliest first
_ROUND = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_LOOKED_AT = 20


def _files(root: Path, everywhere: bool) -> list[Path]:
    folders = folders_below(root, 3) if everywhere else [root, root / "annotations", *split_folders(root).values()]
    return [file for folder in folders for file in files_in(folder, frozenset({".json", ".csv"}))[:_LOOKED_AT]
            if _is_own(file)]  # fmt: skip


def _is_own(file: Path) -> bool:
    if file.suffix.lower() == ".csv":
        with file.open("rb") as stream:
            return b"region_shape_attributes" in stream.read(500)
    return keys_in(file, ("filename", "regions", "region_attributes")) == {"filename", "regions", "region_attributes"}


def probe(root: Path, settings: Settings) -> str | None:
    """The files' names; None if there are none."""
    files = _files(root, settings.everywhere)
    return ", ".join(f"{file.parent.name}/{file.name}" if file.parent != root else file.name for file in files) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for a broken file, and where no image can be found."""
    files = _files(root, settings.everywhere)
    packs = [drawn_pack(file, FORMAT, _parsed) for file in files]
    places = [[file.stem, *reversed(file.parent.relative_to(root).parts)] for file in files]
    splits = [next(filter(None, map(split_of, names)), None) or "all" for names in places]
    what = f"VGG Image Annotator: {probe(root, settings)}"
    return found_of(root, settings, FORMAT, what, packs, lambda number, image: splits[number])


def _parsed(file: Path) -> Drawn:
    images = list(_of_csv(file) if file.suffix.lower() == ".csv" else _of_json(file))
    attribute = _attribute(regions for _, regions in images)
    drawn = Drawn()
    for number, (name, regions) in enumerate(images, start=1):
        drawn.images.append({"id": number, "file_name": name, "height": None, "width": None})
        for region in regions:
            label = "object"
            try:
                label = _class(region, attribute)
                drawn.add(number, label, **_fields(region["shape_attributes"]))
            except (ValueError, KeyError, TypeError) as error:
                drawn.add(number, label, unusable=f"a region that cannot be read ({str(error)[:80]})")
    return drawn


def _of_json(file: Path) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """(name of an image, its regions); the regions of older versions are an object by their numbers."""
    raw = read_json(file, UsageError, "export it again")
    table = raw.get("_via_img_metadata", raw) if isinstance(raw, dict) else {}
    for row in table.values():
        if isinstance(row, dict) and "filename" in row:
            regions = row.get("regions") or []
            regions = list(regions.values()) if isinstance(regions, dict) else regions
            yield _name(row["filename"]), [r for r in regions if isinstance(r, dict)]


def _of_csv(file: Path) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """The same of a table with a region on each row."""
    images: dict[str, list[dict[str, Any]]] = {}
    for row in table_rows(file):
        name = row.get("filename") or row.get("#filename")
        if not name:
            continue
        regions = images.setdefault(name, [])
        shape, given = (_json(row.get(key)) for key in ("region_shape_attributes", "region_attributes"))
        if shape:  # an image without regions has a row, too
            regions.append({"shape_attributes": shape, "region_attributes": given})
    for name, regions in images.items():
        yield _name(name), regions


def _json(text: str | None) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"broken": text}


def _name(value: object) -> str | None:
    try:
        return with_slashes(file_name(value, "filename"))
    except ValueError:
        return None


def _attribute(images: Iterable[list[dict[str, Any]]]) -> str | None:
    """The attribute of a region that says its class: by its name, else the one that most regions have."""
    counts = Counter(
        key
        for regions in images
        for region in regions
        if isinstance(region.get("region_attributes"), dict)
        for key, value in region["region_attributes"].items()
        if value not in ("", {}, None)
    )
    named = (key for word in _CLASS for key in counts if key.lower() == word)
    return next(named, None) or next((key for key, _ in counts.most_common(1)), None)


def _class(region: dict[str, Any], attribute: str | None) -> str:
    """A region's class; one of several boxes that were ticked."""
    given = region.get("region_attributes")
    value = given.get(attribute) if isinstance(given, dict) and attribute else None
    if isinstance(value, dict):
        ticked = [name for name, tick in value.items() if tick]
        value = ticked[0] if len(ticked) == 1 else None
    if attribute is None:
        return "object"
    if not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"its {attribute} is {shown(value)}")
    return str(value).strip()


def _fields(shape: dict[str, Any]) -> dict[str, Any]:
    """The outline of a region. Raises ValueError, KeyError or TypeError for one that encloses nothing."""
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        xs, ys = ([finite(v, "a coordinate") for v in shape[f"all_points_{axis}"]] for axis in "xy")
        if kind == "polyline" and (xs[:1], ys[:1]) != (xs[-1:], ys[-1:]):
            raise ValueError("a line that is not closed")
        return {"segmentation": [np.stack([xs, ys], axis=1).ravel().tolist()]}
    if kind == "rect":
        return {"bbox": [finite(shape[key], key) for key in ("x", "y", "width", "height")]}
    if kind not in ("circle", "ellipse"):
        raise ValueError(f"its shape is {shown(kind)}")
    x, y = finite(shape["cx"], "cx"), finite(shape["cy"], "cy")
    across, down = (finite(shape.get(key, shape.get("r")), key) for key in ("rx", "ry"))
    turn = finite(shape.get("theta") or 0, "theta")
    along, aside = across * np.cos(_ROUND), down * np.sin(_ROUND)
    rim = np.stack(
        [x + along * np.cos(turn) - aside * np.sin(turn), y + along * np.sin(turn) + aside * np.cos(turn)], axis=1
    )
    return {"segmentation": [rim.round(3).ravel().tolist()]}
