"""Instance maps: images/ and labels/ of 16 bits, a value an object of the only class."""

from __future__ import annotations

import numpy as np

from segcli.codecs.png import encode_png
from segcli.data.converting.declared import declaration
from segcli.data.converting.writing import (
    SHARED,
    VOID_16,
    Encoded,
    Item,
    Kind,
    Writer,
    numbered_objects,
    pair_place,
    things_of,
)
from segcli.data.objects import painted
from segcli.errors import UsageError
from segcli.types import LabelSet


class InstanceMapWriter(Writer):
    """images/ and labels/ of 16 bits, 0 = background, 1 … n = the objects of the only class."""

    NEEDS_OBJECTS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        things = things_of(labels)
        if len(things) != 1:
            raise UsageError(
                f"--to instance-png holds objects of one class, but here are {len(things)} "
                f"({', '.join(things.names[:5])}{', …' if len(things) > 5 else ''}); use coco or coco-panoptic"
            )
        self._label = things[0]
        self.notes: tuple[str, ...] = ()

    def image_place(self, split: str, name: str) -> str:
        return pair_place(split, name, "images")

    def encode(self, item: Item) -> Encoded:
        picture = painted(item.truth)
        kept = item.truth.labels == self._label.id
        ids, done = numbered_objects(item, picture.ids, kept, VOID_16)
        done.losses[SHARED] += picture.shared
        done.files = {pair_place(item.split, f"{item.stem}.png", "labels"): encode_png(ids.astype(np.uint16))}
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        return {"dataset.toml": declaration("instance-png", LabelSet((self._label,)), [VOID_16])}
