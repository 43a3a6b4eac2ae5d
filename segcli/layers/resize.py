"""Bilinear resizing of whole maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.layers.trace import is_exporting


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """maps [B, C, h, w] -> [B, C, *size]: `F.interpolate(mode="bilinear", align_corners=False)`, in the same order."""
    if not is_exporting() and maps.is_contiguous(memory_format=torch.channels_last):
        # The stride of a single image may be any number. If it is not that of a batch, PyTorch takes the result for a
        # map of the other order, and a large one's copy takes twenty times as long as the resizing.
        batch, channels, height, width = maps.shape
        places = maps.permute(0, 2, 3, 1).flatten(0, 2)
        maps = places.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
