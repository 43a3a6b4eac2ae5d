"""Images that are alike when they are tiny need not be the same."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from PIL import Image

from segcli.data.checking.near import near_pairs
from segcli.data.glance import glance
from segcli.files.image_ref import FileRef


def test_pairs_are_the_same_in_detail_too(tmp_path: Path) -> None:
    """One sunset, two crowds below it: the same at 16 × 16 pixels, not at 64 × 64."""
    rng = np.random.default_rng(0)
    sunset = np.broadcast_to(np.linspace(0, 200, 128)[:, None], (128, 128))
    scenes = [sunset + 50 * np.kron(rng.integers(0, 2, (64, 64)), np.ones((2, 2))) for _ in range(2)]
    scenes.append(scenes[0] * 0.8 + 20)  # the first, darker
    entries = []
    for number, scene in enumerate(scenes):
        file = tmp_path / f"{number}.png"
        image = FileRef(str(file))
        Image.fromarray(np.repeat(scene.round().astype(np.uint8)[..., None], 3, axis=2)).save(file)
        entries.append((image, base64.b64encode(glance(image).thumb.tobytes()).decode()))
    assert list(near_pairs(entries[:1], entries[1:])) == [(0, 1)]
