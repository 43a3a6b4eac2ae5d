"""One annotation of a COCO file, checked and brought into one form: what tools write in a dozen ways is read as one.

A row that cannot be used raises ValueError with the reason. Nothing here depends on other rows.
"""

from __future__ import annotations

import json
from typing import Any

from segcli.codecs.rle import RLE, plain_counts
from segcli.data.numbers import finite, flag, is_finite, shown, whole
from segcli.errors import InputError

_NUMBERS, _FAR = {int, float}, 1e9
_DEEPEST = 5  # levels of lists around the numbers of a polygon; exporters add one or leave one out


def instance_piece(row: dict[str, Any]) -> dict[str, Any] | None:
    """What a mask is made of; None for an annotation that has none. Raises ValueError for one that cannot be read."""
    if "unusable" in row:  # of a tool whose file was brought into this form
        raise ValueError(str(row["unusable"]))
    shape = outline(row.get("segmentation"))
    category = whole(present(row, "category_id"), "category_id")
    if shape is None:
        return None
    crowd = int(flag(row.get("iscrowd"), "iscrowd"))
    return {"category_id": category, "iscrowd": crowd, "segmentation": shape, "id": row.get("id")} | facts_of(row)


def box_piece(row: dict[str, Any]) -> dict[str, Any] | None:
    """A box as the polygon of its corners; None for an annotation without one."""
    if "unusable" in row:
        raise ValueError(str(row["unusable"]))
    x, y, width, height = facts_of(row).get("bbox") or _four(row.get("segmentation")) or (0, 0, 0, 0)
    if width <= 0 or height <= 0:
        return None
    corners = [float(v) for v in (x, y, x + width, y, x + width, y + height, x, y + height)]
    return instance_piece(row | {"segmentation": [corners]})


def rectangle_piece(row: dict[str, Any]) -> dict[str, Any] | None:
    """As `instance_piece`, but a box that has no outline is one (dataset.toml: boxes = "rectangles")."""
    try:
        return instance_piece(row) or box_piece(row)
    except NoOutline:
        return box_piece(row)


def panoptic_piece(row: dict[str, Any]) -> dict[str, Any]:
    """The segments of one image and the name of its id map. Segments that cannot be read become void ("lost")."""
    segments: list[dict[str, Any]] = []
    lost: list[tuple[str, int | None]] = []  # (reason, its id where that can be read)
    rows = present(row, "segments_info")
    if not isinstance(rows, list):
        raise ValueError(f'"segments_info" is {shown(rows)}; expected a list of segments')
    for part in rows:
        number: int | None = None
        try:
            if not isinstance(part, dict):
                raise ValueError(f"a segment is {shown(part)}; expected an object")
            number = whole(present(part, "id"), "id")
            if not 0 < number < 1 << 24:
                raise ValueError(f'"id" of a segment is {number}; ids are colours, from 1 to 16,777,215')
            category = whole(present(part, "category_id"), "category_id")
            crowd = int(flag(part.get("iscrowd"), "iscrowd"))
            segments.append({"id": number, "category_id": category, "iscrowd": crowd} | facts_of(part))
        except ValueError as error:
            lost.append((str(error), number))
    return {"segments": segments, "lost": lost}


def present(row: dict[str, Any], field: str) -> Any:
    """A field's value. Raises ValueError if the row does not have it."""
    if field not in row:
        raise ValueError(f'"{field}" is missing')
    return row[field]


def outline(value: Any) -> list[list[float]] | dict[str, Any] | None:
    """A segmentation as polygons (x, y, x, y, …) or as a run-length mask; None where there is none.

    Polygons may be pairs, nested deeper or not at all, or JSON inside of a text. Raises ValueError for what is neither.
    """
    if isinstance(value, str) and value.strip()[:1] in ("[", "{") and len(value) < 1 << 24:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'"segmentation" is {shown(value)}, a text that is not JSON') from error
    value = [part for part in value if part not in (None, [])] if isinstance(value, list) else value
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, dict):
        return run_lengths(value)
    if not isinstance(value, list):
        raise ValueError(f'"segmentation" is {shown(value)}; expected polygons or run lengths')
    if all(isinstance(part, dict) and "counts" in part for part in value):
        return _united([run_lengths(part) for part in value])
    nest = value if all(_is_flat(part) for part in value) else _polygons(value, _DEEPEST)
    polygons = [flat for part in nest if len(flat := _checked(part)) >= 6]
    if not polygons:
        if _four(value):
            raise NoOutline("a box (4 numbers) in place of a polygon")
        raise NoOutline("a polygon of fewer than three points")
    if max(map(max, polygons)) <= 1 and min(map(min, polygons)) >= 0:
        raise ValueError("coordinates between 0 and 1 are fractions of the image; expected pixels")
    return polygons


class NoOutline(ValueError):
    """A segmentation of numbers that can enclose nothing: a box's, a line's or a point's."""


def _polygons(value: list[Any], depth: int) -> list[list[Any]]:
    """The lists of coordinates in a nest of lists."""
    if not depth:
        raise ValueError('"segmentation" is nested too deeply for polygons')
    if all(_is_point(part) for part in value) and len(value) >= 2:
        return [[number for part in value for number in _xy(part)]]
    if not any(isinstance(part, list | dict) for part in value):
        return [value]
    if not all(isinstance(part, list) for part in value):
        raise ValueError('"segmentation" mixes numbers and lists')
    return [polygon for part in value if part for polygon in _polygons(part, depth - 1)]


def _is_point(part: Any) -> bool:
    if isinstance(part, dict):
        return {"x", "y"} <= part.keys()
    return isinstance(part, list) and len(part) == 2 and not any(isinstance(number, list | dict) for number in part)


def _xy(part: Any) -> tuple[Any, Any]:
    return (part["x"], part["y"]) if isinstance(part, dict) else (part[0], part[1])


def _is_flat(part: Any) -> bool:
    """Whether a part is a list of numbers as COCO has it: more than a point."""
    return isinstance(part, list) and len(part) > 2 and set(map(type, part)) <= _NUMBERS


def _checked(numbers: list[Any]) -> list[float]:
    if len(numbers) % 2:
        raise ValueError("a polygon has an odd number of coordinates")
    if set(map(type, numbers)) <= _NUMBERS and numbers and min(numbers) >= -_FAR and max(numbers) <= _FAR:
        total = sum(numbers)
        if total == total:  # none of them is NaN
            return list(map(float, numbers))
    return [finite(number, "a coordinate of a polygon") for number in numbers]


def _four(value: Any) -> tuple[float, float, float, float] | None:
    """The box that stands where a polygon should be."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and len(value) == 4 and all(map(is_finite, value)):
        return (value[0], value[1], value[2], value[3])
    return None


def run_lengths(value: dict[str, Any]) -> dict[str, Any]:
    """A run-length mask as {"size": [H, W], "counts": …}. Raises ValueError if it is none that can be decoded."""
    size, counts = value.get("size"), value.get("counts")
    if size is None and counts is None:
        keys = ", ".join(shown(key) for key in list(value)[:3])
        raise ValueError(f'"segmentation" is an object of {keys or "nothing"}; expected polygons or run lengths')
    if not isinstance(size, list) or len(size) != 2:
        raise ValueError(f'"size" of run lengths is {shown(size)}; expected [height, width]')
    height, width = (whole(side, "size") for side in size)
    if height <= 0 or width <= 0 or height * width >= 1 << 31:
        raise ValueError(f"run lengths are of {height}×{width} pixels")
    counts = plain_counts(counts)
    if isinstance(counts, list):
        counts = [whole(count, "counts") for count in counts]
    elif not isinstance(counts, str):
        raise ValueError(f'"counts" of run lengths is {shown(counts)}; expected a text or a list')
    shape = {"size": [height, width], "counts": counts}
    try:
        RLE.from_coco(shape)
    except InputError as error:
        raise ValueError(str(error).partition("; re-export")[0]) from error
    return shape


def _united(shapes: list[dict[str, Any]]) -> dict[str, Any]:
    if len(shapes) == 1:
        return shapes[0]
    from segcli.codecs.rle import encode

    masks = [RLE.from_coco(shape) for shape in shapes]
    if len({mask.size for mask in masks}) > 1:
        raise ValueError("run lengths of one object are of several sizes")
    mask = masks[0].decode()
    for other in masks[1:]:
        mask |= other.decode()
    return encode(mask).to_coco()


def facts_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says of its mask, as far as it is made of numbers: "area" and "bbox" (x, y, w, h)."""
    area, box = row.get("area"), row.get("bbox")
    facts: dict[str, Any] = {}
    if is_finite(area):
        facts["area"] = area
    if isinstance(box, list) and len(box) == 4 and all(map(is_finite, box)):
        facts["bbox"] = box
    return facts
