"""VoTT JSON: polygons and rectangles, in one file of all images (its export) or in one an image (its project)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from segcli.data.coco.made import Drawn, drawn_found
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in, folders_below, split_of
from segcli.data.numbers import file_name, finite, points_of, shown, side
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import InputError, UsageError
from segcli.files.image_places import with_slashes
from segcli.files.json_file import read_json

FORMAT = "vott"
SOUGHT = "VoTT JSON"
WRITTEN_AS = "coco"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ()
IS_LABEL_MAPS = False
_LOOKED_AT = 20
_DEPTH = 2  # vott-json-export/


def _files(root: Path) -> list[Path]:
    """Its exports; the files of a project's images where there is no export."""
    exports, single = [], []
    for folder in folders_below(root, _DEPTH):
        files = files_in(folder, frozenset({".json"}))
        exports += [file for file in files[:_LOOKED_AT] if _has(file, "assets", "regions", "tags")]
        own = [file for file in files if file.name.endswith("-asset.json")]
        single += own if any(_has(file, "asset", "regions") for file in islice(own, _LOOKED_AT)) else []
    return exports or single


def _has(file: Path, *keys: str) -> bool:
    return keys_in(file, keys) == set(keys)


def probe(root: Path, settings: Settings) -> str | None:
    """The export's name, or how many files of images there are; None if there is nothing of it."""
    files = _files(root)
    few = ", ".join(file.name for file in files[:3])
    return few + (f", … ({len(files)} files)" if len(files) > 3 else "") or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for a broken export, and where no image can be found."""
    files = _files(root)
    what = f"VoTT: {probe(root, settings)}"
    return drawn_found(root, settings, FORMAT, what, partial(_parsed, files=files), files)


def _parsed(root: Path, files: list[Path]) -> Drawn:
    drawn = Drawn()
    for file in files:
        try:
            raw = read_json(file, InputError, "export it again")
        except InputError as error:
            if len(files) == 1:
                raise UsageError(str(error)) from error
            drawn.lose(file, str(error))
            continue
        for entry in _entries(raw):
            _take_image(entry, file, root, drawn)
    return drawn


def _entries(raw: Any) -> Iterator[dict[str, Any]]:
    """The {"asset": …, "regions": …} of a file."""
    raw = raw if isinstance(raw, dict) else {}
    assets = raw["assets"] if isinstance(raw.get("assets"), dict) else {"": raw}
    for entry in assets.values():
        if isinstance(entry, dict) and isinstance(entry.get("asset"), dict):
            yield entry


def _take_image(entry: dict[str, Any], file: Path, root: Path, drawn: Drawn) -> None:
    asset = entry["asset"]
    sizes = asset["size"] if isinstance(asset.get("size"), dict) else {}
    try:
        # The path is an address (file:/C:/…, https://…) and may be of another machine; its end says folder and name.
        name = with_slashes(file_name(asset.get("path") or asset.get("name"), "name"))
        name = name.removeprefix("file:").split("?")[0] if name.startswith("file:") else name
    except ValueError as error:
        drawn.lose(file, str(error))
        return
    folders = [*reversed(Path(name).parts[:-1]), *reversed(file.parent.relative_to(root).parts)]
    image = f"{next(filter(None, map(split_of, folders[:1])), 'all')}|{asset.get('id') or name}"
    drawn.images.append(
        {"id": image, "file_name": name, "height": side(sizes.get("height")), "width": side(sizes.get("width"))}
    )
    for region in entry.get("regions") or ():
        tags = region.get("tags") if isinstance(region, dict) else None
        label = tags[0].strip() if isinstance(tags, list) and tags and isinstance(tags[0], str) else ""
        try:
            if not label:
                raise ValueError(f"its tags are {shown(tags)}")
            drawn.add(image, label, **_fields(region))
        except (ValueError, KeyError, TypeError) as error:
            drawn.add(image, label or "object", unusable=f"a region that cannot be read ({str(error)[:80]})")


def _fields(region: dict[str, Any]) -> dict[str, Any]:
    """The outline of a region. Raises ValueError, KeyError or TypeError."""
    if region.get("type") == "RECTANGLE":
        box = region["boundingBox"]
        return {"bbox": [finite(box[key], key) for key in ("left", "top", "width", "height")]}
    points = points_of(region["points"], "polygon")
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    return {"segmentation": [[number for point in points for number in point]]}
