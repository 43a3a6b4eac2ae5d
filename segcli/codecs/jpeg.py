"""JPEG writing for pictures that people look at."""

from __future__ import annotations

import io

import numpy as np

from segcli.codecs.signature import SIGNATURE

LONGEST_SIDE = 65_500  # libjpeg's limit
_QUALITY = 90


def encode_jpeg(image: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3], no side above `LONGEST_SIDE` -> JPEG at quality 90."""
    from PIL import Image

    buffer = io.BytesIO()
    # Full colour resolution: halved, it smears outlines and the text's edges.
    Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY, subsampling=0, comment=SIGNATURE)
    return buffer.getvalue()
