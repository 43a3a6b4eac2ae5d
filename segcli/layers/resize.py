"""Bilinear resizing of whole maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """maps [B, C, h, w] -> [B, C, *size]: `F.interpolate(mode="bilinear", align_corners=False)`.

    Of channels-last maps on a CPU, PyTorch writes the result in the other order, through a copy that takes twenty times
    as long as the resizing. Given a place for it in their own order it does not, but then it keeps no gradient.
    """
    ordered = maps.device.type == "cpu" and maps.is_contiguous(memory_format=torch.channels_last)
    if not ordered or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    out = torch.empty((*maps.shape[:2], *size), dtype=maps.dtype, memory_format=torch.channels_last)
    return torch.ops.aten.upsample_bilinear2d.out(maps, size, False, out=out)
