"""Label Studio: images/ and one JSON of tasks; polygons, and brushes where an object has holes or several parts."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from segcli.codecs.brush import encode_brush
from segcli.data.converting.writing import Encoded, Item, Kind, Outlined, Writer, outlined, things_of
from segcli.types import LabelSet


class LabelStudioWriter(Writer):
    """tasks.json, to be imported with the local files of images/; config.xml is the labelling interface. What was
    predicted becomes a prediction, with its score, to be corrected."""

    IS_FOR_EDITING = True
    NEEDS_OBJECTS = True
    HOLDS_OVERLAPS = True

    def __init__(self, labels: LabelSet, kind: Kind) -> None:
        self._labels = labels if kind == "outlines" else things_of(labels)
        self.notes: tuple[str, ...] = ()
        self._tasks: dict[tuple[str, str], dict[str, Any]] = {}

    def image_place(self, split: str, name: str) -> str:
        return f"images/{name}" if split == "all" else f"images/{split}/{name}"

    def encode(self, item: Item) -> Encoded:
        done = Encoded()
        found = list(outlined(item, self._labels, self.tolerance, done))
        results = [_result(one, item) for one in found]
        scores = [one.score for one in found if one.score is not None]
        key, more = ("predictions", {"score": min(scores)}) if scores else ("annotations", {})
        image = "/data/local-files/?d=" + quote(self.image_place(item.split, item.name))
        self._tasks[item.split, item.name] = {
            "id": item.image_id,
            "data": {"image": image, "split": item.split},
            key: [{"result": results} | more],
        }
        return done

    def finish(self, names: dict[str, list[str]]) -> dict[str, str]:
        tasks = [self._tasks[split, name] for split, of_split in names.items() for name in of_split]
        labels = "".join(f"<Label value={quoteattr(label.name)}/>" for label in self._labels)
        kinds = "".join(
            f'<{kind} name="{name}" toName="image">{labels}</{kind}>'
            for kind, name in (("PolygonLabels", "polygon"), ("BrushLabels", "brush"))
        )
        config = f'<View><Image name="image" value="$image" zoom="true"/>{kinds}</View>\n'
        return {"tasks.json": json.dumps(tasks, ensure_ascii=False, separators=(",", ":")), "config.xml": config}


def _result(found: Outlined, item: Item) -> dict[str, Any]:
    height, width = item.size
    if found.is_simple:
        points = (found.parts[0][0] * (100 / width, 100 / height)).round(6).tolist()
        value: dict[str, Any] = {"points": points, "closed": True, "polygonlabels": [found.name]}
        kind, name = "polygonlabels", "polygon"
    else:
        value = {"format": "rle", "rle": encode_brush(found.rle.decode()), "brushlabels": [found.name]}
        kind, name = "brushlabels", "brush"
    return {
        "id": f"{item.image_id}-{found.number}",
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    } | ({} if found.score is None else {"score": found.score})
