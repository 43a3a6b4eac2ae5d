"""Bilinear resizing as banded matrices, applied tile by tile.

Bringing mask logits L from stride 4 to the photo is three linear steps: upsample to the padded input, crop the padding
off, resize to the photo. Per axis their composition is one matrix with at most a few non-zeros in a row, so the result
is `A_y · L · A_xᵀ`, and a tile of it needs only the small blocks of A_y and A_x, and of L, that it reads. The blocks
are dense and a matrix product, which on a CPU is several times faster than `F.interpolate` of the same pixels, and no
full-size float array ever exists.

Rows of the matrices are convex weights: a tile's values lie between the extremes of the inputs it reads (`extremes`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Band(NamedTuple):
    """One stretch of one axis: outputs `out` are `weights` [outputs, inputs] times inputs `source`."""

    out: slice
    source: slice
    weights: Tensor

    @property
    def length(self) -> int:
        return self.out.stop - self.out.start


def axis_matrix(size: int, *steps: tuple[int, int]) -> Tensor:
    """The matrix [outputs, size] of consecutive steps (resize to, then keep the first), from `size` inputs.

    Each step is `F.interpolate(mode="bilinear", align_corners=False)` along one axis, then a crop. Resizing the
    identity asks torch itself for the weights, so they are its own to the last bit.
    """
    matrix = torch.eye(size).unsqueeze(0)
    for length, kept in steps:
        if length != matrix.shape[-1]:
            matrix = F.interpolate(matrix, size=length, mode="linear", align_corners=False)
        matrix = matrix[..., :kept]
    return matrix[0].t()


def bands(matrix: Tensor, outputs: Sequence[slice]) -> list[Band]:
    """The blocks of a banded matrix [outputs, inputs] that belong to some stretches of its outputs."""
    result = []
    for out in outputs:
        rows = matrix[out]
        used = rows.amax(0).nonzero()  # weights are never negative
        source = slice(int(used[0]), int(used[-1]) + 1)
        result.append(Band(out, source, rows[:, source].contiguous()))
    return result


def resample(block: Tensor, y: Band, x: Band) -> Tensor:
    """One tile of resized maps from the block [..., y inputs, x inputs] it reads -> [..., y outputs, x outputs]."""
    return y.weights @ (block @ x.weights.t())


def extremes(maps: Tensor, rows: Sequence[slice], columns: Sequence[slice]) -> tuple[Tensor, Tensor]:
    """Least and greatest value of maps [N, h, w] in each window rows × columns -> two [N, rows, columns]."""
    low, high = maps, maps
    for axis, windows in ((1, rows), (2, columns)):
        low = torch.stack([low.narrow(axis, w.start, w.stop - w.start).amin(axis) for w in windows], axis)
        high = torch.stack([high.narrow(axis, w.start, w.stop - w.start).amax(axis) for w in windows], axis)
    return low, high
