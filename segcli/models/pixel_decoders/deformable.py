"""Mask2Former's pixel decoder (arXiv 2112.01527, §3.2.2; MSDeformAttn): deformable attention over three levels,
then one FPN step to stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segcli.layers.deformable import DeformableAttention, Levels, levels
from segcli.layers.half import learns_in_half
from segcli.layers.linear import Linear
from segcli.layers.mlp import norm_linear
from segcli.layers.positions import sine_positions
from segcli.layers.resize import resize
from segcli.layers.trace import is_exporting
from segcli.models.parts import Layers, PixelDecoder
from segcli.types import PixelFeatures

# Tokens per pass through the feed-forward part, so that its wide middle stays in the cache.
TOKENS = 4096


class DeformableLayer(nn.Module):
    """Deformable self-attention and feed-forward, each followed by a norm."""

    def __init__(self, dim: int, num_heads: int, feedforward: int, num_levels: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, num_heads, num_levels)
        self.norm1 = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, feedforward)
        self.fc2 = Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, positions: Tensor, geometry: Levels) -> Tensor:
        """x [B, S, D], positions [S, D] -> [B, S, D]."""
        rows = (x + self.attention(x, positions, geometry)).flatten(0, 1)
        if is_exporting():
            return self._feed_forward(rows).view_as(x)
        return torch.cat([self._feed_forward(part) for part in rows.split(TOKENS)]).view_as(x)

    def _feed_forward(self, rows: Tensor) -> Tensor:
        x, hidden = norm_linear(rows, self.norm1, self.fc1)
        return self.norm2(self.fc2(hidden.relu_()).add_(x))


class _GroupNorm(nn.GroupNorm):
    """As PyTorch's, but a group of one value, on a map of 1×1, is its bias, as the formula says, and not an error."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class ProjectNorm(nn.Module):
    """1×1 or 3×3 convolution and GroupNorm."""

    def __init__(self, in_dim: int, dim: int, kernel: int, bias: bool, groups: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_dim, dim, kernel, padding=kernel // 2, bias=bias)
        self.norm = _GroupNorm(groups, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x.to(self.norm.weight.dtype)).to(x.dtype) if learns_in_half(x) else self.norm(x)


class DeformablePixelDecoder(PixelDecoder):
    """Pyramid of strides 4, 8, 16, 32 -> memory at 32, 16, 8 and mask features at 4.

    Padding is ignored, as published: a padded place is a place like any other.
    """

    def __init__(
        self, channels: list[int], dim: int, mask_dim: int, num_layers: int, num_heads: int, feedforward: int
    ) -> None:
        super().__init__()
        inputs = channels[:0:-1]  # coarse to fine, without stride 4
        self.dim = dim
        self.input_proj = nn.ModuleList(ProjectNorm(c, dim, 1, bias=True) for c in inputs)
        self.level_embed = nn.Parameter(torch.empty(len(inputs), dim))
        nn.init.normal_(self.level_embed)
        self.layers: Layers[DeformableLayer] = Layers(
            DeformableLayer(dim, num_heads, feedforward, len(inputs)) for _ in range(num_layers)
        )
        self.lateral = ProjectNorm(channels[0], dim, 1, bias=False)
        self.output = ProjectNorm(dim, dim, 3, bias=False)
        self.mask_proj = nn.Conv2d(dim, mask_dim, 1)

    def forward(self, pyramid: list[Tensor], padding: Tensor | None = None) -> PixelFeatures:
        """pyramid fine to coarse, each [B, C_i, h_i, w_i] -> PixelFeatures."""
        maps = [proj(x) for proj, x in zip(self.input_proj, pyramid[:0:-1], strict=True)]
        shapes = tuple((x.shape[2], x.shape[3]) for x in maps)
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)  # [B, S, D]
        del maps
        positions = torch.cat(
            [
                sine_positions(h, w, self.dim, tokens.device, tokens.dtype) + self.level_embed[i]
                for i, (h, w) in enumerate(shapes)
            ]
        )
        attention = next(iter(self.layers)).attention
        geometry = levels(shapes, attention.num_heads, attention.num_points, tokens.device)
        for layer in self.layers:
            tokens = layer(tokens, positions, geometry)
        memory = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(tokens.split([h * w for h, w in shapes], dim=1), shapes, strict=True)
        ]
        fine = self.lateral(pyramid[0])
        fine.add_(resize(memory[-1], (fine.shape[2], fine.shape[3])))
        fine = self.output(fine).relu_()
        return PixelFeatures(self.mask_proj(fine), memory, padding)
