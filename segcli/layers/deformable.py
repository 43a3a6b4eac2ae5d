"""Multi-scale deformable attention (arXiv 2010.04159) without compiled operators.

Every query reads a few points of every level: bilinear samples of the value maps, weighted and summed. One sample is
itself a weighted sum of four pixels, so the whole is one weighted sum of rows, which `F.embedding_bag` does in a
single pass on a CPU (about ten times faster than `grid_sample`, which would write out every sample first).
Elsewhere, and wherever a gradient is needed, `grid_sample` computes the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers import trace

# Queries per pass: their indices and factors (heads × 48 × 8 bytes each) should stay in the last cache, but few passes
# mean few rendezvous of the threads, which cost most when other programs want the cores too.
CHUNK = 4096


@dataclass(frozen=True)
class Levels:
    """Geometry of the flattened levels, shared by all layers of a forward pass. L levels, S = Σ h·w positions."""

    shapes: tuple[tuple[int, int], ...]  # L × (h, w)
    x: Tensor  # [S, L] x of each position's reference point in pixels of each level (pixel centres at integers)
    y: Tensor  # [S, L]
    rows: int  # rows of the padded value map
    width: Tensor  # [L] as float
    height: Tensor  # [L]
    start: Tensor  # [L] int32, first row of each level in the padded value map
    stride: Tensor  # [L] int32, rows from one line of a level to the next


@lru_cache(maxsize=16)
def levels(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Levels:
    """The geometry of levels of these (h, w), reference points at the pixel centres of each level.

    The padded value map gives each level a border of zeros, so that samples outside it need no test: one line above,
    two below, and one column left of each line, which is at once the column right of the line before.
    """
    xs, ys = [], []
    for h, w in shapes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        ys.append(y[:, None].expand(h, w).reshape(-1))
        xs.append(x[None].expand(h, w).reshape(-1))
    width = torch.tensor([w for _, w in shapes], dtype=torch.float32, device=device)
    height = torch.tensor([h for h, _ in shapes], dtype=torch.float32, device=device)
    sizes = [(h + 3) * (w + 1) + 2 for h, w in shapes]
    return Levels(
        shapes=shapes,
        x=torch.cat(xs)[:, None] * width - 0.5,
        y=torch.cat(ys)[:, None] * height - 0.5,
        rows=sum(sizes),
        width=width,
        height=height,
        start=torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], dtype=torch.int32, device=device),
        stride=torch.tensor([w + 1 for _, w in shapes], dtype=torch.int32, device=device),
    )


class DeformableAttention(nn.Module):
    """Each of the S positions of all levels attends to `num_points` learned places around it on every level."""

    def __init__(self, dim: int, num_heads: int, num_levels: int = 3, num_points: int = 4) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, memory: Tensor, geometry: Levels) -> Tensor:
        """query [B, S, D] (with positions), memory [B, S, D] (without) -> [B, S, D]."""
        heads, levels_, points = self.num_heads, self.num_levels, self.num_points
        values = self.value_proj(memory)
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, levels_, points, 2))
        weights = self.attention_weights(query).unflatten(-1, (heads, levels_ * points))
        # Places and weights are fp32 whatever the model's dtype: bf16 has no fractions beyond 256 pixels.
        trace.save("sampling", lambda: _locations(offsets.float(), geometry))
        if values.device.type == "cpu" and not (torch.is_grad_enabled() and values.requires_grad):
            sampled = _sample_rows(values, offsets, weights, geometry)
        else:
            sampled = _sample_grid(values, offsets.float(), weights.float().softmax(-1), geometry)
        return self.output_proj(sampled.to(values.dtype))


def _locations(offsets: Tensor, geometry: Levels) -> Tensor:
    """offsets [B, S, heads, L, P, 2] -> sampling points in [0, 1] of the image, same shape."""
    x = (offsets[..., 0] + geometry.x[:, None, :, None] + 0.5) / geometry.width[:, None]
    y = (offsets[..., 1] + geometry.y[:, None, :, None] + 0.5) / geometry.height[:, None]
    return torch.stack((x, y), -1)


def _sample_grid(values: Tensor, offsets: Tensor, weights: Tensor, geometry: Levels) -> Tensor:
    """The definition: values [B, S, D], offsets [B, S, heads, L, P, 2], weights [B, S, heads, L·P] -> [B, S, D]."""
    batch, positions, heads = offsets.shape[:3]
    grid = 2 * _locations(offsets, geometry) - 1
    per_level = values.float().unflatten(-1, (heads, -1)).split([h * w for h, w in geometry.shapes], dim=1)
    samples = []
    for level, (h, w) in enumerate(geometry.shapes):
        value = per_level[level].permute(0, 2, 3, 1).reshape(batch * heads, -1, h, w)
        at = grid[:, :, :, level].transpose(1, 2).flatten(0, 1)  # [B·heads, S, P, 2]
        samples.append(F.grid_sample(value, at, mode="bilinear", padding_mode="zeros", align_corners=False))
    weight = weights.transpose(1, 2).reshape(batch * heads, 1, positions, -1)
    out = (torch.cat(samples, dim=-1) * weight).sum(-1)  # [B·heads, D/heads, S]
    return out.unflatten(0, (batch, heads)).permute(0, 3, 1, 2).flatten(2)


def _sample_rows(values: Tensor, offsets: Tensor, weights: Tensor, geometry: Levels) -> Tensor:
    """The same function as a weighted sum of rows; CPU, no gradient. weights are logits [B, S, heads, L·P]."""
    batch, positions, dim = values.shape
    out = torch.empty(batch, positions, dim)
    padded = torch.zeros(geometry.rows, dim)
    for b in range(batch):
        _pad_levels(values[b], padded, geometry)
        for i in range(0, positions, CHUNK):
            part = slice(i, i + CHUNK)
            indices, factors = _corners(offsets[b, part].float(), weights[b, part].float(), geometry, part)
            bags, size = indices.shape[0] * indices.shape[1], indices[0, 0].numel()
            starts = torch.arange(0, bags * size, size, dtype=torch.int32)
            rows = padded.view(-1, dim // offsets.shape[2])
            summed = F.embedding_bag(indices.view(-1), rows, starts, mode="sum", per_sample_weights=factors.view(-1))
            out[b, part] = summed.view(-1, dim)
    return out


def _pad_levels(values: Tensor, padded: Tensor, geometry: Levels) -> None:
    """Write values [S, D] into the bordered map [rows, D]; the border stays zero."""
    first = 0
    for (h, w), start in zip(geometry.shapes, geometry.start.tolist(), strict=True):
        lines = padded[start : start + (h + 1) * (w + 1)].view(h + 1, w + 1, -1)
        lines[1:, 1:] = values[first : first + h * w].view(h, w, -1)
        first += h * w


def _corners(offsets: Tensor, logits: Tensor, geometry: Levels, part: slice) -> tuple[Tensor, Tensor]:
    """Row numbers and factors of the four pixels around every sampling point, both [N, heads, L, P, 4].

    Points farther outside than one pixel are moved to where both their neighbours are border: their sum stays zero.
    """
    heads = offsets.shape[1]
    x = (offsets[..., 0] + geometry.x[part, None, :, None]).clamp_(min=-1)
    y = (offsets[..., 1] + geometry.y[part, None, :, None]).clamp_(min=-1)
    torch.minimum(x, geometry.width[:, None], out=x)
    torch.minimum(y, geometry.height[:, None], out=y)
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x.sub_(left), y.sub_(top)

    stride = geometry.stride[:, None]
    row = top.int().add_(1).mul_(stride).add_(left.int()).add_(geometry.start[:, None] + 1)
    row = row.mul_(heads).add_(torch.arange(heads, dtype=torch.int32)[:, None, None])
    corner = torch.stack((torch.zeros_like(stride), torch.ones_like(stride), stride, stride + 1), dim=-1) * heads
    indices = row[..., None] + corner

    weight = _softmax(logits).view_as(row)
    bottom = weight * bottom_share
    top_ = weight.sub_(bottom)
    factors = torch.empty(indices.shape)
    torch.mul(bottom, right_share, out=factors[..., 3])
    torch.sub(bottom, factors[..., 3], out=factors[..., 2])
    torch.mul(top_, right_share, out=factors[..., 1])
    torch.sub(top_, factors[..., 1], out=factors[..., 0])
    return indices, factors


def _softmax(logits: Tensor) -> Tensor:
    """softmax over the last dimension; torch's own is slow over a dozen elements, the deformable attention's number."""
    shares = (logits - logits.amax(-1, keepdim=True)).exp_()
    return shares.div_(shares.sum(-1, keepdim=True))
