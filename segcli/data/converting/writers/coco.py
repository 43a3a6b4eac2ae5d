"""COCO instances and COCO panoptic."""

from __future__ import annotations

from typing import Any

import numpy as np

from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.rle import RLE, encode_map
from segcli.data.converting.writers.base import Encoded, Item, Kind, background_name, things_of
from segcli.data.converting.writers.declared import declaration
from segcli.data.formats.coco.instance import COORDINATE_DIGITS
from segcli.data.objects import joined, painted, rasterised, rles_of, unknown_pixels
from segcli.data.settings import FILE_NAME
from segcli.data.truth import MapTruth, ShapeTruth, Truth
from segcli.types import Label, LabelSet


class CocoWriter:
    """instances_<split>.json: polygons stay polygons, every other mask is a run-length mask, exact to the pixel."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._declared = kind == "outlines"
        self._labels = labels if self._declared else things_of(labels)
        self._ids = set(self._labels.ids)
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded(image=_image_row(item))
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
                "image_id": item.image_id,
                "category_id": label,
                "segmentation": _segmentation(truth, index, rle),
                "area": area,
                "bbox": list(rle.bbox),
                "iscrowd": int(truth.crowd[index]),
            }
            done.annotations.append(row)
        done.losses["pixels of unknown truth become background"] += unknown_pixels(truth)
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {FILE_NAME: declaration("coco-instance", self._labels, None)} if self._declared else {}

    def json_place(self, split: str) -> str:
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


class PanopticWriter:
    """panoptic_<split>.json and a folder of id maps of the same name."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self.notes: tuple[str, ...] = ()
        self._background: int | None = None
        self._stuff = {label.id for label in labels if not label.isthing} if kind == "outlines" else set()
        if kind == "instance":
            label = Label(max(labels.ids) + 1, background_name(labels), isthing=False)
            labels, self._background = LabelSet((*labels, label)), label.id
            self.notes = (f"the pixels of no object are a stuff class of their own, {label.name!r} (id {label.id})",)
        self._labels = labels

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        ids = picture.ids
        truth = item.truth
        if self._stuff:
            truth = joined(MapTruth(ids, truth.labels, truth.crowd), self._stuff)
            ids = truth.ids
        labels, crowd = truth.labels.tolist(), truth.crowd.tolist()
        if self._background is not None:
            labels, crowd = [*labels, self._background], [*crowd, False]
            ids[ids == 0] = len(labels)
        ids = np.maximum(ids, 0)
        segments: list[dict[str, Any]] = []
        for number, rle in enumerate(encode_map(ids, len(labels)), start=1):
            if rle.area:
                row = {"id": number, "category_id": labels[number - 1], "area": rle.area, "bbox": list(rle.bbox)}
                segments.append(row | {"iscrowd": int(crowd[number - 1])})
        done = Encoded(image=_image_row(item))
        done.losses["pixels of several objects become one's"] += picture.shared
        done.losses["objects hidden by others are left out"] += len(labels) - len(segments)
        if self._background is not None and self._background not in {row["category_id"] for row in segments}:
            done.losses["objects hidden by others are left out"] -= 1
        file = f"{item.stem}.png"
        done.files[self.json_place(item.split).removesuffix(".json") + f"/{file}"] = encode_panoptic_png(ids)
        done.annotations = [{"image_id": item.image_id, "file_name": file, "segments_info": segments}]
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {}

    def json_place(self, split: str) -> str:
        """Where a split's annotations go."""
        return "annotations/panoptic.json" if split == "all" else f"annotations/panoptic_{split}.json"

    def categories(self) -> list[dict[str, Any]]:
        """The classes."""
        return [
            {"id": label.id, "name": label.name, "supercategory": label.name, "isthing": int(label.isthing)}
            | ({"color": list(label.color)} if label.color else {})
            for label in self._labels
        ]


def _image_row(item: Item) -> dict[str, Any]:
    return {"id": item.image_id, "file_name": item.name, "height": item.size[0], "width": item.size[1]}
