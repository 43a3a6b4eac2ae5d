"""Frames of one scene that a division would part are named, with a pattern that keeps them together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from segcli.data.converting.alike import alike_across, grouping
from segcli.data.converting.split import divided
from segcli.data.detect import detect


def test_frames_of_a_scene_are_kept_together(tmp_path: Path) -> None:
    """Six scenes of three frames that differ by noise; by file names alone some scenes are divided."""
    images, rows = [], []
    (tmp_path / "images").mkdir()
    for scene in range(6):
        rng = np.random.default_rng(scene)
        picture = np.kron(rng.integers(0, 255, (12, 12)), np.ones((8, 8)))
        for frame in range(3):
            name = f"scene{scene}_{frame:04}.png"
            noisy = (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(np.repeat(noisy[..., None], 3, axis=2)).save(tmp_path / "images" / name)
            images.append({"id": len(images), "file_name": name})
            rows.append(
                {"id": len(rows), "image_id": len(rows), "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
            )
    raw = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps(raw))
    info = detect(tmp_path, training=False)
    parts = divided(info, {"val": 0.3}).info
    pairs = alike_across(info, parts)
    assert pairs
    assert all(a.name[:6] == b.name[:6] for a, b in pairs)
    pattern = grouping(pairs, info, 2)
    assert pattern is not None
    assert not alike_across(info, divided(info, {"val": 0.3}, pattern).info)
