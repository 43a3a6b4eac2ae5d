"""What it costs to give an object to a query (Mask2Former, arXiv 2112.01527, §3.3; MaskFormer, arXiv 2107.06278, §4.1;
DETR, arXiv 2005.12872, §3.1).

All in fp32, all [Q, N], none differentiated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.objective.losses import FOCAL_ALPHA


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
    return cross_entropy, _dice(share, truth)


def focal_costs(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The same with the focal loss (arXiv 1708.02002) for the cross-entropy: logits [Q, P], truth [N, P], 0 or 1."""
    points = logits.shape[1]
    share = logits.sigmoid()
    inside = FOCAL_ALPHA * (1 - share) ** 2 * F.softplus(-logits) / points
    outside = (1 - FOCAL_ALPHA) * share**2 * F.softplus(logits) / points
    return outside.sum(1)[:, None] + (inside - outside) @ truth.T, _dice(share, truth)


def _dice(share: Tensor, truth: Tensor) -> Tensor:
    """Probabilities [Q, P], truth [N, P] -> [Q, N]."""
    points = share.shape[1]
    overlap = 2 * (share / points) @ truth.T
    size = share.mean(1)[:, None] + truth.mean(1)[None]
    return 1 - (overlap + 1 / points) / (size + 1 / points)
