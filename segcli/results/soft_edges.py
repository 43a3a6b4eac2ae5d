"""Opacity of each pixel of a segment: edges as fine as the logits allow, not in steps of whole pixels.

A logit divided by its slope is about the distance in pixels to where the mask ends. So the edge fades over `_REACH`
pixels to either side of that line, wherever it runs between the pixels. Where a segment ends because another begins,
or no logits are at hand (tiles, semantic results, files), the mask itself is smoothed over as many.
"""

from __future__ import annotations

import numpy as np

from segcli.codecs.opencv import opencv
from segcli.segments import Segments

_REACH = 1.0  # pixels, to either side
_MARGIN = 2  # pixels around a mask's box that its edge may reach
_NEAR = 3.0  # pixels; where the logits end the mask farther away, something else did
_FLAT = 1e-3  # least slope a pixel


def soft_crop(segments: Segments, index: int) -> tuple[int, int, np.ndarray]:
    """(x, y, uint8 [h, w]): the opacity of one segment in the part of the photo that it reaches; [0, 0] if empty."""
    x, y, mask = segments.crop(index)
    if not mask.size or not mask.any():
        return x, y, np.zeros((0, 0), dtype=np.uint8)
    (height, width), (rows, columns) = segments.size, mask.shape
    x0, y0 = max(0, x - _MARGIN), max(0, y - _MARGIN)
    x1, y1 = min(width, x + columns + _MARGIN), min(height, y + rows + _MARGIN)
    whole = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    whole[y - y0 : y - y0 + rows, x - x0 : x - x0 + columns] = mask
    logits = segments.soft.crop(index, (x0, y0, x1, y1)) if segments.soft is not None else None
    return x0, y0, (255 * opacity(whole, logits) + 0.5).astype(np.uint8)


def opacity(mask: np.ndarray, logits: np.ndarray | None) -> np.ndarray:
    """float32 [h, w], 0..1: of a mask (uint8 [h, w], 0 or 1) and its logits there, if they are known."""
    cv2 = opencv()
    kernel = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)
    inner = cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE)
    near = cv2.dilate(mask, kernel) - inner  # where an edge can be; all else is what it is
    blurred = cv2.GaussianBlur(mask.astype(np.float32), (5, 5), _REACH, borderType=cv2.BORDER_REPLICATE)
    soft = ((blurred - 0.5) * 1.5 + 0.5).clip(0, 1)
    if logits is not None and min(logits.shape) > 1:
        slopes = np.gradient(logits)
        distance = logits / np.maximum(np.hypot(*slopes), _FLAT)
        own = (0.5 + distance / (2 * _REACH)).clip(0, 1)
        edge = np.abs(distance) < _NEAR
        edge = cv2.dilate(edge.view(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) | (own > 0) & (own < 1)
        soft = np.where(edge & ((distance > 0) == (mask > 0)) | edge & (np.abs(distance) < 1), own, soft)
    return np.where(near > 0, soft, inner).astype(np.float32)
