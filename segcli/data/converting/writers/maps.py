"""Formats that store one value a pixel: semantic label maps, instance maps and Pascal VOC."""

from __future__ import annotations

import numpy as np

from segcli.codecs.png import encode_png
from segcli.data.converting.writers.base import (
    Encoded,
    Item,
    Kind,
    background_name,
    renumbered,
    things_of,
    values,
    with_ids,
)
from segcli.data.converting.writers.declared import declaration
from segcli.data.objects import painted
from segcli.errors import UsageError
from segcli.types import Label, LabelSet

_SHARED = "pixels of several objects become one's"
_BURIED = "objects hidden by others are left out"
_VOID_8, _VOID_16 = 255, 65_535


def _pair_place(split: str, name: str, folder: str) -> str:
    return f"{folder}/{name}" if split == "all" else f"{split}/{folder}/{name}"


class SemanticWriter:
    """images/ and labels/, a value a class; names, ids and the value of void in dataset.toml."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        notes = [] if kind == "semantic" else ["objects of one class are no longer told apart"]
        ids = {label.id: label.id for label in labels}
        if max(labels.ids) >= _VOID_16 or min(labels.ids) < 0:
            ids = renumbered(labels, 0)
            notes.append(f"class ids do not fit into 16 bits: they become 0–{len(labels) - 1}")
        labels = with_ids(labels, ids)
        if kind == "instance":
            free = next(value for value in range(_VOID_16) if value not in labels.ids)
            labels = LabelSet((Label(free, background_name(labels), isthing=False), *labels))
            notes.append(f"the pixels of no object are a class of their own, {labels[0].name!r} (value {free})")
            self._nothing = free
        self._is_deep = max(labels.ids) >= _VOID_8
        self._void = _VOID_16 if self._is_deep else _VOID_8
        if kind != "instance":
            self._nothing = self._void
        self._labels, self._ids = labels, ids
        self.notes = tuple(notes)

    def image_place(self, split: str, name: str) -> str:
        return _pair_place(split, name, "images")

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        table = np.array([self._ids[label] for label in item.truth.labels.tolist()], dtype=np.int32)
        stored = values(picture.ids, table, self._nothing, self._void)
        stored = stored.astype(np.uint16 if self._is_deep else np.uint8)
        done = Encoded(files={_pair_place(item.split, f"{item.stem}.png", "labels"): encode_png(stored)})
        done.losses["pixels of several classes become one's"] += picture.mixed
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {"dataset.toml": declaration("semantic-png", self._labels, [self._void])}


class InstanceMapWriter:
    """images/ and labels/ of 16 bits, 0 = background, 1 … n = the objects of the only class."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        things = things_of(labels)
        if len(things) != 1:
            raise UsageError(
                f"--to instance-png holds objects of one class, here are {len(things)} ({', '.join(things.names[:5])}"
                f"{', …' if len(things) > 5 else ''}); use coco or coco-panoptic"
            )
        self._label = things[0]
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return _pair_place(split, name, "images")

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        kept = item.truth.labels == self._label.id
        ids, done = _numbered_objects(item, picture.ids, kept, _VOID_16)
        done.losses[_SHARED] += picture.shared
        done.files = {_pair_place(item.split, f"{item.stem}.png", "labels"): encode_png(ids.astype(np.uint16))}
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {"dataset.toml": declaration("instance-png", LabelSet((self._label,)), [_VOID_16])}


def _numbered_objects(item: Item, ids: np.ndarray, kept: np.ndarray, void: int) -> tuple[np.ndarray, Encoded]:
    """Numbers 1 … n for the kept objects that are to be seen; void for crowds, which no single number can stand for."""
    done = Encoded()
    crowd = item.truth.crowd
    seen = np.bincount(ids[ids > 0], minlength=len(kept) + 1)[1:] > 0
    single = kept & ~crowd & seen
    if int(single.sum()) >= void:
        raise UsageError(
            f"{item.name}: {int(single.sum())} objects, and this format has numbers for {void - 1} an image"
        )
    table = np.zeros(len(kept), dtype=np.int32)
    table[single] = np.arange(1, int(single.sum()) + 1)
    table[kept & crowd] = void
    done.losses[_BURIED] += int((kept & ~seen).sum())
    done.losses["crowd regions become pixels of unknown truth"] += int((kept & crowd & seen).sum())
    return values(ids, table, 0, void), done


class VocWriter:
    """JPEGImages, SegmentationClass and (for objects) SegmentationObject as palette PNGs, lists in ImageSets."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        notes: list[str] = []
        self._kind = kind
        ids = {label.id: label.id for label in labels}
        zero_is_stuff = all(not label.isthing for label in labels if label.id == 0)
        fits = min(ids) >= 0 and max(ids) < _VOID_8 and (zero_is_stuff or kind == "semantic")
        if not fits or (kind == "instance" and 0 in ids):
            if len(labels) >= _VOID_8:
                raise UsageError(f"--to voc holds {_VOID_8 - 1} classes, here are {len(labels)}; use coco-panoptic")
            ids = renumbered(labels, 1)
            notes.append(f"class ids become 1–{len(labels)}")
        labels = with_ids(labels, ids)
        self._nothing = _VOID_8
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
        classes = values(picture.ids, table, self._nothing, _VOID_8)
        if self._kind == "semantic":
            return Encoded(files={f"SegmentationClass/{item.stem}.png": _palette_png(classes)})
        things = np.isin(table, list(self._things))
        objects, done = _numbered_objects(item, picture.ids, things, _VOID_8)
        classes[objects == _VOID_8] = _VOID_8
        done.losses[_SHARED] += picture.shared
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
        return lists | {"dataset.toml": declaration("voc", self._labels, [_VOID_8])}


def _palette_png(indices: np.ndarray) -> bytes:
    """VOC's own colours: the bits of an index, spread over the three channels from the highest down."""
    import io

    from PIL import Image

    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image.putpalette(palette.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
