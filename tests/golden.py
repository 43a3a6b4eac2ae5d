"""Pictures as they should be, kept small in tests/golden/; `UPDATE_GOLDEN=1 python -m pytest tests` draws them anew."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "golden"
SHRUNK = 3  # times smaller than drawn: letters may differ by a pixel from one version of a font library to another
MEAN, PART = 1.5, 0.01  # difference of 255 on average, and share of pixels that differ by more than 48


def assert_golden(name: str, picture: np.ndarray | bytes, shrunk: int = SHRUNK) -> None:
    """Compare a picture, uint8 [H, W, 3] or the bytes of a file, with tests/golden/NAME.png."""
    pixels = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else Image.fromarray(picture)
    small = pixels.convert("RGB").reduce(shrunk)
    path = FOLDER / f"{name}.png"
    if os.environ.get("UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        small.save(path, optimize=True)
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB")).astype(int)
    drawn = np.asarray(small).astype(int)
    assert drawn.shape == wanted.shape, f"{path}: {wanted.shape}, drawn is {drawn.shape}"
    difference = np.abs(drawn - wanted)
    assert difference.mean() <= MEAN, f"{path}: differs by {difference.mean():.1f} of 255 on average"
    far = (difference.max(axis=2) > 48).mean()
    assert far <= PART, f"{path}: {far:.1%} of the pixels are others"
