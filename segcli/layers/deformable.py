"""Multi-scale deformable attention (arXiv 2010.04159) without compiled operators.

Every query reads a few points of every level: bilinear samples of the value maps, weighted and summed. One sample is
itself a weighted sum of four pixels, so the whole is one weighted sum of rows, which `F.embedding_bag` does in a
single pass on a CPU (about ten times faster than `grid_sample`, which would write out every sample first), with its own
gradients (`layers/rows.py`). Elsewhere `grid_sample` computes the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcli.layers import trace
from segcli.layers.linear import Linear, linear
from segcli.layers.weighted_rows import factors_gradient, rows_gradient, weighted_rows

# Queries per pass: their indices and factors (heads × 48 × 8 bytes each) should nearly stay in the cores' own caches,
# but few passes mean few rendezvous of the threads, which cost most when other programs want the cores too.
CHUNK = 2048


@dataclass(frozen=True)
class Levels:
    """Geometry of the flattened levels, shared by all layers of a forward pass. S = Σ h·w positions.

    What differs between levels is spread over columns, C = heads · levels · points of them in this order: the
    arithmetic over [S, C] sampling points then runs through memory in one straight line.
    """

    shapes: tuple[tuple[int, int], ...]  # levels × (h, w)
    x: Tensor  # [S, C] x of each position's reference point in pixels of the column's level (pixel centres at integers)
    y: Tensor  # [S, C]
    width: Tensor  # [C]
    height: Tensor  # [C]
    first: Tensor  # [C] row of the column's head at the level's pixel (0, 0), in the padded value map
    starts: tuple[int, ...]  # first line of each level in the padded value map, in positions
    line: int  # positions from one line of the padded value map to the next, the same on all levels
    positions: int  # of the padded value map


@trace.geometry_cache(maxsize=2)  # a folder's photos mostly have one size; at 800 × 1088 this is 14 MB
def levels(shapes: tuple[tuple[int, int], ...], heads: int, points: int, device: torch.device) -> Levels:
    """The geometry of levels of these (h, w), reference points at the pixel centres of each level.

    The padded value map gives each level a border of zeros, so that samples outside it need no test: one line above,
    two below, and one column left of each line, which is at once the column right of the line before.
    """

    def columns(values: list[int]) -> Tensor:
        return torch.cat([torch.full((points,), v, dtype=torch.float32, device=device) for v in values]).repeat(heads)

    xs, ys = [], []
    for h, w in shapes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        ys.append(y[:, None].expand(h, w).reshape(-1, 1))
        xs.append(x[None].expand(h, w).reshape(-1, 1))
    width, height = columns([w for _, w in shapes]), columns([h for h, _ in shapes])
    line = 0 if trace.is_exporting() else max(w for _, w in shapes) + 1  # sampling by definition has no border
    sizes = [(h + 3) * line + 2 for h, _ in shapes]
    starts = tuple(sum(sizes[:i]) for i in range(len(sizes)))
    head = torch.arange(heads, dtype=torch.float32, device=device).repeat_interleave(len(shapes) * points)
    return Levels(
        shapes=shapes,
        x=torch.cat(xs) * width - 0.5,
        y=torch.cat(ys) * height - 0.5,
        width=width,
        height=height,
        first=(columns(list(starts)) + line + 1) * heads + head,
        starts=starts,
        line=line,
        positions=sum(sizes),
    )


class DeformableAttention(nn.Module):
    """Each of the S positions of all levels attends to `num_points` learned places around it on every level."""

    def __init__(self, dim: int, num_heads: int, num_levels: int = 3, num_points: int = 4) -> None:
        super().__init__()
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.sampling_offsets = Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = Linear(dim, dim)
        self.output_proj = Linear(dim, dim)

    def forward(self, memory: Tensor, positions: Tensor, geometry: Levels) -> Tensor:
        """memory [B, S, D]; positions [S, D], which are added to it for the queries alone -> [B, S, D]."""
        values = self.value_proj(memory)
        x, y, logits = self._project(memory, positions)
        # Places and weights are fp32 whatever the model's dtype: bf16 has no fractions beyond 256 pixels.
        trace.save("sampling", lambda: _locations(x.float(), y.float(), geometry).unflatten(2, (self.num_heads, -1)))
        trace.save("sampling_weights", lambda: logits.float().unflatten(-1, (self.num_heads, -1)).softmax(-1))
        if values.device.type == "cpu" and not trace.is_exporting():
            sampled = _SampleRows.apply(values, x, y, logits, self.num_heads, geometry)
        else:
            sampled = _sample_grid(values, x, y, logits, self.num_heads, geometry)
        return self.output_proj(sampled.to(values.dtype))

    def _project(self, memory: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> x and y offsets in pixels, and weight logits, each [B, S, C]; one product for all three.

        The offsets' weights hold x and y in turn; sorted apart, both come out as columns.
        """
        offsets, weights = self.sampling_offsets, self.attention_weights
        weight = torch.cat((offsets.weight[0::2], offsets.weight[1::2], weights.weight))
        bias = torch.cat((offsets.bias[0::2], offsets.bias[1::2], weights.bias))
        if torch.is_grad_enabled():  # the backward pass keeps `memory` for the values anyhow, and no sum beside it
            product = linear(memory, weight).add_(linear(positions, weight, bias))
        else:
            product = linear(memory + positions, weight, bias)
        x, y, logits = product.chunk(3, dim=-1)
        return x, y, logits


def _locations(x: Tensor, y: Tensor, geometry: Levels) -> Tensor:
    """Offsets [B, S, C] -> sampling points in [0, 1] of the image [B, S, C, 2]."""
    x = (x + geometry.x + 0.5) / geometry.width
    y = (y + geometry.y + 0.5) / geometry.height
    return torch.stack((x, y), -1)


def _sample_grid(values: Tensor, x: Tensor, y: Tensor, logits: Tensor, heads: int, geometry: Levels) -> Tensor:
    """The definition: values [B, S, D], offsets x and y and weight logits [B, S, C] -> [B, S, D] in fp32."""
    batch, positions, _ = x.shape
    weights = logits.float().unflatten(-1, (heads, -1)).softmax(-1)  # [B, S, heads, L·P]
    grid = 2 * _locations(x.float(), y.float(), geometry) - 1
    grid = grid.unflatten(2, (heads, len(geometry.shapes), -1))  # [B, S, heads, L, P, 2]
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
    """The same function as a weighted sum of rows, on a CPU.

    Nothing but the arguments is kept for the backward pass: indices and factors are 24 times as large as the output,
    and making them again costs less than reading them back.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, y: Tensor, logits: Tensor, heads: int, geometry: Levels) -> Tensor:
        """-> [B, S, D] in fp32 (fp64 for fp64 values)."""
        ctx.save_for_backward(values, x, y, logits)
        ctx.heads, ctx.geometry = heads, geometry
        batch, positions, dim = values.shape
        out = torch.empty(batch, positions, dim, dtype=_precision(values))
        padded = _bordered(out, geometry)
        rows = padded.view(-1, dim // heads)
        for b in range(batch):
            _pad_levels(values[b], padded, geometry)
            for i in range(0, positions, CHUNK):
                part = slice(i, i + CHUNK)
                row, right, bottom = _places(x[b, part].to(out.dtype), y[b, part].to(out.dtype), heads, geometry, part)
                indices = _corner_indices(row, heads, geometry)
                factors = _corner_factors(_weights(logits[b, part], heads, out.dtype), right, bottom, heads)
                out[b, part] = weighted_rows(rows, indices.flatten(1), factors.flatten(1)).view(-1, dim)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        """grad [B, S, D] -> gradients of values, x, y and logits, each in its own dtype."""
        values, x, y, logits = ctx.saved_tensors
        heads: int = ctx.heads
        geometry: Levels = ctx.geometry
        batch, positions, dim = values.shape
        whole = slice(0, positions)
        padded = _bordered(grad, geometry)
        rows = padded.view(-1, dim // heads)
        grads = tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (values, x, y, logits))
        for b in range(batch):
            _pad_levels(values[b], padded, geometry)
            row, right, bottom = _places(x[b].to(grad.dtype), y[b].to(grad.dtype), heads, geometry, whole)
            weights = _weights(logits[b], heads, grad.dtype)
            indices = _corner_indices(row, heads, geometry).flatten(1)
            factors = _corner_factors(weights, right, bottom, heads).flatten(1)
            by_head = grad[b].reshape(indices.shape[0], -1)
            summed = rows_gradient(by_head, rows.shape[0], indices, factors)
            _unpad_levels(summed.view_as(padded), grads[0][b], geometry)
            by_corner = factors_gradient(by_head, rows, indices).view(positions, heads, 4, -1)
            grad_weights, grad_x, grad_y = _corner_gradients(by_corner, weights, right, bottom)
            grads[1][b] = grad_x.mul_(_inside(x[b], geometry.x, geometry.width))
            grads[2][b] = grad_y.mul_(_inside(y[b], geometry.y, geometry.height))
            # Of the softmax: each weight's own gradient, less what all weights of its head share.
            shares, grad_weights = (t.view(positions, heads, -1) for t in (weights, grad_weights))
            common = (shares * grad_weights).sum(-1, keepdim=True)
            grads[3][b] = (shares * (grad_weights - common)).flatten(1)
        return *grads, None, None  # type: ignore[return-value]


def _precision(values: Tensor) -> torch.dtype:
    """Sums, places and weights are fp32 behind a bf16 network; fp64 is for checking gradients."""
    return torch.promote_types(values.dtype, torch.float32)


def _bordered(like: Tensor, geometry: Levels) -> Tensor:
    """A map for values as wide as `like` [positions, D]: zero where a sample can read around a level, the rest is for
    the values to fill, or never read."""
    padded = like.new_empty(geometry.positions, like.shape[-1])
    for (h, w), start in zip(geometry.shapes, geometry.starts, strict=True):
        level = padded[start : start + (h + 3) * geometry.line + 2]
        level[: geometry.line] = 0
        level[(h + 1) * geometry.line :] = 0
        lines = level[geometry.line : (h + 1) * geometry.line].view(h, geometry.line, -1)
        lines[:, 0] = 0
        lines[:, w + 1 : w + 3] = 0
    return padded


def _level_lines(padded: Tensor, geometry: Levels) -> list[Tensor]:
    """Views of a bordered map [positions, D], one [h, w, D] a level."""
    views = []
    for (h, w), start in zip(geometry.shapes, geometry.starts, strict=True):
        lines = padded[start : start + (h + 1) * geometry.line].view(h + 1, geometry.line, -1)
        views.append(lines[1:, 1 : w + 1])
    return views


def _pad_levels(values: Tensor, padded: Tensor, geometry: Levels) -> None:
    """Write values [S, D] into the bordered map; the border stays zero."""
    levels_ = values.split([h * w for h, w in geometry.shapes])
    for view, level in zip(_level_lines(padded, geometry), levels_, strict=True):
        view.copy_(level.view(view.shape))


def _unpad_levels(padded: Tensor, values: Tensor, geometry: Levels) -> None:
    """The reverse: a bordered map into values [S, D]."""
    levels_ = values.split([h * w for h, w in geometry.shapes])
    for view, level in zip(_level_lines(padded, geometry), levels_, strict=True):
        level.view(view.shape).copy_(view)


def _places(x: Tensor, y: Tensor, heads: int, geometry: Levels, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Where sampling points lie: row of the pixel left above, and how far right and below it they are in [0, 1).

    Offsets [N, C] of the positions `part` -> rows int32 and two shares, each [N, C]. Points farther outside than one
    pixel are moved to where all their neighbours are border or have no share: their sum stays zero. So are points that
    are no numbers, which have no row; what is wrong still shows in the weights, which come from the same query.
    """
    x = (x + geometry.x[part]).nan_to_num_(-1.0).clamp_(min=-1)
    y = (y + geometry.y[part]).nan_to_num_(-1.0).clamp_(min=-1)
    torch.minimum(x, geometry.width.to(x.dtype), out=x)
    torch.minimum(y, geometry.height.to(y.dtype), out=y)
    left, top = x.floor(), y.floor()
    # Rows are counted in floats like all the rest: exact below 2^24, so for inputs up to 8,000 pixels a side.
    exact = x.dtype if geometry.positions * heads < 1 << 24 else torch.float64
    row = torch.add(geometry.first.to(exact), left, alpha=heads).add_(top, alpha=geometry.line * heads)
    return row.int(), x.sub_(left), y.sub_(top)


def _inside(offsets: Tensor, base: Tensor, size: Tensor) -> Tensor:
    """Which coordinates [S, C] `_places` leaves as they are, and so pass a gradient on."""
    at = offsets + base
    return (at > -1) & (at < size)


def _corner_indices(row: Tensor, heads: int, geometry: Levels) -> Tensor:
    """Rows of the pixels left above, right above, left below, right below each point -> [N·heads, 4, L·P]."""
    row = row.view(row.shape[0] * heads, -1)
    indices = row.new_empty(row.shape[0], 4, row.shape[1])
    for corner, positions in enumerate((0, 1, geometry.line, geometry.line + 1)):
        torch.add(row, positions * heads, out=indices[:, corner])
    return indices


def _weights(logits: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """logits [N, C] -> softmax over each head's columns. torch's own is slow over a dozen elements."""
    logits = logits.to(dtype).unflatten(-1, (heads, -1))
    shares = (logits - logits.amax(-1, keepdim=True)).exp_()
    return shares.div_(shares.sum(-1, keepdim=True)).flatten(1)


def _corner_factors(weights: Tensor, right: Tensor, bottom: Tensor, heads: int) -> Tensor:
    """Attention weight × bilinear weight of the four pixels -> [N·heads, 4, L·P]."""
    below = weights * bottom
    above = weights - below
    below, above, right = (t.view(t.shape[0] * heads, -1) for t in (below, above, right))
    factors = right.new_empty(right.shape[0], 4, right.shape[1])
    torch.mul(below, right, out=factors[:, 3])
    torch.sub(below, factors[:, 3], out=factors[:, 2])
    torch.mul(above, right, out=factors[:, 1])
    torch.sub(above, factors[:, 1], out=factors[:, 0])
    return factors


def _corner_gradients(by_corner: Tensor, weights: Tensor, right: Tensor, bottom: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the four factors [N, heads, 4, L·P] -> of the attention weight, of x and of y, each [N, C]."""
    left_above, right_above, left_below, right_below = (t.flatten(1) for t in by_corner.unbind(2))
    across_above, across_below = right_above - left_above, right_below - left_below
    above = torch.addcmul(left_above, across_above, right)
    down = torch.addcmul(left_below, across_below, right).sub_(above)
    across = across_below.sub_(across_above).mul_(bottom).add_(across_above)
    return torch.addcmul(above, down, bottom), across.mul_(weights), down.mul_(weights)
