"""GeoJSON: one FeatureCollection an image, in pixels, as QuPath and other programs for large pictures read it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from segcli.data.converting.writing import Encoded, Item, Kind, Outlined, Writer, outlined, things_of
from segcli.types import LabelSet


class GeojsonWriter(Writer):
    """images/ and geojson/x.geojson. Holes and parts are kept: polygons with rings, and multi-polygons."""

    IS_FOR_EDITING = True
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._labels = labels if kind == "outlines" else things_of(labels)
        self._colors = {label.name: list(label.color) for label in self._labels if label.color}
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"{split}/images/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded()
        features = [self._feature(found, item) for found in outlined(item, self._labels, self.tolerance, done)]
        place = f"geojson/{item.stem}.geojson"
        text = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
        done.files[place if item.split == "all" else f"{item.split}/{place}"] = text.encode("utf-8", "backslashreplace")
        return done

    def _feature(self, found: Outlined, item: Item) -> dict[str, Any]:
        polygons = [[_ring(outline), *map(_ring, holes)] for outline, holes in found.parts]
        one = len(polygons) == 1
        classification: dict[str, Any] = {"name": found.name}
        if found.name in self._colors:
            classification["color"] = self._colors[found.name]
        properties: dict[str, Any] = {"objectType": "annotation", "classification": classification}
        if found.score is not None:
            properties |= {"score": found.score, "measurements": {"score": found.score}}
        return {
            "type": "Feature",
            "id": f"{item.image_id}-{found.number}",
            "geometry": {"type": "Polygon" if one else "MultiPolygon", "coordinates": polygons[0] if one else polygons},
            "properties": properties,
        }


def _ring(loop: np.ndarray) -> list[list[float]]:
    """A ring ends where it begins."""
    points: list[list[float]] = loop.round(3).tolist()
    return [*points, points[0]]
