"""Swin Transformer (arXiv 2103.14030) as a four-level backbone.

Windows keep their size and their shift even when a map is smaller than one window, as in the original dense-prediction
code. Window partition, cyclic shift and padding are one gather by a cached index.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.config.backbones.swin import SwinConfig
from segcli.layers.linear import Linear
from segcli.layers.mlp import norm_mlp
from segcli.layers.stochastic import drop_path
from segcli.layers.trace import geometry_cache, is_exporting
from segcli.models.parts import Backbone

# Bytes of attention logits handled at once: they are written and read three times, so they should stay in the cache.
ATTENTION_BYTES = 3 << 20
# Tokens per pass through an MLP, for the same reason.
MLP_TOKENS = 4096


@dataclass(frozen=True)
class Windows:
    """How a flattened h × w map is cut into windows of N = window² tokens."""

    gather: Tensor  # [W·N] token of each place in window order (any token where the place is padding)
    scatter: Tensor  # [h·w] place of each token in window order
    padding: Tensor | None  # places that are padding; None if there are none
    plain: int  # the first `plain` windows need no mask
    mask: Tensor | None  # [W - plain, 1, N, N] additive: tokens that the shift brought together do not attend


@geometry_cache(maxsize=32)
def windows(height: int, width: int, window: int, shift: int, device: torch.device) -> Windows:
    """Index of the windows of an h × w map, zero-padded right and bottom to multiples of the window, then shifted."""
    rows, cols = -(-height // window) * window, -(-width // window) * window
    y = (torch.arange(rows) + shift) % rows  # what the cyclic shift brings to each line
    x = (torch.arange(cols) + shift) % cols
    inside = (y < height)[:, None] & (x < width)[None]
    token = (y.clamp(max=height - 1) * width)[:, None] + x.clamp(max=width - 1)[None]

    def cut(grid: Tensor) -> Tensor:  # [rows, cols] -> [W, N]
        return grid.view(rows // window, window, cols // window, window).transpose(1, 2).reshape(-1, window * window)

    token, inside = cut(token), cut(inside)
    plain, mask = token.shape[0], None
    if shift:
        band_y = (torch.arange(rows) >= rows - window).int() + (torch.arange(rows) >= rows - shift)
        band_x = (torch.arange(cols) >= cols - window).int() + (torch.arange(cols) >= cols - shift)
        region = cut(band_y[:, None] * 3 + band_x[None])
        mixed = (region != region[:, :1]).any(1)
        order = torch.argsort(mixed.int(), stable=True)  # windows without a mask first
        token, inside, region = token[order], inside[order], region[order]
        plain = int((~mixed).sum())
        apart = region[plain:, :, None] != region[plain:, None, :]
        # The weights were trained with -100, which leaves such tokens e^-100 of the attention: nothing, beside a number
        # that is at least 1/N, but no zero, and a processor takes many times as long over so small a number.
        mask = torch.zeros(apart.shape).masked_fill_(apart, -torch.inf)[:, None].to(device)

    token, inside = token.flatten(), inside.flatten()
    scatter = torch.empty(height * width, dtype=torch.long)
    scatter[token[inside]] = torch.arange(token.numel())[inside]
    padding = None if bool(inside.all()) else (~inside).nonzero().flatten().to(device)
    return Windows(token.to(device), scatter.to(device), padding, plain, mask)


@geometry_cache(maxsize=4)
def relative_positions(window: int, device: torch.device) -> Tensor:
    """Row of the bias table for each pair of tokens of a window -> [N·N]."""
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)  # [2, N]
    delta = at[:, :, None] - at[:, None] + window - 1
    return (delta[0] * (2 * window - 1) + delta[1]).flatten().to(device)


def _apart(rows: int, columns: int, window: int, shift: int, like: Tensor) -> Tensor:
    """Additive mask of rows × columns windows [rows · columns, 1, N, N]: tokens that the shift brought together."""

    def bands(count: int) -> Tensor:  # [count, window], which of the three bands of a shifted side a line is in
        line = torch.arange(count * window, device=like.device)
        band = (line >= count * window - window).int() + (line >= count * window - shift).int()
        return band.view(count, window)

    y, x = bands(rows), bands(columns)
    region = (y[:, None, :, None] * 3 + x[None, :, None, :]).reshape(-1, window**2)  # [rows · columns, N]
    return ((region[:, :, None] != region[:, None, :]).to(like.dtype) * -100.0)[:, None]


class WindowAttention(nn.Module):
    """Self-attention inside windows with a learned bias for each relative position."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)

    def forward(self, x: Tensor, layout: Windows) -> Tensor:
        """x [B, W·N, C] in window order -> the same."""
        batch, _, dim = x.shape
        bias = self._bias(x)
        x = x.view(batch, -1, self.window**2, dim)
        step = max(1, ATTENTION_BYTES // (batch * bias.numel() * x.element_size()))
        if torch.is_grad_enabled():
            step = x.shape[1]  # everything is kept for the backward pass anyhow, where many parts cost more
        # Split, not sliced: the gradient of a slice is as large as the whole.
        plain, masked = x.split([layout.plain, x.shape[1] - layout.plain], dim=1)
        out = [self._attend(part, bias) for part in plain.split(step, dim=1)]
        if layout.mask is not None:
            parts = zip(masked.split(step, dim=1), layout.mask.split(step), strict=True)
            out += [self._attend(part, bias + mask.to(x.dtype)) for part, mask in parts]
        return torch.cat(out, dim=1).flatten(1, 2)

    def defined(self, x: Tensor, height: int, width: int, shift: int) -> Tensor:
        """The definition, for every height and width: x [B, h·w, C] -> the same."""
        window, batch, dim = self.window, x.shape[0], x.shape[2]
        # Sides are symbols here, and reasoning about remainders of remainders takes the exporter hours: so they are
        # rounded up by a division, and cut by an index, of which nothing has to be proven.
        rows, columns = (height + window - 1) // window, (width + window - 1) // window
        below, beside = rows * window - height, columns * window - width
        x = F.pad(x.view(batch, height, width, dim), (0, 0, 0, beside, 0, below))
        bias = self._bias(x)
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            bias = bias + _apart(rows, columns, window, shift, x)
        x = x.view(batch, rows, window, columns, window, dim).transpose(2, 3).reshape(batch, -1, window**2, dim)
        x = self._attend(x, bias).view(batch, rows, columns, window, window, dim).transpose(2, 3)
        x = x.reshape(batch, rows * window, columns * window, dim)
        y, z = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        if shift:  # and rolled back
            y = torch.where(y < shift, y + rows * window, y) - shift
            z = torch.where(z < shift, z + columns * window, z) - shift
        return x.index_select(1, y).index_select(2, z).flatten(1, 2)

    def _bias(self, x: Tensor) -> Tensor:
        """What each relative position adds to the logits, [1, heads, N, N]."""
        n = self.window**2
        bias = self.bias_table[relative_positions(self.window, x.device)].view(1, n, n, -1).permute(0, 3, 1, 2)
        return bias.to(x.dtype).contiguous()

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, w, N, C] · bias [1 or w, heads, N, N] -> [B, w, N, C]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)  # [B, w, heads, N, d]
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        probabilities = logits.add_(bias).softmax(-1)
        return self.proj((probabilities @ v).transpose(2, 3).flatten(3))


class SwinBlock(nn.Module):
    """LN, window attention, LN, MLP, each with a residual; every second block shifts its windows by half."""

    def __init__(
        self, dim: int, num_heads: int, window: int, shifted: bool, mlp_ratio: float, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, window // 2 if shifted else 0, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, int(dim * mlp_ratio))
        self.fc2 = Linear(int(dim * mlp_ratio), dim)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """x [B, h·w, C] -> the same."""
        if is_exporting():
            x = x + self.attention.defined(self.norm1(x), height, width, self.shift)
            return x + self._mlp(x)
        layout = windows(height, width, self.window, self.shift, x.device)
        cut = self.norm1(x).index_select(1, layout.gather)
        if layout.padding is not None:
            cut = cut.index_fill(1, layout.padding, 0)
        attended = self.attention(cut, layout).index_select(1, layout.scatter)
        if self.training and self.drop_path:
            x = x + drop_path(attended, self.drop_path)
            return x + drop_path(self._mlp(x), self.drop_path)
        if torch.is_grad_enabled():
            x = x + attended
            return x + self._mlp(x)
        for whole, part in zip(attended.split(MLP_TOKENS, dim=1), x.split(MLP_TOKENS, dim=1), strict=True):
            whole.add_(part)  # in place: nothing is kept, and no map is written twice
            whole.add_(self._mlp(whole))
        return attended

    def _mlp(self, x: Tensor) -> Tensor:
        return norm_mlp(x, self.norm2, self.fc1, self.fc2)


class PatchMerging(nn.Module):
    """Halves the map: 2 × 2 neighbours are stacked, normed and projected: [B, h·w, C] -> [B, ⌈h/2⌉·⌈w/2⌉, 2 C]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        x = x.unflatten(1, (height, width))
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = torch.cat([x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)], dim=-1)  # y runs faster, as published
        return self.reduction(self.norm(x.flatten(1, 2)))


class SwinStage(nn.Module):
    """The blocks at one resolution and the merging that leads to the next."""

    def __init__(
        self, dim: int, depth: int, num_heads: int, window: int, mlp_ratio: float, drop_paths: list[float], last: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window, bool(i % 2), mlp_ratio, drop_paths[i]) for i in range(depth)
        )
        self.downsample = None if last else PatchMerging(dim)

    def forward(self, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """x [B, h·w, C] -> this stage's output, and the next one's input (the same if there is none)."""
        for block in self.blocks:
            x = block(x, height, width)
        return x, x if self.downsample is None else self.downsample(x, height, width)


class Swin(Backbone):
    """Swin backbone: images [B, 3, H, W] -> four maps [B, C·2^i, h, w] at strides 4, 8, 16, 32 (channels last)."""

    def __init__(
        self,
        embed_dim: int,
        depths: list[int],
        num_heads: list[int],
        window_size: int,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        patch_size: int = 4,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patch_embed = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.patch_norm = nn.LayerNorm(embed_dim)
        self.channels = [embed_dim * 2**i for i in range(len(depths))]
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()
        self.stages = nn.ModuleList(
            SwinStage(
                dim,
                depths[i],
                num_heads[i],
                window_size,
                mlp_ratio,
                rates[sum(depths[:i]) : sum(depths[: i + 1])],
                last=i == len(depths) - 1,
            )
            for i, dim in enumerate(self.channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images [B, 3, H, W] -> pyramid, fine to coarse."""
        size = self.patch_size
        images = F.pad(images, (0, -images.shape[3] % size, 0, -images.shape[2] % size))
        x = self.patch_embed(images)
        height, width = x.shape[2:]
        x = self.patch_norm(x.flatten(2).transpose(1, 2))
        pyramid = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            out, x = stage(x, height, width)
            pyramid.append(norm(out).unflatten(1, (height, width)).permute(0, 3, 1, 2))
            height, width = -(-height // 2), -(-width // 2)
        return pyramid


def build(config: SwinConfig) -> Swin:
    """The untrained backbone of a configuration."""
    return Swin(
        config.embed_dim,
        list(config.depths),
        list(config.num_heads),
        config.window_size,
        config.mlp_ratio,
        config.drop_path_rate,
        config.patch_size,
    )
