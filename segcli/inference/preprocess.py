"""A decoded photo -> what the network takes: resized, normalised, padded.

The resized size is the one that the published numbers were measured with: detectron2's (`ResizeShortestEdge`) for the
MaskFormers, DETR's and EoMT's own. Padding comes after the normalisation, so that it is exactly the mean colour; EoMT
was trained with black.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segcli.codecs.image import resize
from segcli.types import Batch, Frame, InferenceSpec, InputSize


@dataclass(frozen=True)
class Prepared:
    """One image ready for a batch. Plain numpy: it is made beside the model, whose threads torch would compete for."""

    pixels: np.ndarray  # float32 [3, H, W], normalised, padded right and bottom
    frame: Frame
    windows: tuple[int, ...] = ()  # where square windows along the long side begin; none: the network sees it whole


def resized_size(original: tuple[int, int], size: InputSize) -> tuple[int, int]:
    """(h, w) with the short side at `size.short`, unless the long side would pass `size.long`; at least 1 pixel.

    The order of the operations is detectron2's: another one rounds 176 × 1376 to a different height.
    """
    height, width = original
    if size.rounding == "down":
        return _rounded_down(height, width, size)
    if size.rounding == "even":
        return _fitted(height, width, size)
    scale = size.short / min(height, width)
    new_height, new_width = (size.short, scale * width) if height < width else (scale * height, size.short)
    if max(new_height, new_width) > size.long:
        cap = size.long / max(new_height, new_width)
        new_height, new_width = new_height * cap, new_width * cap
    return max(1, int(new_height + 0.5)), max(1, int(new_width + 0.5))


def _rounded_down(height: int, width: int, size: InputSize) -> tuple[int, int]:
    """DETR's own: the short side is capped first, and the long one follows from it."""
    least, most = min(height, width), max(height, width)
    short = size.short if most / least * size.short <= size.long else max(1, round(size.long * least / most))
    long = int(short * most / least)
    return (short, long) if height < width else (long, short)


def _fitted(height: int, width: int, size: InputSize) -> tuple[int, int]:
    """EoMT's own: fitted into a square, or with the short side at its side for windows; Python's `round`."""
    side = window_side(size) if size.frame == "windows" else size.short
    factor = (max if size.frame == "windows" else min)(side / height, side / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def window_side(size: InputSize) -> int:
    """The side of square windows, a multiple of the divisor."""
    return padded_size((size.short, size.short), size.divisor)[0]


def window_starts(long: int, side: int) -> tuple[int, ...]:
    """Start positions of the windows of `side` that cover `long` pixels, evenly spread, as in EoMT."""
    count = -(-long // side)
    if count < 2:
        return (0,)
    overlap = (count * side - long) / (count - 1)
    return tuple(int(index * (side - overlap)) for index in range(count))


def framed_size(resized: tuple[int, int], size: InputSize) -> tuple[int, int]:
    """(h, w) of the network's input for an image of this resized size."""
    if size.frame == "windows":
        return resized
    if size.frame == "square":
        resized = (max(size.short, *resized),) * 2
    return padded_size(resized, size.divisor)


def padded_size(resized: tuple[int, int], divisor: int) -> tuple[int, int]:
    """(h, w) rounded up to multiples of `divisor`."""
    height, width = resized
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def prepare(image: np.ndarray, spec: InferenceSpec) -> Prepared:
    """Resize, normalise and pad one image.

    image: uint8 [H, W, 3] RGB.
    """
    original = (image.shape[0], image.shape[1])
    resized = resized_size(original, spec.size)
    frame = Frame(original, resized, framed_size(resized, spec.size))
    pixels = np.zeros((3, *frame.padded), dtype=np.float32)
    small = resize(image, resized)
    for channel in range(3):  # channel by channel: contiguous writes, and no float copy of the whole picture
        mean, std = np.float32(spec.mean[channel]), np.float32(spec.std[channel])
        if spec.size.fill == "black" and frame.padded != resized:
            pixels[channel] = -mean / std
        target = pixels[channel, : resized[0], : resized[1]]
        np.subtract(small[..., channel], mean, out=target)
        target /= std
    windows = window_starts(max(resized), min(resized)) if spec.size.frame == "windows" else ()
    return Prepared(pixels, frame, windows)


def collate(images: Sequence[Prepared], device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
    """Images of one padded size -> Batch on the model's device, in its precision; windows are images of their own."""
    if images[0].windows:
        return _windows(images, device, dtype)
    frames = [image.frame for image in images]
    height, width = frames[0].padded
    padding = torch.zeros(len(images), height, width, dtype=torch.bool)
    for mask, frame in zip(padding, frames, strict=True):
        mask[frame.resized[0] :] = True
        mask[:, frame.resized[1] :] = True
    pixels = torch.from_numpy(images[0].pixels[None] if len(images) == 1 else np.stack([i.pixels for i in images]))
    return Batch(pixels.to(device, dtype), padding.to(device), [frame.resized for frame in frames])


def _windows(images: Sequence[Prepared], device: torch.device, dtype: torch.dtype) -> Batch:
    """The windows of all images, image by image."""
    side = min(images[0].frame.padded)
    wide = images[0].frame.padded[0] == side
    cut = [
        image.pixels[:, :, start : start + side] if wide else image.pixels[:, start : start + side]
        for image in images
        for start in image.windows
    ]
    padding = torch.zeros(len(cut), side, side, dtype=torch.bool, device=device)
    return Batch(torch.from_numpy(np.stack(cut)).to(device, dtype), padding, [(side, side)] * len(cut))
