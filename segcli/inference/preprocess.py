"""A decoded photo -> what the network takes: resized, normalised, zero-padded.

The resized size is detectron2's (`ResizeShortestEdge`), because the published numbers were measured with it; the
padding comes after the normalisation, so that padded pixels are exactly the mean colour.
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

    pixels: np.ndarray  # float32 [3, H, W], normalised, zero-padded right and bottom
    frame: Frame


def resized_size(original: tuple[int, int], size: InputSize) -> tuple[int, int]:
    """(h, w) with the short side at `size.short`, unless the long side would pass `size.long`; at least 1 pixel.

    The order of the operations is detectron2's: another one rounds 176 × 1376 to a different height.
    """
    height, width = original
    if size.rounding == "down":
        return _rounded_down(height, width, size)
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
    frame = Frame(original, resized, padded_size(resized, spec.size.divisor))
    pixels = np.zeros((3, *frame.padded), dtype=np.float32)
    small = resize(image, resized)
    for channel in range(3):  # channel by channel: contiguous writes, and no float copy of the whole picture
        target = pixels[channel, : resized[0], : resized[1]]
        np.subtract(small[..., channel], np.float32(spec.mean[channel]), out=target)
        target /= np.float32(spec.std[channel])
    return Prepared(pixels, frame)


def collate(images: Sequence[Prepared], device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
    """Images of one padded size -> Batch on the model's device, in its precision."""
    frames = [image.frame for image in images]
    height, width = frames[0].padded
    padding = torch.zeros(len(images), height, width, dtype=torch.bool)
    for mask, frame in zip(padding, frames, strict=True):
        mask[frame.resized[0] :] = True
        mask[:, frame.resized[1] :] = True
    pixels = torch.from_numpy(images[0].pixels[None] if len(images) == 1 else np.stack([i.pixels for i in images]))
    return Batch(pixels.to(device, dtype), padding.to(device), [frame.resized for frame in frames])
