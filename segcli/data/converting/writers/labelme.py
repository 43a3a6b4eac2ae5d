"""labelme: one JSON beside each image; polygons, and masks where an object has holes."""

from __future__ import annotations

import base64
import json
from typing import Any

from segcli.codecs.png import encode_png
from segcli.data.converting.writing import Encoded, Item, Kind, Outlined, Writer, outlined, things_of
from segcli.types import LabelSet


class LabelmeWriter(Writer):
    """<split>/x.jpg and <split>/x.json. Parts of one object share a group_id."""

    IS_FOR_EDITING = True
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._labels = labels if kind == "outlines" else things_of(labels)
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return name if split == "all" else f"{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded()
        shapes = [shape for found in outlined(item, self._labels, self.tolerance, done) for shape in _shapes(found)]
        raw: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": item.name,
            "imageData": None,
            "imageHeight": item.size[0],
            "imageWidth": item.size[1],
        }
        place = self.image_place(item.split, f"{item.stem}.json")
        done.files[place] = json.dumps(raw, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
        return done


def _shapes(found: Outlined) -> list[dict[str, Any]]:
    more: dict[str, Any] = {
        "label": found.name,
        "group_id": found.number if len(found.parts) > 1 else None,
        "description": "" if found.score is None else f"score {found.score:g}",
        "flags": {},
    }
    if any(holes for _, holes in found.parts):  # its polygons have none
        x, y, mask = found.rle.decode_crop()
        height, width = mask.shape
        pixels = base64.b64encode(encode_png(mask)).decode()
        points = [[x, y], [x + width - 1, y + height - 1]]
        return [{**more, "group_id": None, "points": points, "shape_type": "mask", "mask": pixels}]
    return [
        {**more, "points": outline.round(3).tolist(), "shape_type": "polygon", "mask": None}
        for outline, _ in found.parts
    ]
