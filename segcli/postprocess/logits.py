"""Mask logits of segments kept at the network's stride, for edges finer than a binary mask."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from segcli.layers.resample import axis_matrix
from segcli.types import Frame, MergeRule


class MaskLogits:
    """The logits of N segments, 0 where a mask ends; `segcli.segments.Segments.soft`.

    coarse: [Q, h, w], of the network's stride. rows: [N], which of them is a segment's. frame: how they become the
    photo's.
    """

    def __init__(self, coarse: Tensor, rows: np.ndarray, frame: Frame, rule: MergeRule | None = None) -> None:
        self._coarse, self._rows, self._frame = coarse, rows, frame
        least = 0.5 if rule is None or rule.mask_min is None else min(max(rule.mask_min, 1e-3), 1 - 1e-3)
        self._zero = math.log(least / (1 - least))

    def crop(self, index: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """float32 [h, w] of one segment in the photo's pixels x0, y0, x1, y1."""
        x0, y0, x1, y1 = box
        rows, columns = self._axes
        logits = rows[y0:y1] @ self._coarse[int(self._rows[index])] @ columns[x0:x1].t()
        return (logits - self._zero).numpy()

    def filter(self, keep: np.ndarray) -> MaskLogits:
        """Those of the segments where `keep` (bool [N]) is true."""
        kept = MaskLogits(self._coarse, self._rows[keep], self._frame)
        kept._zero = self._zero
        return kept

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        """The matrices of both axes, [H, h] and [W, w]."""
        matrices = []
        for axis, size in enumerate(self._coarse.shape[1:]):
            original, resized, padded = (getattr(self._frame, name)[axis] for name in ("original", "resized", "padded"))
            matrices.append(axis_matrix(size, (padded, resized), (original, original)))
        return matrices[0], matrices[1]


def strongest(logits: Tensor, segments: list[list[int]]) -> Tensor:
    """Logits [Q, h, w] of queries -> [N, h, w] of segments, which several queries may make up."""
    if not segments:
        return logits[:0]
    return torch.stack([logits[members].amax(0) for members in segments])
