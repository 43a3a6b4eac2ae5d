"""Which query is to become which object: the cheapest one-to-one assignment (DETR, arXiv 2005.12872, §3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True)
class Match:
    """Query queries[i] is to become object targets[i] of its image; both int64 [min(Q, N)]."""

    queries: Tensor
    targets: Tensor


def assign(costs: Tensor) -> Match:
    """The cheapest assignment for costs [Q, N]; a pair whose cost is not finite is taken only if nothing else is left.

    Logits that are not finite are no reason to end a run here: the loss will not be finite either, and is reported.
    """
    costs = torch.nan_to_num(costs, nan=_WORST, posinf=_WORST, neginf=_WORST)
    queries, objects = linear_sum_assignment(costs.cpu().numpy())
    return Match(torch.from_numpy(queries).to(costs.device), torch.from_numpy(objects).to(costs.device))


_WORST = torch.finfo(torch.float32).max
