"""DETR's mask head (arXiv 2005.12872, §4.2, Figure 8): where a query attends, refined by convolutions up to stride 4.

Every query goes through the convolutions by itself, so its mask is made when somebody asks for it: post-processing asks
for those that passed the score, a loss for those that have an object. What does not depend on the query is computed
once an image: the share of the projected map in the first convolution, and the finer maps of the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers.linear import Linear
from segcli.layers.masks import DenseMasks
from segcli.layers.trace import is_exporting
from segcli.models.pixel_decoders.deformable import ProjectNorm
from segcli.models.transformer import padded_places
from segcli.types import PixelFeatures

_AT_ONCE = 16  # queries of one pass in prediction; the last maps of all 100 would be half a gigabyte


class AttentionMaps(nn.Module):
    """Where each query attends: softmax(q kᵀ / √d) over all places and heads together."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor, padding: Tensor | None) -> Tensor:
        """queries [B, Q, D], memory [B, D, h, w], padding [B, H, W] bool -> [B, Q, heads, h, w]."""
        places = memory.flatten(2).transpose(1, 2)  # [B, N, D]
        q, k = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (self.query(queries), self.key(places))
        )  # [B, heads, ·, D / heads]
        logits = ((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)).transpose(1, 2)  # [B, Q, heads, N]
        outside = padded_places(memory, padding)
        if outside is not None:
            logits = logits.masked_fill(outside.flatten(1)[:, None, None], torch.finfo(logits.dtype).min)
        return logits.flatten(2).softmax(-1).view(*logits.shape[:3], *memory.shape[2:])


class MaskHead(nn.Module):
    """channels: of the backbone's maps, fine to coarse."""

    def __init__(self, dim: int, num_heads: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.attention = AttentionMaps(dim, num_heads)
        widths = [dim // 2, dim // 4, dim // 8, dim // 16]
        self.stem = _block(dim + num_heads, dim + num_heads)
        self.squeeze = _block(dim + num_heads, widths[0])
        self.laterals = nn.ModuleList(
            nn.Conv2d(channel, width, 1) for channel, width in zip(channels[-2::-1], widths, strict=False)
        )
        self.outputs = nn.ModuleList(_block(widths[i], widths[i + 1]) for i in range(3))
        self.mask_proj = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, queries: Tensor, pixels: PixelFeatures) -> Tensor:
        """queries [B, Q, D] -> mask logits [B, Q, h, w] at the size of the finest map, in the precision of the weights:
        masks are asked for outside of the autocast their inputs may come from.
        """
        dtype = self.mask_proj.weight.dtype
        projected, *finer = (m.to(dtype) for m in pixels.pyramid)
        maps = self.attention(queries.to(dtype), pixels.memory[0].to(dtype), pixels.padding)
        shared = self._shared(projected)
        laterals = [lateral(m) for lateral, m in zip(self.laterals, finer, strict=True)]
        if torch.is_grad_enabled() or is_exporting():
            return self._masks(maps, shared, laterals)
        return torch.cat([self._masks(part, shared, laterals) for part in maps.split(_AT_ONCE, dim=1)], dim=1)

    def _shared(self, projected: Tensor) -> Tensor:
        """What the map [B, D, h, w] adds to the first convolution, whose other inputs are a query's attention."""
        conv = self.stem.conv
        return F.conv2d(projected, conv.weight[:, : projected.shape[1]], conv.bias, padding=1)

    def _masks(self, maps: Tensor, shared: Tensor, laterals: list[Tensor]) -> Tensor:
        """Attention maps [B, Q, heads, h, w] -> [B, Q, H / 4, W / 4]."""
        batch, count, heads = maps.shape[:3]
        own = self.stem.conv.weight[:, -heads:]
        x = _add(F.conv2d(maps.flatten(0, 1), own, padding=1), shared, count)
        x = self.squeeze(self.stem.norm(x).relu_()).relu_()
        for lateral, output in zip(laterals, self.outputs, strict=True):
            x = output(_add(F.interpolate(x, size=lateral.shape[2:], mode="nearest"), lateral, count)).relu_()
        return self.mask_proj(x).view(batch, count, *x.shape[2:])


@dataclass(frozen=True)
class QueryMasks:
    """Masks that a head makes of queries [B, Q, D] when they are asked for."""

    head: MaskHead
    queries: Tensor
    pixels: PixelFeatures

    def select(self, batch: int, queries: Tensor) -> DenseMasks:
        """Queries `queries` (indices or a bool mask, [N]) of image `batch`, in float32 -> [1, N, h, w]."""
        image = self.images()[batch]
        return DenseMasks(replace(image, queries=image.queries[:, queries]).dense().float())

    def images(self) -> list[QueryMasks]:
        """One [1, Q, ...] an image."""
        return [
            QueryMasks(self.head, queries, _image(self.pixels, index))
            for index, queries in enumerate(self.queries.split(1))
        ]

    def at(self, points: Tensor) -> Tensor:
        """Bilinear logits at points [B, P, 2], xy in [0, 1] of the padded frame -> [B, Q, P]; 0 beyond the border."""
        return DenseMasks(self.dense()).at(points)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """Bilinear resize without antialiasing, align_corners=False -> [B, Q, *size]."""
        return DenseMasks(self.dense()).resized(size)

    def dense(self) -> Tensor:
        """Every mask -> [B, Q, h, w]. What comes from a prediction is no part of a graph, whatever the weights are."""
        with torch.inference_mode() if self.pixels.memory[0].is_inference() else nullcontext():
            return self.head(self.queries, self.pixels)


def _image(pixels: PixelFeatures, index: int) -> PixelFeatures:
    """Of one image of a batch."""
    one = slice(index, index + 1)
    return replace(
        pixels,
        memory=[m[one] for m in pixels.memory],
        padding=None if pixels.padding is None else pixels.padding[one],
        pyramid=[m[one] for m in pixels.pyramid],
    )


def _block(in_dim: int, out_dim: int) -> ProjectNorm:
    return ProjectNorm(in_dim, out_dim, 3, bias=True, groups=min(8, out_dim))


def _add(x: Tensor, shared: Tensor, count: int) -> Tensor:
    """x [B · Q, C, h, w] plus what all queries of an image share, [B, C, h, w]; overwrites x."""
    x.unflatten(0, (shared.shape[0], count)).add_(shared[:, None])
    return x
