"""COCO panoptic: one JSON file a split, and a folder of id maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.codecs.rle import encode_map
from segcli.data.converting.writing import Encoded, Item, Kind, Writer, background_name, image_row
from segcli.data.objects import joined, painted
from segcli.data.truth import MapTruth
from segcli.types import Label, LabelSet


class PanopticWriter(Writer):
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
        done = Encoded(image=image_row(item))
        done.losses["pixels shared by several objects go to one of them"] += picture.shared
        done.losses["objects hidden by others are left out"] += len(labels) - len(segments)
        if self._background is not None and self._background not in {row["category_id"] for row in segments}:
            done.losses["objects hidden by others are left out"] -= 1
        file = f"{item.stem}.png"
        done.files[self.table_place(item.split).removesuffix(".json") + f"/{file}"] = encode_panoptic_png(ids)
        done.annotations = [{"image_id": item.image_id, "file_name": file, "segments_info": segments}]
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {}

    def table_place(self, split: str) -> str:
        """Where a split's annotations go."""
        return "annotations/panoptic.json" if split == "all" else f"annotations/panoptic_{split}.json"

    def categories(self) -> list[dict[str, Any]]:
        """The classes."""
        return [
            {"id": label.id, "name": label.name, "supercategory": label.name, "isthing": int(label.isthing)}
            | ({"color": list(label.color)} if label.color else {})
            for label in self._labels
        ]
