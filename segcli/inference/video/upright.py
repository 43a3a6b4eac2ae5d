"""A decoded frame as it is meant to be seen."""

from __future__ import annotations

from typing import Any

import numpy as np

_HD = 720  # rows from which a clip that does not name its colours has those of HDTV


def upright(frame: Any, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [H, W, 3]: colours by the matrix the clip names, over white, turned by its rotation flag.

    size: width and height of the clip's first frame, which all get.
    """
    unspecified = int(getattr(frame, "colorspace", 2)) == 2
    matrix = {"src_colorspace": "ITU709" if frame.height >= _HD else "ITU601"} if unspecified else {}
    see_through = any(component.is_alpha for component in frame.format.components)
    image = frame.reformat(width=size[0], height=size[1], format="rgba" if see_through else "rgb24", **matrix)
    pixels = over_white(image.to_ndarray()) if see_through else image.to_ndarray()
    turns = round(float(getattr(frame, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def over_white(rgba: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 4] -> [H, W, 3], as photos are read."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
