"""Examples -> a batch: normalised, zero-padded right and bottom, the masks padded with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from segcli.data.loading.transforms import Example
from segcli.types import Batch, InferenceSpec, LabelSet, Target

_DEFAULT = InferenceSpec((), LabelSet(()))


@dataclass(frozen=True)
class Layout:
    """How images lie in a batch. size: (H, W) at least, for crops of fixed size; else the largest image decides.

    divisor: both sides are rounded up to a multiple. mean, std: as in `InferenceSpec`. black: padding is black, as
    before the normalisation; else it is the mean colour.
    """

    size: tuple[int, int] = (1, 1)
    divisor: int = 32
    mean: Sequence[float] = _DEFAULT.mean
    std: Sequence[float] = _DEFAULT.std
    black: bool = False


def collate(examples: Sequence[Example], layout: Layout | None = None) -> tuple[Batch, list[Target]]:
    """Batch and targets on the CPU. Masks are in the padded frame, boxes relative to the unpadded image."""
    layout = layout or Layout()
    sizes = [(example.image.shape[0], example.image.shape[1]) for example in examples]
    height, width = (
        -(-max(layout.size[axis], *(size[axis] for size in sizes)) // layout.divisor) * layout.divisor
        for axis in (0, 1)
    )
    images = torch.zeros(len(examples), 3, height, width)
    padding = torch.ones(len(examples), height, width, dtype=torch.bool)
    scale = torch.tensor([1 / value for value in layout.std]).view(3, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(layout.mean, layout.std, strict=True)]).view(3, 1, 1)
    for image, pad, example, (h, w) in zip(images.unbind(0), padding.unbind(0), examples, sizes, strict=True):
        pixels = torch.from_numpy(np.ascontiguousarray(example.image)).permute(2, 0, 1)
        if layout.black:
            image.copy_(shift.expand_as(image))
        torch.addcmul(shift, pixels.float(), scale, out=image[:, :h, :w])
        pad[:h, :w] = False
    return Batch(images, padding, sizes), [_target(example, height, width) for example in examples]


def _target(example: Example, height: int, width: int) -> Target:
    masks = torch.from_numpy(example.masks)
    if masks.shape[1:] != (height, width):
        padded = torch.zeros(len(masks), height, width, dtype=torch.bool)
        padded[:, : masks.shape[1], : masks.shape[2]] = masks
        masks = padded
    return Target(
        labels=torch.from_numpy(example.labels.astype(np.int64)),
        masks=masks,
        boxes=torch.from_numpy(example.boxes),
        crowd=torch.from_numpy(example.crowd),
        image_id=example.image_id,
    )
