"""Panoptic id maps as PNG: id = R + 256 · G + 65536 · B, as COCO's panopticapi stores them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from segcli.codecs.image import OWN_LIMIT, open_header
from segcli.codecs.png import encode_png
from segcli.errors import InputError
from segcli.files.image_ref import read_file


def ids_to_rgb(ids: np.ndarray) -> np.ndarray:
    """Integer ids [H, W] below 2²⁴ -> uint8 [H, W, 3]."""
    rgb = np.zeros((*ids.shape, 3), dtype=np.uint8)
    rgb[..., 0] = ids & 0xFF
    if ids.dtype.itemsize > 1:
        rgb[..., 1] = (ids >> 8) & 0xFF
    if ids.dtype.itemsize > 2:
        rgb[..., 2] = (ids >> 16) & 0xFF
    return rgb


def rgb_to_ids(rgb: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> int32 ids [H, W]."""
    ids = rgb[..., 0].astype(np.int32)
    ids |= rgb[..., 1].astype(np.int32) << 8
    ids |= rgb[..., 2].astype(np.int32) << 16
    return ids


def encode_panoptic_png(ids: np.ndarray) -> bytes:
    """Integer ids [H, W] below 2²⁴ -> an RGB PNG."""
    return encode_png(ids, ids_to_rgb)


def read_panoptic_png(source: Path | BinaryIO) -> np.ndarray:
    """A panoptic PNG -> int32 ids [H, W].

    Raises:
        InputError: unreadable, or not an 8-bit RGB(A) picture (palette and grey files hold no panoptic ids).
    """
    name = str(source if isinstance(source, Path) else getattr(source, "name", source))
    try:
        data = read_file(source, name) if isinstance(source, Path) else source.read()
        with OWN_LIMIT, open_header(data, name) as image:
            image.load()
            if image.mode not in ("RGB", "RGBA"):
                raise InputError(f"{name}: a panoptic id map is an RGB PNG, this one has mode {image.mode}")
            return rgb_to_ids(np.asarray(image))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: panoptic id map cannot be read ({error})") from error
