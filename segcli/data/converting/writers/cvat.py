"""CVAT for images 1.1: images/ and one annotations.xml, whose subsets are the splits."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

import numpy as np

from segcli.data.converting.writing import Encoded, Item, Kind, Outlined, Writer, outlined, things_of
from segcli.types import LabelSet


class CvatWriter(Writer):
    """Polygons; masks for objects with holes. Parts of one object are a group."""

    IS_FOR_EDITING = True
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._labels = labels if kind == "outlines" else things_of(labels)
        self.notes: tuple[str, ...] = ()
        self._images: dict[tuple[str, str], str] = {}

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"images/{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded()
        rows = [row for found in outlined(item, self._labels, self.tolerance, done) for row in _rows(found)]
        place = self.image_place(item.split, item.name).removeprefix("images/")
        subset = "" if item.split == "all" else f" subset={quoteattr(item.split)}"
        head = (
            f'<image id="{item.image_id}" name={_quoted(place)}{subset} width="{item.size[1]}" height="{item.size[0]}">'
        )
        self._images[item.split, item.name] = "\n".join([f"  {head}", *rows, "  </image>"])
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        labels = [
            f"<label><name>{escape(label.name)}</name><type>any</type><attributes></attributes></label>"
            for label in self._labels
        ]
        head = [
            '<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>",
            "  <meta><task><labels>", *(f"    {label}" for label in labels), "  </labels></task></meta>",
        ]  # fmt: skip
        images = [self._images[split, name] for split, of_split in names.items() for name in of_split]
        return {"annotations.xml": "\n".join([*head, *images, "</annotations>", ""])}


def _rows(found: Outlined) -> list[str]:
    source = "manual" if found.score is None else "auto"
    label = f'label={_quoted(found.name)} source={quoteattr(source)} occluded="0" z_order="0"'
    if any(holes for _, holes in found.parts):
        x, y, mask = found.rle.decode_crop()
        flat = mask.ravel()
        edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
        counts = np.diff(edges).tolist()
        rle = ", ".join(map(str, [0, *counts] if flat[0] else counts))
        box = f'left="{x}" top="{y}" width="{mask.shape[1]}" height="{mask.shape[0]}"'
        return [f'    <mask {label} rle="{rle}" {box}></mask>']
    group = f' group_id="{found.number}"' if len(found.parts) > 1 else ""
    return [
        f'    <polygon {label} points="{";".join(f"{x:.3f},{y:.3f}" for x, y in outline)}"{group}></polygon>'
        for outline, _ in found.parts
    ]


def _quoted(text: str) -> str:
    """An attribute's value, without the signs that XML cannot hold."""
    return quoteattr("".join(sign for sign in text if sign.isprintable()))
