"""Annotated photos for the network that sees colours: what it finds, a little beside the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from segcli.codecs.panoptic_png import encode_panoptic_png
from segcli.types import LabelSet
from tests.fakes import LABELS


def write_scored(root: Path, images: int = 5, labels: LabelSet = LABELS, instances: bool = False) -> Path:
    """COCO panoptic data, a validation split only: red left, green right, dark at the foot; every image another size.

    The truth's border between red and green lies up to ten columns beside the photo's. The dark strip is two segments
    of one stuff class. instances: COCO instances of the same photos too, the red ones alone.
    """
    (root / "images").mkdir(parents=True)
    (root / "panoptic_val").mkdir()
    entries, panoptic, objects = [], [], []
    for number in range(images):
        height, width = 48 + 8 * (number % 2), 64 + 4 * number
        pixels, ids = np.zeros((height, width, 3), dtype=np.uint8), np.zeros((height, width), dtype=np.int32)
        foot, middle = height * 2 // 3, width // 2
        pixels[:foot, :middle, 0] = pixels[:foot, middle:, 1] = 255
        border = middle - 2 * number
        ids[:foot, :border], ids[:foot, border:], ids[foot:, : width // 3], ids[foot:, width // 3 :] = 1, 2, 3, 4
        ids[0, 0] = 0
        name = f"photo {number}"
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        (root / "panoptic_val" / f"{name}.png").write_bytes(encode_panoptic_png(ids))
        entries.append({"id": 10 + number, "file_name": f"{name}.png", "height": height, "width": width})
        segments = [
            {"id": i + 1, "category_id": labels[c].id, "area": int((ids == i + 1).sum()), "iscrowd": 0}
            for i, c in enumerate((0, 1, 2, 2))
        ]
        panoptic.append({"image_id": 10 + number, "file_name": f"{name}.png", "segments_info": segments})
        box = [0, 0, border, foot]
        polygon = [0, 0, border, 0, border, foot, 0, foot]
        facts = {"segmentation": [polygon], "bbox": box, "area": border * foot, "iscrowd": 0}
        objects.append({"id": number + 1, "image_id": 10 + number, "category_id": labels[0].id} | facts)
    classes = [{"id": x.id, "name": x.name, "isthing": int(x.isthing)} for x in labels]
    document = {"images": entries, "annotations": panoptic, "categories": classes}
    (root / "panoptic_val.json").write_text(json.dumps(document), encoding="utf-8")
    if instances:
        document |= {"annotations": objects, "categories": [row for row in classes if row["isthing"]]}
        (root / "instances_val.json").write_text(json.dumps(document), encoding="utf-8")
    return root
