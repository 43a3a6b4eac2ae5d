"""The losses of a matched pair (arXiv 2112.01527, §3.3; arXiv 2107.06278, §4.1), in fp32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25  # weight of the pixels of an object, beside 1 - 0.25 of the others; the exponent is 2 everywhere


def class_loss(classes: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy, summed: classes [..., K + 1] logits, wanted [...] class indices, weights [K + 1]."""
    return F.cross_entropy(classes.flatten(0, -2).float(), wanted.flatten(), weights, reduction="sum")


def mask_losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """logits [M, P], truth [M, P] in [0, 1] at the same points -> (mean binary cross-entropy, dice), each [M].

    dice = 1 - (2 Σ σ(x) y + 1) / (Σ σ(x) + Σ y + 1), over points (V-Net, arXiv 1606.04797, smoothed by one).
    """
    return _MaskLosses.apply(logits.float(), truth.float())


def focal_losses(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """logits [M, P], truth [M, P] bool -> (mean focal loss (arXiv 1708.02002), dice), each [M]."""
    return _FocalLosses.apply(logits.float(), truth)


class _FocalLosses(torch.autograd.Function):
    """Both losses of masks of every pixel; the backward pass keeps the logits, and the truth at a byte a pixel.

    With z = x inside and -x outside, q = σ(z): focal = α q̄² (-log q), q̄ = 1 - q.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        signed = torch.where(truth, logits, -logits)
        focal = torch.sigmoid(-signed).square_().mul_(F.softplus(-signed)).mul_(_alpha(truth)).mean(1)
        share = logits.sigmoid()
        numerator = 2 * torch.where(truth, share, 0).sum(1) + 1
        denominator = share.sum(1) + truth.sum(1) + 1
        ctx.save_for_backward(logits, truth, numerator, denominator)
        return focal, 1 - numerator / denominator

    @staticmethod
    def backward(ctx: Any, grad_focal: Tensor, grad_dice: Tensor) -> tuple[Tensor, None]:
        logits, truth, numerator, denominator = ctx.saved_tensors
        signed = torch.where(truth, logits, -logits)
        rest = torch.sigmoid(-signed)  # q̄
        # d focal / d z = α q̄² (2 q log q - q̄)
        slope = (2 * (1 - rest)).mul_(-F.softplus(-signed)).sub_(rest).mul_(rest.square()).mul_(_alpha(truth))
        slope = torch.where(truth, slope, -slope).mul_((grad_focal / logits.shape[1])[:, None])
        # d dice / d σ = (N - 2 y D) / D²; σ' = q q̄
        dice = (numerator / denominator**2 * grad_dice)[:, None] - truth * (2 / denominator * grad_dice)[:, None]
        return slope.addcmul_(dice, rest - rest.square()), None


def _alpha(truth: Tensor) -> Tensor:
    return torch.where(truth, FOCAL_ALPHA, 1 - FOCAL_ALPHA)


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
