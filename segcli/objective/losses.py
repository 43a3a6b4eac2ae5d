"""The losses of a matched pair (arXiv 2112.01527, §3.3), in fp32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(classes: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy, summed: classes [..., K + 1] logits, wanted [...] class indices, weights [K + 1]."""
    return F.cross_entropy(classes.flatten(0, -2).float(), wanted.flatten(), weights, reduction="sum")


def mask_losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """logits [M, P], truth [M, P] in [0, 1] at the same points -> (mean binary cross-entropy, dice), each [M].

    dice = 1 - (2 Σ σ(x) y + 1) / (Σ σ(x) + Σ y + 1), over points (V-Net, arXiv 1606.04797, smoothed by one).
    """
    return _MaskLosses.apply(logits.float(), truth.float())


class _MaskLosses(torch.autograd.Function):
    """Both losses from one exponential, and a backward pass that keeps nothing but the probabilities and the truth."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        share = logits.sigmoid()
        # log(1 + exp x) = max(x, 0) - log max(σ(x), 1 - σ(x)), exact also where σ rounds to 0 or 1
        softplus = logits.clamp(min=0).sub_(torch.sub(1, share).maximum(share).log_())
        cross_entropy = softplus.sub_(logits * truth).mean(1)
        numerator = 2 * (share * truth).sum(1) + 1
        denominator = share.sum(1) + truth.sum(1) + 1
        ctx.save_for_backward(share, truth, numerator, denominator)
        return cross_entropy, 1 - numerator / denominator

    @staticmethod
    def backward(ctx: Any, grad_entropy: Tensor, grad_dice: Tensor) -> tuple[Tensor, None]:
        share, truth, numerator, denominator = ctx.saved_tensors
        slope = share * (1 - share)
        # d dice / d σ = (N - 2 y D) / D²
        slope *= (numerator / denominator**2 * grad_dice)[:, None] - truth * (2 / denominator * grad_dice)[:, None]
        return slope.add_((share - truth) * (grad_entropy / share.shape[1])[:, None]), None
