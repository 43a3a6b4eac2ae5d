"""A data set that fits on a page: discs and squares (things) on sky and ground (stuff), as COCO panoptic files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [
    {"id": 1, "name": "disc", "isthing": 1},
    {"id": 7, "name": "square", "isthing": 1},
    {"id": 20, "name": "sky", "isthing": 0},
    {"id": 90, "name": "ground", "isthing": 0},
]
_COLOURS = {1: (210, 60, 50), 7: (240, 210, 60), 20: (110, 160, 230), 90: (70, 110, 60)}


def write_shapes(root: Path, images: int = 16, side: int = 96, seed: int = 0) -> Path:
    """Train and validation split hold the same images: a network that learns at all learns them by heart."""
    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    entries, annotations = [], []
    for split in ("train", "val"):
        (root / f"panoptic_{split}").mkdir()
    for number in range(images):
        ids, categories = _draw(rng, side)
        picture = np.zeros((side, side, 3), dtype=np.float64)
        for segment, category in categories.items():
            picture[ids == segment] = _COLOURS[category]
        picture += rng.normal(0, 12, picture.shape)
        name = f"{number:03d}"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{name}.png")
        coded = np.stack([ids, np.zeros_like(ids), np.zeros_like(ids)], axis=-1).astype(np.uint8)
        for split in ("train", "val"):
            Image.fromarray(coded).save(root / f"panoptic_{split}" / f"{name}.png")
        entries.append({"id": number, "file_name": f"{name}.png", "height": side, "width": side})
        segments = [
            {"id": segment, "category_id": category, "iscrowd": 0, "area": int((ids == segment).sum())}
            for segment, category in categories.items()
        ]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
    for split in ("train", "val"):
        document = {"images": entries, "annotations": annotations, "categories": CATEGORIES}
        (root / f"panoptic_{split}.json").write_text(json.dumps(document), encoding="utf-8")
    return root


def _draw(rng: np.random.Generator, side: int) -> tuple[np.ndarray, dict[int, int]]:
    """-> an id map and the category of each of its ids."""
    y, x = np.mgrid[:side, :side]
    ids = np.where(y < side * rng.uniform(0.4, 0.6), 1, 2)
    categories = {1: 20, 2: 90}
    for segment in (3, 4, 5):
        category = int(rng.choice([1, 7]))
        radius = side * rng.uniform(0.1, 0.16)
        centre_y, centre_x = rng.uniform(radius, side - radius, 2)
        away_y, away_x = np.abs(y - centre_y), np.abs(x - centre_x)
        inside = (away_y**2 + away_x**2 < radius**2) if category == 1 else np.maximum(away_y, away_x) < radius
        ids[inside] = segment
        categories[segment] = category
    present = set(np.unique(ids).tolist())
    return ids, {segment: category for segment, category in categories.items() if segment in present}
