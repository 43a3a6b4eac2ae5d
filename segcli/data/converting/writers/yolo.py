"""YOLO segmentation: one polygon an object, in fractions of the image."""

from __future__ import annotations

import json

import numpy as np

from segcli.codecs.outlines import one_outline
from segcli.codecs.rle import RLE
from segcli.data.converting.declared import declaration
from segcli.data.converting.writing import Encoded, Item, Kind, Writer, renumbered, things_of, with_ids
from segcli.data.objects import rasterised, rles_of, unknown_pixels
from segcli.data.settings import FILE_NAME
from segcli.data.truth import ShapeTruth, Truth
from segcli.types import LabelSet

_DIGITS = 8  # a hundred-millionth of the image's side: exact pixels in images of any size there is


class YoloWriter(Writer):
    """data.yaml, images/<split> and labels/<split>."""

    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._declared = kind == "outlines"
        self._labels = labels if self._declared else things_of(labels)
        self._ids = renumbered(self._labels, 0)
        is_new = any(old != new for old, new in self._ids.items())
        last = len(self._labels) - 1
        self.notes: tuple[str, ...] = (f"class ids become {f'0–{last}' if last else '0'}",) if is_new else ()

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"images/{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded()
        truth = item.truth
        lines = []
        for index, rle in enumerate(rles_of(truth)):
            label = self._ids.get(int(truth.labels[index]))
            if label is None:
                done.losses["regions of stuff classes are left out"] += 1
                continue
            if truth.crowd[index]:
                done.losses["crowd regions are left out"] += 1
                continue
            if not rle.area:
                done.losses["objects without a pixel are left out"] += 1
                continue
            numbers, seams = _polygon(truth, index, rle)
            done.changes["objects of several parts or with holes are one polygon with seams of no width"] += seams > 0
            lines.append(f"{label} {numbers}\n")
        done.losses["pixels of unknown truth become background"] += unknown_pixels(truth)
        place = f"labels/{item.stem}.txt" if item.split == "all" else f"labels/{item.split}/{item.stem}.txt"
        done.files[place] = "".join(lines).encode()
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        folders = {split: "images" if split == "all" else f"images/{split}" for split in names}
        train = folders.get("all") or folders.get("train")
        places = {"train": train, "val": folders.get("val", train), "test": folders.get("test")}
        lines = ["path: .", *(f"{split}: {folder}" for split, folder in places.items() if folder), "names:"]
        lines += [
            f"  {number}: {json.dumps(label.name, ensure_ascii=False)}" for number, label in enumerate(self._labels)
        ]
        files = {"data.yaml": "\n".join(lines) + "\n"}
        if self._declared:
            files[FILE_NAME] = declaration("yolo-seg", with_ids(self._labels, self._ids), None)
        return files


def _polygon(truth: Truth, index: int, rle: RLE) -> tuple[str, int]:
    """(coordinates, seams): the object's own polygon where it says the same pixels, else the outline of its mask."""
    height, width = truth.size
    shape = truth.shapes[index] if isinstance(truth, ShapeTruth) else rle
    if not isinstance(shape, RLE) and len(shape) == 1:
        text, points = _written(shape[0], truth.size)
        inside = points.min() >= 0 and (points <= (width, height)).all()
        if inside and np.array_equal(rasterised([points], truth.size).counts, rle.counts):
            return text, 0
    x, y, mask = rle.decode_crop()
    outline, seams = one_outline(mask)
    return _written(outline + np.array([x, y]), truth.size)[0], seams


def _written(points: np.ndarray, size: tuple[int, int]) -> tuple[str, np.ndarray]:
    """(the text of a polygon, the polygon as it will be read)."""
    scale = np.array([size[1], size[0]], dtype=np.float64)
    words = [f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") for value in (points / scale).ravel()]
    return " ".join(words), np.array([float(word) for word in words]).reshape(-1, 2) * scale
