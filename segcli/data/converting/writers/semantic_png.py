"""Semantic label maps: images/ and labels/, a value a class."""

from __future__ import annotations

import numpy as np

from segcli.codecs.png import encode_png
from segcli.data.converting.declared import declaration
from segcli.data.converting.writing import (
    VOID_8,
    VOID_16,
    Encoded,
    Item,
    Kind,
    Writer,
    background_name,
    pair_place,
    renumbered,
    values,
    with_ids,
)
from segcli.data.objects import painted
from segcli.types import Label, LabelSet


class SemanticWriter(Writer):
    """images/ and labels/, a value a class; names, ids and the value of void in dataset.toml."""

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        notes = [] if kind == "semantic" else ["objects of one class are no longer told apart"]
        ids = {label.id: label.id for label in labels}
        if max(labels.ids) >= VOID_16 or min(labels.ids) < 0:
            ids = renumbered(labels, 0)
            notes.append(f"class ids do not fit into 16 bits: they become 0–{len(labels) - 1}")
        labels = with_ids(labels, ids)
        if kind == "instance":
            free = next(value for value in range(VOID_16) if value not in labels.ids)
            labels = LabelSet((Label(free, background_name(labels), isthing=False), *labels))
            notes.append(f"the pixels of no object are a class of their own, {labels[0].name!r} (value {free})")
            self._nothing = free
        self._is_deep = max(labels.ids) >= VOID_8
        self._void = VOID_16 if self._is_deep else VOID_8
        if kind != "instance":
            self._nothing = self._void
        self._labels, self._ids = labels, ids
        self.notes = tuple(notes)

    def image_place(self, split: str, name: str) -> str:
        return pair_place(split, name, "images")

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        table = np.array([self._ids[label] for label in item.truth.labels.tolist()], dtype=np.int32)
        stored = values(picture.ids, table, self._nothing, self._void)
        stored = stored.astype(np.uint16 if self._is_deep else np.uint8)
        done = Encoded(files={pair_place(item.split, f"{item.stem}.png", "labels"): encode_png(stored)})
        done.losses["pixels shared by several classes go to one of them"] += picture.mixed
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {"dataset.toml": declaration("semantic-png", self._labels, [self._void])}
