"""Label Studio's JSON export: tasks with polygons, brushes, rectangles and ellipses, in percent of the picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from segcli.codecs.brush import decode_brush
from segcli.codecs.rle import encode
from segcli.data.coco.made import Drawn, drawn_pack, found_of
from segcli.data.coco.packs import keys_in
from segcli.data.layouts.folders import files_in
from segcli.data.numbers import file_name, finite, points_of, shown, side
from segcli.data.records import Found
from segcli.data.settings import Settings
from segcli.errors import UsageError
from segcli.files.image_places import with_slashes
from segcli.files.json_file import read_json
from segcli.files.text import encoding_of

FORMAT = "label-studio"
SOUGHT = "Label Studio JSON"
WRITTEN_AS = "label-studio"
PLACES: tuple[str, ...] = ()
EXPLAINS: tuple[str, ...] = ("semantic-png", "instance-png")
IS_LABEL_MAPS = False
_KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
_APART = "labels"
_CIRCLE = np.linspace(0, 2 * np.pi, 64, endpoint=False)
_LOOKED_AT = 20


def _files(root: Path) -> list[Path]:
    return [file for file in files_in(root, frozenset({".json"}))[:_LOOKED_AT] if _is_export(file)]


def _is_export(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            head = stream.read(64)
    except OSError:
        return False
    if head.decode(encoding_of(head), "replace").lstrip("\ufeff \t\r\n")[:1] != "[":
        return False
    found = keys_in(file, (*_KINDS, _APART, "original_width", "image", "data"))
    return bool(found & {*_KINDS} or {_APART, "original_width"} <= found) and bool(found & {"image", "data"})


def probe(root: Path, settings: Settings) -> str | None:
    """The JSON files' names; None if there are none."""
    return ", ".join(file.name for file in _files(root)) or None


def load(root: Path, settings: Settings) -> Found:
    """The dataset. Raises UsageError for broken JSON, and where no image can be found."""
    packs = [drawn_pack(file, FORMAT, _parsed) for file in _files(root)]
    what = f"Label Studio: {probe(root, settings)}"
    return found_of(root, settings, FORMAT, what, packs, lambda number, image: "all")


def _parsed(file: Path) -> Drawn:
    tasks = read_json(file, UsageError, "export it again")
    drawn = Drawn()
    size = file.stat().st_size
    for number, task in enumerate(tasks, start=1):
        if isinstance(task, dict):
            _take_task(task, number, drawn, size)
    if not drawn.classes and any(isinstance(task, dict) and task.get("predictions") for task in tasks):
        raise UsageError(f"{file}: holds predictions and no annotations; accept them in Label Studio, and export again")
    return drawn


def _take_task(task: dict[str, Any], number: int, drawn: Drawn, file_size: int) -> None:
    results = _results(task)
    sizes = [(side(r.get("original_height")), side(r.get("original_width"))) for r in results]
    size = next((size for size in sizes if all(size)), (None, None))
    try:
        name = with_slashes(file_name(_image(task), "image"))
    except ValueError:
        name = None
    drawn.images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    for result in results:
        value = result.get("value", result)
        if not isinstance(value, dict):
            continue
        kind, labels = _labelled(value)
        if kind is None:
            continue
        label = labels[0]
        try:
            if not isinstance(label, str) or size[0] is None or size[1] is None:
                raise ValueError(f"label {shown(label)}, image of {shown(size[1])}×{shown(size[0])} pixels")
            if kind == "brushlabels":
                drawn.decoding(size[0] * size[1], file_size)
            drawn.add(number, label, **_fields(kind, value, (size[0], size[1])))
        except (ValueError, KeyError, TypeError) as error:
            drawn.add(number, str(label), unusable=f"{kind} that cannot be read ({str(error)[:80]})")


def _labelled(value: dict[str, Any]) -> tuple[str | None, list[Any]]:
    """(kind of a shape, its labels); None for what has no area, or no label. Where labels are chosen apart from shapes,
    a result of both has the shape once more."""
    kind = next((kind for kind in _KINDS if isinstance(value.get(kind), list) and value[kind]), None)
    if kind is not None or not isinstance(value.get(_APART), list) or not value[_APART]:
        return kind, value[kind] if kind else []
    told = ("points", "rle", "width", "radiusX")
    return next((kind for kind, field in zip(_KINDS, told, strict=True) if field in value), None), value[_APART]


def _image(task: dict[str, Any]) -> Any:
    """The name of a task's picture: under "data", or beside the labels in the short form."""
    data = task["data"] if isinstance(task.get("data"), dict) else task
    if isinstance(data.get("image"), str):
        return data["image"]
    return next((v for v in data.values() if isinstance(v, str) and os.path.splitext(v)[1]), None)


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """What was drawn in a task: by the last annotator who finished it."""
    given = task.get("annotations") or task.get("completions")
    if isinstance(given, list):
        done = [
            a for a in given if isinstance(a, dict) and not a.get("was_cancelled") and isinstance(a.get("result"), list)
        ]
        return [r for r in done[-1]["result"] if isinstance(r, dict)] if done else []
    lists = [v for v in task.values() if isinstance(v, list)]
    return [r for rows in lists for r in rows if isinstance(r, dict) and any(kind in r for kind in _KINDS)]


def _fields(kind: str, value: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The outline of a shape in pixels. Raises ValueError, KeyError or TypeError for what cannot be read."""
    scale = np.array([size[1], size[0]]) / 100
    if kind == "brushlabels":
        return {"segmentation": encode(decode_brush(value["rle"], size)).to_coco()}
    if kind == "polygonlabels":
        points = np.array(points_of(value["points"], "polygon"), dtype=float).reshape(-1, 2)
        return {"segmentation": [(points * scale).round(3).ravel().tolist()]}
    x, y = finite(value["x"], "x"), finite(value["y"], "y")
    turn = np.deg2rad(finite(value.get("rotation") or 0, "rotation"))
    if kind == "ellipselabels":
        corners = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], 1) * (
            finite(value["radiusX"], "x"),
            finite(value["radiusY"], "y"),
        )
    else:
        width, height = finite(value["width"], "width"), finite(value["height"], "height")
        if not turn:
            box = np.array([x, y, width, height]) * np.tile(scale, 2)
            return {"bbox": box.round(3).tolist()}
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    corners = corners * scale
    turned = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return {"segmentation": [(turned + np.array([x, y]) * scale).round(3).ravel().tolist()]}
