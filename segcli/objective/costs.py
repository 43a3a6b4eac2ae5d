"""What it costs to give an object to a query (Mask2Former, arXiv 2112.01527, §3.3; DETR, arXiv 2005.12872, §3.1).

All in fp32, all [Q, N], none differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor


def class_cost(classes: Tensor, labels: Tensor) -> Tensor:
    """classes [Q, K + 1] logits, labels [N] -> minus the probability of each object's class."""
    return -classes.float().softmax(-1)[:, labels]


def mask_costs(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Every query's mask against every object's at shared points: logits [Q, P], truth [N, P] in [0, 1].

    -> (mean binary cross-entropy, dice) of each pair. With softplus(-x) = softplus(x) - x the cross-entropy needs one
    softplus a query, and softplus(x) = max(x, 0) - log max(σ(x), 1 - σ(x)) shares its exponential with the dice term.
    Means are taken before the products: sums over thousands of points would overflow in half precision.
    """
    points = logits.shape[1]
    share = logits.sigmoid()
    softplus = (logits.clamp(min=0) - torch.maximum(share, 1 - share).log()).mean(1)  # [Q]
    cross_entropy = softplus[:, None] - (logits / points) @ truth.T
    overlap = 2 * (share / points) @ truth.T
    size = share.mean(1)[:, None] + truth.mean(1)[None]
    dice = 1 - (overlap + 1 / points) / (size + 1 / points)
    return cross_entropy, dice
