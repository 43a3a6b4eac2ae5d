"""Per-pixel classification's loss (the baselines of arXiv 2107.06278, §4.1): cross-entropy of every labelled pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.objective.criterion import LossReport, Normalisers
from segcli.objective.sampling import Draw
from segcli.types import QueryPredictions, Target

IGNORED = -1


@dataclass(frozen=True)
class PixelCriterion:
    """Query k is class k, so nothing is matched: its mask logits are the pixel's logits of that class."""

    weight: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return ("pixel",)

    def normalisers(self, targets: Sequence[Target], num_queries: int) -> Normalisers:
        """The labelled pixels."""
        return Normalisers(float(sum(int(target.masks.any(0).sum()) for target in targets)), 0.0)

    def __call__(
        self,
        layers: Sequence[QueryPredictions],
        targets: Sequence[Target],
        draw: Draw,
        normalisers: Normalisers | None = None,
    ) -> LossReport:
        """The loss of every layer's predictions; without `normalisers` the batch stands for itself."""
        if normalisers is None:
            normalisers = self.normalisers(targets, layers[0].classes.shape[1]).shared()
        wanted = torch.stack([label_map(target) for target in targets])
        with torch.autocast(wanted.device.type, enabled=False):
            losses = []
            for layer in layers:
                assert layer.masks is not None
                logits = layer.masks.resized((wanted.shape[1], wanted.shape[2])).float()  # [B, K, H, W]
                losses.append(F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum"))
            terms = torch.stack(losses) / normalisers.masks
            total = self.weight * terms.sum()
        return LossReport(total, {"pixel": terms.detach()}, [], bool(torch.isfinite(total)))


def label_map(target: Target) -> Tensor:
    """The class of every pixel, int64 [H, W], `IGNORED` where there is none. Objects lie over crowd regions."""
    labels = target.masks.new_full(target.masks.shape[1:], IGNORED, dtype=torch.int64)
    for index in torch.argsort(target.crowd.int(), descending=True, stable=True).tolist():
        labels[target.masks[index]] = target.labels[index]
    return labels
