"""Sine position embeddings of DETR (arXiv 2005.12872, §A.4), normalised to the map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segcli.layers.trace import geometry_cache


@geometry_cache(maxsize=16)  # a handful of feature sizes repeat over a folder of photos
def sine_positions(height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Position embeddings of an h × w map -> [h·w, dim]: the first half of the channels encodes y, the second x.

    Computed in fp32 whatever the dtype: in bf16 neighbouring columns of a wide map would share a position.
    """
    y = _encode(_share(torch.arange(1, height + 1, device=device, dtype=torch.float32), height), dim // 2)
    x = _encode(_share(torch.arange(1, width + 1, device=device, dtype=torch.float32), width), dim // 2)
    y, x = y[:, None].expand(height, width, -1), x[None].expand(height, width, -1)
    return torch.cat((y, x), dim=2).reshape(height * width, dim).to(dtype)


def padded_sine_positions(padding: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """The same for maps that are padded, padding [B, h, w] bool -> [B, h·w, dim]: a place is told its share of the
    image, not of the padded map (DETR).
    """
    inside = (~padding).float()
    y, x = inside.cumsum(1), inside.cumsum(2)
    y, x = _share(y, y[:, -1:]), _share(x, x[:, :, -1:])
    return torch.cat((_encode(y, dim // 2), _encode(x, dim // 2)), dim=3).flatten(1, 2).to(dtype)


def _share(position: Tensor, length: Tensor | float) -> Tensor:
    return position / (length + 1e-6) * (2 * math.pi)


def _encode(position: Tensor, half: int) -> Tensor:
    """[...] -> [..., half], sine and cosine interleaved."""
    frequency = 10000 ** (2 * (torch.arange(half, device=position.device) // 2).float() / half)
    angle = position[..., None] / frequency
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)
