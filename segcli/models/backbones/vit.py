"""A plain Vision Transformer (arXiv 2010.11929) as DINOv2 (arXiv 2304.07193) and DINOv3 (arXiv 2508.10104) have it.

Tokens lie in one order everywhere: what has no place (queries, class token, registers), then the patches row by row.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.config.backbones.vit import ViTConfig
from segcli.layers import trace
from segcli.layers.attention import attend, probabilities
from segcli.layers.linear import Linear, linear
from segcli.layers.mlp import norm_linear, norm_mlp
from segcli.layers.stochastic import uniform
from segcli.models.parts import Backbone, Layers


class ViTAttention(nn.Module):
    """Self-attention of tokens; those of patches may be rotated, and some queries kept from some patches."""

    def __init__(self, dim: int, num_heads: int, key_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(dim, 3 * dim, bias=key_bias)
        self.query_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.value_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.proj = Linear(dim, dim)

    def forward(
        self, x: Tensor, rotary: Tensor | None, allowed: Tensor | None, queries: int = 0, patches: int = 0
    ) -> Tensor:
        """x [B, T, D], the first `queries` of them queries, the last `patches` patches; rotary [2, 1 or B, patches, d];
        allowed [B, queries, patches] bool, True where a query may look at a patch (None: everywhere) -> [B, T, D].
        """
        q, k, v = self._projected(x, rotary)  # [B, heads, T, d] each
        if queries:
            trace.save("cross_attention", lambda: _of_queries(q[:, :, :queries], k, allowed)[..., -patches:])
        if allowed is None:
            attended = attend(q, k, v)
        else:
            mask = _over_all(allowed, x.shape[1])
            attended = torch.cat((attend(q[:, :, :queries], k, v, mask), attend(q[:, :, queries:], k, v)), dim=2)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def _projected(self, x: Tensor, rotary: Tensor | None) -> list[Tensor]:
        """x [B, T, D] -> query, key and value, [B, heads, T, d] each, in three products: attention reads rows that lie
        close together faster.
        """
        query, key, value = self.qkv.weight.chunk(3)
        parts = [linear(x, weight, bias) for weight, bias in zip((query, key, value), self._biases(), strict=True)]
        parts = [part.unflatten(-1, (self.num_heads, -1)) for part in parts]  # [B, T, heads, d]
        if rotary is not None:
            parts[:2] = [_placed(part, rotary.to(x.dtype)) for part in parts[:2]]
        return [part.transpose(1, 2) for part in parts]

    def _biases(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of query, key and value. That of the key adds one number to all logits of a query, which softmax ignores."""
        if self.qkv.bias is None:
            return self.query_bias, None, self.value_bias
        query, key, value = self.qkv.bias.chunk(3)
        return query, key if torch.is_grad_enabled() or trace.is_exporting() else None, value


def _placed(x: Tensor, rotary: Tensor) -> Tensor:
    """x [B, T, heads, d], the last of which are patches, with these turned by their places; maybe changed in place."""
    if trace.is_exporting():  # changed in place it would be a scatter
        plain, patches = x.split([x.shape[1] - rotary.shape[2], rotary.shape[2]], dim=1)
        return torch.cat((plain, _rotated(patches, rotary)), dim=1)
    patches = x[:, -rotary.shape[2] :]
    patches.copy_(_rotated(patches, rotary))
    return x


def _rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """x [B, N, heads, d] turned in pairs of numbers by angles whose cosines and sines are rotary [2, ·, N, d]."""
    cos, sin = rotary[:, :, :, None].unbind()
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _over_all(allowed: Tensor, tokens: int) -> Tensor:
    """Patches that may be looked at [B, Q, N] -> the same of all tokens, [B, 1, Q, T]; the others always may."""
    return F.pad(allowed, (tokens - allowed.shape[2], 0), value=True)[:, None]


def _of_queries(q: Tensor, k: Tensor, allowed: Tensor | None) -> Tensor:
    """How much each query looks at each token -> [B, heads, Q, T]."""
    return probabilities(q, k, None if allowed is None else _over_all(allowed, k.shape[2]))


class ViTBlock(nn.Module):
    """LN, attention, LN, MLP, each with a residual that is scaled channel by channel (LayerScale)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        dim, hidden = config.dim, config.mlp_dim
        self.gated = config.gated
        self.norm1 = nn.LayerNorm(dim, config.norm_eps)
        self.attention = ViTAttention(dim, config.num_heads, key_bias=config.positions == "table")
        self.scale1 = nn.Parameter(torch.full((dim,), config.layer_scale))
        self.norm2 = nn.LayerNorm(dim, config.norm_eps)
        self.fc1 = Linear(dim, 2 * hidden if config.gated else hidden)  # gated: the gate's rows first
        self.fc2 = Linear(hidden, dim)
        self.scale2 = nn.Parameter(torch.full((dim,), config.layer_scale))

    def forward(
        self,
        x: Tensor,
        rotary: Tensor | None = None,
        allowed: Tensor | None = None,
        queries: int = 0,
        patches: int = 0,
    ) -> Tensor:
        """x [B, T, D] -> the same; the rest as `ViTAttention.forward` has it."""
        x = torch.addcmul(x, self.scale1, self.attention(self.norm1(x), rotary, allowed, queries, patches))
        if not self.gated:
            return torch.addcmul(x, self.scale2, norm_mlp(x, self.norm2, self.fc1, self.fc2))
        gate, value = norm_linear(x, self.norm2, self.fc1)[1].chunk(2, dim=-1)
        return torch.addcmul(x, self.scale2, self.fc2(F.silu(gate) * value))


class ViT(Backbone):
    """The first `blocks` blocks of a ViT, without a norm behind them; None: all."""

    def __init__(self, config: ViTConfig, blocks: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.channels = [config.dim]
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.registers = nn.Parameter(torch.zeros(1, config.registers, config.dim))
        self.patch_embed = nn.Conv2d(3, config.dim, config.patch_size, config.patch_size)
        self.positions = nn.Parameter(torch.zeros(config.grid**2, config.dim)) if config.positions == "table" else None
        count = config.depth if blocks is None else blocks
        self.blocks: Layers[ViTBlock] = Layers(ViTBlock(config) for _ in range(count))
        for parameter in (self.class_token, self.registers, self.positions):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> the patches as a map [B, D, h, w]; then what has no place: class token and registers
        [B, 1 + R, D], and with rotary positions their cosines and sines [2, 1 or B, h·w, d].
        """
        size = self.config.patch_size
        maps = self.patch_embed(F.pad(images, (0, -images.shape[3] % size, 0, -images.shape[2] % size)))
        batch, _, height, width = maps.shape
        patches = maps.flatten(2).transpose(1, 2)  # [B, N, D]
        if self.positions is not None:
            patches = patches + resized_table(self.positions, self.config.grid, height, width).to(patches.dtype)
        prefix = torch.cat((self.class_token, self.registers), dim=1).expand(batch, -1, -1)
        x = torch.cat((prefix.to(patches.dtype), patches), dim=1)
        rotary = self._rotary(height, width, batch, images.device)
        for block in self.blocks:
            x = block(x, *rotary)
        prefix, patches = x.split([prefix.shape[1], height * width], dim=1)
        return [patches.transpose(1, 2).unflatten(2, (height, width)), prefix, *rotary]

    def layers(self) -> list[list[nn.Parameter]]:
        """Each block by itself; what comes before the first learns as it does."""
        blocks = [list(block.parameters()) for block in self.blocks]
        inside = {parameter for block in blocks for parameter in block}
        before = [parameter for parameter in self.parameters() if parameter not in inside]
        return [before + blocks[0], *blocks[1:]] if blocks else [before]

    def _rotary(self, height: int, width: int, batch: int, device: torch.device) -> list[Tensor]:
        config = self.config
        if config.positions == "table":
            return []
        scales = torch.ones(1, device=device)
        if self.training and config.rope_rescale is not None:
            limit = math.log(config.rope_rescale)
            scales = ((2 * uniform((batch,)) - 1) * limit).exp().to(device)
        angles = scales[:, None, None] * rotation_angles(
            height, width, config.dim // config.num_heads, config.rope_theta, device
        )
        return [torch.stack((angles.cos(), angles.sin()))]


def resized_table(table: Tensor, side: int, height: int, width: int) -> Tensor:
    """Learned positions [side², D] for another grid -> [height · width, D], in float32: resampled as timm does it,
    bicubic and antialiased.
    """
    if (height, width) == (side, side):
        return table
    maps = table.float().view(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(maps, size=(height, width), mode="bicubic", antialias=True)[0].flatten(1).t()


@trace.geometry_cache(maxsize=8)
def rotation_angles(height: int, width: int, dim: int, theta: float, device: torch.device) -> Tensor:
    """Of the centres of height × width patches, whose coordinates run from -1 to 1 -> [h · w, dim]: those of y, those
    of x, and the same once more.
    """
    frequencies = 1 / theta ** torch.arange(0, 1, 4 / dim, dtype=torch.float32)  # [dim / 4]
    y, x = ((torch.arange(0.5, count, dtype=torch.float32) / count) * 2 - 1 for count in (height, width))
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1).flatten(0, 1)  # [N, 2]
    angles = 2 * math.pi * centres[:, :, None] * frequencies
    return angles.flatten(1).tile(2).to(device)


def build(config: ViTConfig) -> ViT:
    """The untrained backbone of a configuration."""
    return ViT(config)
