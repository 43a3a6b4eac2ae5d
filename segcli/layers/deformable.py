"""Multi-scale deformable attention (arXiv 2010.04159) without compiled operators.

Every query reads a few points of every level: bilinear samples of the value maps, weighted and summed. One sample is
itself a weighted sum of four pixels, so the whole is one weighted sum of rows, which `F.embedding_bag` does in a
single pass on a CPU (about ten times faster than `grid_sample`, which would write out every sample first), with its own
gradients (`layers/rows.py`). Elsewhere `grid_sample` computes the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers import trace
from segcli.layers.rows import factors_gradient, rows_gradient, weighted_rows

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
        if values.device.type == "cpu":
            sampled = _SampleRows.apply(values, offsets, weights, geometry)
        else:
            sampled = _sample_grid(values, offsets.float(), weights.float().softmax(-1), geometry)
        return self.output_proj(sampled.to(values.dtype))


def _locations(offsets: Tensor, geometry: Levels) -> Tensor:
    """offsets [B, S, heads, L, P, 2] -> sampling points in [0, 1] of the image, same shape."""
    x = (offsets[..., 0] + geometry.x[:, None, :, None] + 0.5) / geometry.width[:, None]
    y = (offsets[..., 1] + geometry.y[:, None, :, None] + 0.5) / geometry.height[:, None]
    return torch.stack((x, y), -1)


def _sample_grid(values: Tensor, offsets: Tensor, weights: Tensor, geometry: Levels) -> Tensor:
    """The definition: values [B, S, D], offsets [B, S, heads, L, P, 2], weights [B, S, heads, L·P]."""
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


class _SampleRows(torch.autograd.Function):
    """The same function as a weighted sum of rows, on a CPU. weights are logits [B, S, heads, L·P].

    Nothing but the arguments is kept for the backward pass: indices and factors are 24 times as large as the output,
    and making them again costs less than reading them back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, offsets: Tensor, logits: Tensor, geometry: Levels) -> Tensor:
        """-> [B, S, D] in fp32 (fp64 for fp64 values)."""
        ctx.save_for_backward(values, offsets, logits)
        ctx.geometry = geometry
        batch, positions, dim = values.shape
        out = torch.empty(batch, positions, dim, dtype=_precision(values))
        padded = out.new_zeros(geometry.rows, dim)
        rows = padded.view(-1, dim // offsets.shape[2])
        for b in range(batch):
            _pad_levels(values[b], padded, geometry)
            for i in range(0, positions, CHUNK):
                part = slice(i, i + CHUNK)
                row, right, bottom = _places(offsets[b, part].to(out.dtype), geometry, part)
                indices = _corner_indices(row, geometry).view(-1, row[0, 0].numel() * 4)
                factors = _corner_factors(_weights(logits[b, part], out.dtype, row), right, bottom)
                out[b, part] = weighted_rows(rows, indices, factors.view_as(indices)).view(-1, dim)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """grad [B, S, D] -> gradients of values, offsets and logits, each in its own dtype."""
        values, offsets, logits = ctx.saved_tensors
        geometry: Levels = ctx.geometry
        batch, positions, dim = values.shape
        whole = slice(0, positions)
        padded = grad.new_zeros(geometry.rows, dim)
        grads = torch.empty_like(values), torch.empty_like(offsets), torch.empty_like(logits)
        for b in range(batch):
            _pad_levels(values[b], padded, geometry)
            row, right, bottom = _places(offsets[b].to(grad.dtype), geometry, whole)
            weights = _weights(logits[b], grad.dtype, row)
            indices = _corner_indices(row, geometry).view(-1, row[0, 0].numel() * 4)
            factors = _corner_factors(weights, right, bottom).view_as(indices)
            by_head = grad[b].reshape(indices.shape[0], -1)
            summed = rows_gradient(by_head, padded.numel() // by_head.shape[1], indices, factors)
            _unpad_levels(summed.view_as(padded), grads[0][b], geometry)
            by_corner = factors_gradient(by_head, padded.view(-1, by_head.shape[1]), indices).view(*row.shape, 4)
            grad_weights, grad_x, grad_y = _corner_gradients(by_corner, weights, right, bottom)
            grads[1][b] = torch.stack((grad_x, grad_y), -1).mul_(_inside(offsets[b], geometry))
            weights, grad_weights = weights.flatten(2), grad_weights.flatten(2)
            grads[2][b] = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))  # of the softmax
        return *grads, None


def _precision(values: Tensor) -> torch.dtype:
    """Sums, places and weights are fp32 behind a bf16 network; fp64 is for checking gradients."""
    return torch.promote_types(values.dtype, torch.float32)


def _level_lines(padded: Tensor, geometry: Levels) -> list[Tensor]:
    """Views of a bordered map [rows, D], one [h, w, D] a level."""
    views = []
    for (h, w), start in zip(geometry.shapes, geometry.start.tolist(), strict=True):
        views.append(padded[start : start + (h + 1) * (w + 1)].view(h + 1, w + 1, -1)[1:, 1:])
    return views


def _pad_levels(values: Tensor, padded: Tensor, geometry: Levels) -> None:
    """Write values [S, D] into the bordered map [rows, D]; the border stays zero."""
    levels_ = values.split([h * w for h, w in geometry.shapes])
    for view, level in zip(_level_lines(padded, geometry), levels_, strict=True):
        view.copy_(level.view(view.shape))


def _unpad_levels(padded: Tensor, values: Tensor, geometry: Levels) -> None:
    """The reverse: a bordered map [rows, D] into values [S, D]."""
    levels_ = values.split([h * w for h, w in geometry.shapes])
    for view, level in zip(_level_lines(padded, geometry), levels_, strict=True):
        level.view(view.shape).copy_(view)


def _places(offsets: Tensor, geometry: Levels, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Where sampling points lie: row of the pixel left above, and how far right and below it they are in [0, 1).

    offsets [N, heads, L, P, 2] -> rows int32 and two shares, each [N, heads, L, P]. Points farther outside than one
    pixel are moved to where all their neighbours are border or have no share: their sum stays zero.
    """
    heads = offsets.shape[1]
    x = offsets[..., 0] + geometry.x[part, None, :, None]
    y = offsets[..., 1] + geometry.y[part, None, :, None]
    width, height = geometry.width[:, None], geometry.height[:, None]
    torch.minimum(x.clamp_(min=-1), width.to(x.dtype), out=x)
    torch.minimum(y.clamp_(min=-1), height.to(y.dtype), out=y)
    left, top = x.floor(), y.floor()
    row = top.int().add_(1).mul_(geometry.stride[:, None]).add_(left.int()).add_(geometry.start[:, None] + 1)
    row = row.mul_(heads).add_(torch.arange(heads, dtype=torch.int32)[:, None, None])
    return row, x.sub_(left), y.sub_(top)


def _inside(offsets: Tensor, geometry: Levels) -> Tensor:
    """Which coordinates of offsets [S, heads, L, P, 2] `_places` leaves as they are, and so pass a gradient on."""
    at = offsets + torch.stack((geometry.x, geometry.y), -1)[:, None, :, None]
    return (at > -1) & (at < torch.stack((geometry.width, geometry.height), -1)[:, None])


def _corner_indices(row: Tensor, geometry: Levels) -> Tensor:
    """Rows of the four pixels around each point: left above, right above, left below, right below -> [..., 4]."""
    heads, stride = row.shape[1], geometry.stride[:, None]
    corner = torch.stack((torch.zeros_like(stride), torch.ones_like(stride), stride, stride + 1), dim=-1) * heads
    return row[..., None] + corner


def _weights(logits: Tensor, dtype: torch.dtype, row: Tensor) -> Tensor:
    return logits.to(dtype).softmax(-1).view(row.shape)


def _corner_factors(weights: Tensor, right: Tensor, bottom: Tensor) -> Tensor:
    """Attention weight × bilinear weight of the four pixels -> [..., 4]."""
    below = weights * bottom
    above = weights - below
    factors = weights.new_empty(*weights.shape, 4)
    torch.mul(below, right, out=factors[..., 3])
    torch.sub(below, factors[..., 3], out=factors[..., 2])
    torch.mul(above, right, out=factors[..., 1])
    torch.sub(above, factors[..., 1], out=factors[..., 0])
    return factors


def _corner_gradients(by_corner: Tensor, weights: Tensor, right: Tensor, bottom: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the four factors [..., 4] -> of the attention weight, of x and of y, each [...]."""
    left_above, right_above, left_below, right_below = by_corner.unbind(-1)
    across_above, across_below = right_above - left_above, right_below - left_below
    above = torch.addcmul(left_above, across_above, right)
    down = torch.addcmul(left_below, across_below, right).sub_(above)
    across = across_below.sub_(across_above).mul_(bottom).add_(across_above)
    return torch.addcmul(above, down, bottom), across.mul_(weights), down.mul_(weights)
