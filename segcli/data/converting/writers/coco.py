"""COCO instances: one JSON file a split."""

from __future__ import annotations

from typing import Any

import numpy as np

from segcli.codecs.outlines import joined_loops, parts
from segcli.codecs.rle import RLE
from segcli.data.converting.declared import declaration
from segcli.data.converting.writing import Encoded, Item, Kind, Writer, image_row, things_of
from segcli.data.formats.coco_instance import COORDINATE_DIGITS
from segcli.data.objects import rasterised, rles_of, unknown_pixels
from segcli.data.settings import FILE_NAME
from segcli.data.truth import ShapeTruth, Truth
from segcli.types import LabelSet


class CocoWriter(Writer):
    """instances_<split>.json: polygons stay polygons, every other mask is a run-length mask, exact to the pixel."""

    as_polygons = False  # every mask, as labelling tools want them: `--outlines polygons`
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._declared = kind == "outlines"
        self._labels = labels if self._declared else things_of(labels)
        self._ids = set(self._labels.ids)
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded(image=image_row(item))
        truth = item.truth
        for index, rle in enumerate(rles_of(truth)):
            label = int(truth.labels[index])
            if label not in self._ids:
                done.losses["regions of stuff classes are left out"] += 1
                continue
            area = rle.area
            if not area:
                done.losses["objects without a pixel are left out"] += 1
                continue
            row = {
                "id": truth.stated.annotations[index].get("id") if truth.stated else None,
                "image_id": item.image_id,
                "category_id": label,
                "segmentation": self._outline(truth, index, rle, done),
                "area": area,
                "bbox": list(rle.bbox),
                "iscrowd": int(truth.crowd[index]),
            }
            if isinstance(truth, ShapeTruth) and truth.scores is not None:
                row["score"] = round(float(truth.scores[index]), 4)
            done.annotations.append(row)
        done.losses["pixels of unknown truth become background"] += unknown_pixels(truth)
        return done

    def _outline(self, truth: Truth, index: int, rle: RLE, done: Encoded) -> Any:
        """As it is; or, where polygons are wanted, one for each part, with holes cut in by seams of no width."""
        shape = _segmentation(truth, index, rle)
        if not self.as_polygons or isinstance(shape, list) or truth.crowd[index]:
            return shape
        x, y, mask = rle.decode_crop()
        polygons = []
        for outline, holes in parts(mask, self.tolerance):
            done.changes["holes are cut into polygons by seams of no width"] += len(holes)
            polygons.append(
                (joined_loops([outline, *holes]) + np.array([x, y])).round(COORDINATE_DIGITS).ravel().tolist()
            )
        return polygons

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {FILE_NAME: declaration("coco-instance", self._labels, None)} if self._declared else {}

    def table_place(self, split: str) -> str:
        """Where a split's annotations go."""
        return "annotations/instances.json" if split == "all" else f"annotations/instances_{split}.json"

    def categories(self) -> list[dict[str, Any]]:
        """The classes."""
        return [{"id": label.id, "name": label.name, "supercategory": label.name} for label in self._labels]


def _segmentation(truth: Truth, index: int, rle: RLE) -> Any:
    """The polygons themselves where there are some, unless the places they are rounded to would move a pixel."""
    shape = truth.shapes[index] if isinstance(truth, ShapeTruth) else rle
    if isinstance(shape, RLE) or truth.crowd[index]:
        return rle.to_coco()
    rounded = [np.round(polygon, COORDINATE_DIGITS) for polygon in shape]
    moved = any((new != old).any() for new, old in zip(rounded, shape, strict=True))
    if moved and not np.array_equal(rasterised(rounded, truth.size).counts, rle.counts):
        return rle.to_coco()
    return [polygon.ravel().tolist() for polygon in rounded]
