"""Sine position embeddings of DETR (arXiv 2005.12872, §A.4), normalised to the map."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)  # a handful of feature sizes repeat over a folder of photos
def sine_positions(height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Position embeddings of an h × w map -> [h·w, dim]: the first half of the channels encodes y, the second x.

    Computed in fp32 whatever the dtype: in bf16 neighbouring columns of a wide map would share a position.
    """
    half = dim // 2
    frequency = 10000 ** (2 * (torch.arange(half, device=device) // 2).float() / half)  # [half]

    def axis(length: int) -> Tensor:  # -> [length, half], sine and cosine interleaved
        position = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        position = position / (length + 1e-6) * (2 * math.pi)
        angle = position[:, None] / frequency
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = axis(height)[:, None].expand(height, width, half)
    x = axis(width)[None].expand(height, width, half)
    return torch.cat((y, x), dim=2).reshape(height * width, dim).to(dtype)
