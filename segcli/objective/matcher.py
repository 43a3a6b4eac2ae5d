"""Which query is to become which object: the cheapest one-to-one assignment (DETR, arXiv 2005.12872, §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from segcli.objective.costs import class_cost, mask_costs
from segcli.objective.sampling import truth_at
from segcli.types import QueryPredictions, Target


@dataclass(frozen=True)
class Match:
    """Query queries[i] is to become object targets[i] of its image; both int64 [min(Q, N)]."""

    queries: Tensor
    targets: Tensor


@dataclass(frozen=True)
class HungarianMatcher:
    """Weights of the three costs, as in the loss."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0

    @torch.no_grad()
    def __call__(
        self, predictions: QueryPredictions, targets: Sequence[Target], points: Sequence[Tensor]
    ) -> list[Match]:
        """The assignment of each image; points B × [P, 2] in [0, 1] of the padded frame."""
        assert predictions.masks is not None
        images = predictions.masks.images()
        matches = []
        for b, (target, at) in enumerate(zip(targets, points, strict=True)):
            every = torch.arange(predictions.classes.shape[1], device=at.device)
            logits = images[b].select(0, every).at(at.unsqueeze(0))[0]
            costs = self.costs(predictions.classes[b], logits, target.labels, truth_at(target.masks, at))
            matches.append(assign(costs))
        return matches

    def costs(self, classes: Tensor, logits: Tensor, labels: Tensor, truth: Tensor) -> Tensor:
        """classes [Q, K + 1], mask logits [Q, P] and truth [N, P] at the same points, labels [N] -> [Q, N]."""
        return sum(self.terms(classes, logits, labels, truth).values(), logits.new_zeros(()))

    def terms(self, classes: Tensor, logits: Tensor, labels: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """The weighted parts that `costs` adds up, by name, [Q, N] each."""
        cross_entropy, dice = mask_costs(logits, truth)
        return {
            "mask": self.mask_weight * cross_entropy,
            "dice": self.dice_weight * dice,
            "class": self.class_weight * class_cost(classes, labels),
        }


def assign(costs: Tensor) -> Match:
    """The cheapest assignment for costs [Q, N]; a pair whose cost is not finite is taken only if nothing else is left.

    Logits that are not finite are no reason to end a run here: the loss will not be finite either, and is reported.
    """
    costs = torch.nan_to_num(costs, nan=_WORST, posinf=_WORST, neginf=_WORST)
    queries, objects = linear_sum_assignment(costs.cpu().numpy())
    return Match(torch.from_numpy(queries).to(costs.device), torch.from_numpy(objects).to(costs.device))


_WORST = torch.finfo(torch.float32).max
