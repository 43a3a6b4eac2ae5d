"""Maps of a network laid over the photo: enlarged, lit up, coloured.

A map covers the padded frame, the photo only part of it: `share` = (rows, columns) says how much, each in (0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segcli.codecs.image import resize
from segcli.codecs.opencv import opencv

HEAT = "inferno"  # matplotlib's name of the colours of `heat`
_DIM = 0.4  # of the light that a photo keeps outside of what is shown


@dataclass(frozen=True)
class Backdrop:
    """The photo at a panel's size, once bright and once dimmed to a grey that shapes can be told by."""

    bright: np.ndarray  # float32 [h, w, 3] in 0..255
    dim: np.ndarray

    @classmethod
    def of(cls, photo: np.ndarray, box: tuple[int, int]) -> Backdrop:
        """photo uint8 [H, W, 3], as large as fits into box = (height, width) pixels."""
        size = fitted((photo.shape[0], photo.shape[1]), box)
        bright = resize(photo, size).astype(np.float32)
        grey = bright @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return cls(bright, np.repeat(grey[..., None] * _DIM, 3, axis=2))

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the panel."""
        return (self.bright.shape[0], self.bright.shape[1])


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the same shape as `size`, as large as fits into `box`, at least one pixel."""
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def smooth(values: np.ndarray, share: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The photo's part of a map [h, w], bilinear, at the panel's size -> float32 [size]."""
    scale = [axis * part / length for axis, part, length in zip(values.shape, share, size, strict=True)]
    inverse = np.array([[scale[1], 0, scale[1] / 2 - 0.5], [0, scale[0], scale[0] / 2 - 0.5]])
    cv2 = opencv()
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values = np.ascontiguousarray(values, dtype=np.float32)
    return cv2.warpAffine(values, inverse, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def cells(values: np.ndarray, share: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The photo's part of a map [h, w, ...], each value a rectangle, at the panel's size -> [*size, ...]."""
    rows, columns = (
        np.minimum((np.arange(length) + 0.5) * (axis * part / length), axis - 1).astype(np.int64)
        for axis, part, length in zip(values.shape[:2], share, size, strict=True)
    )
    return values[rows[:, None], columns]


def lit(backdrop: Backdrop, light: np.ndarray, colour: np.ndarray | None = None, tint: float = 0.18) -> np.ndarray:
    """The photo bright where light [h, w] is 1 and dim where it is 0, tinted by a colour -> uint8 [h, w, 3]."""
    bright = backdrop.bright if colour is None else (1 - tint) * backdrop.bright + tint * colour.astype(np.float32)
    mixed = backdrop.dim + light.astype(np.float32)[..., None] * (bright - backdrop.dim)
    return mixed.round().clip(0, 255).astype(np.uint8)


def outline(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, width: int = 2) -> None:
    """Draw the border of a bool mask [h, w] into a picture, in place."""
    cv2 = opencv()
    shapes, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, shapes, -1, tuple(int(c) for c in colour), width, cv2.LINE_AA)


def heat(backdrop: Backdrop, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Values [h, w] in 0..1 as colours where `inside` is true, over the dimmed photo -> uint8 [h, w, 3]."""
    colours = coloured(values, HEAT).astype(np.float32)
    # A little of the photo shows through: a reader wants to know what is looked at.
    mixed = np.where(inside[..., None], 0.8 * colours + 0.2 * backdrop.bright, backdrop.dim)
    return mixed.round().clip(0, 255).astype(np.uint8)


def coloured(values: np.ndarray, map_name: str) -> np.ndarray:
    """Values [h, w] in 0..1 through one of matplotlib's colour maps -> uint8 [h, w, 3]."""
    from matplotlib import colormaps

    return colormaps[map_name](values.clip(0, 1), bytes=True)[..., :3]
