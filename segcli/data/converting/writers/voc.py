"""Pascal VOC: palette PNGs of classes and of objects beside JPEGImages."""

from __future__ import annotations

import numpy as np

from segcli.data.converting.declared import declaration
from segcli.data.converting.writing import (
    SHARED,
    VOID_8,
    Encoded,
    Item,
    Kind,
    Writer,
    background_name,
    numbered_objects,
    renumbered,
    things_of,
    values,
    with_ids,
)
from segcli.data.layouts.class_tables import voc_colour
from segcli.data.objects import painted
from segcli.errors import UsageError
from segcli.types import Label, LabelSet


class VocWriter(Writer):
    """JPEGImages, SegmentationClass and (for objects) SegmentationObject as palette PNGs, lists in ImageSets."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        notes: list[str] = []
        self._kind = kind
        ids = {label.id: label.id for label in labels}
        zero_is_stuff = all(not label.isthing for label in labels if label.id == 0)
        fits = min(ids) >= 0 and max(ids) < VOID_8 and (zero_is_stuff or kind == "semantic")
        if not fits or (kind == "instance" and 0 in ids):
            if len(labels) >= VOID_8:
                raise UsageError(f"--to voc holds {VOID_8 - 1} classes, here are {len(labels)}; use coco-panoptic")
            ids = renumbered(labels, 1)
            notes.append(f"class ids become 1–{len(labels)}")
        labels = with_ids(labels, ids)
        self._nothing = VOID_8
        if kind == "instance":
            labels = LabelSet((Label(0, background_name(labels), isthing=False), *labels))
            self._nothing = 0
        self._labels, self._ids = labels, ids
        self._things = set(things_of(labels).ids)
        self.notes = tuple(notes)

    def image_place(self, split: str, name: str) -> str:
        return f"JPEGImages/{name}"

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        table = np.array([self._ids[label] for label in item.truth.labels.tolist()], dtype=np.int32)
        classes = values(picture.ids, table, self._nothing, VOID_8)
        if self._kind == "semantic":
            return Encoded(files={f"SegmentationClass/{item.stem}.png": _palette_png(classes)})
        things = np.isin(table, list(self._things))
        objects, done = numbered_objects(item, picture.ids, things, VOID_8)
        classes[objects == VOID_8] = VOID_8
        done.losses[SHARED] += picture.shared
        done.files = {
            f"SegmentationClass/{item.stem}.png": _palette_png(classes),
            f"SegmentationObject/{item.stem}.png": _palette_png(objects),
        }
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        lists = {
            f"ImageSets/Segmentation/{split}.txt": "".join(f"{name.rpartition('.')[0]}\n" for name in of_split)
            for split, of_split in names.items()
            if split != "all"
        }
        rows = [*((label.name, label.id) for label in self._labels), ("ignored", VOID_8)]
        text = "".join(f"{name}:{','.join(map(str, voc_colour(index)))}::\n" for name, index in rows if ":" not in name)
        return lists | {
            "dataset.toml": declaration("voc", self._labels, [VOID_8]),
            "labelmap.txt": f"# label:color_rgb:parts:actions\n{text}",  # for CVAT and datumaro
        }


def _palette_png(indices: np.ndarray) -> bytes:
    import io

    from PIL import Image

    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette([channel for index in range(256) for channel in voc_colour(index)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
