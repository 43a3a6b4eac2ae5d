"""At which points masks are compared: at random for matching, at uncertain places for the loss (PointRend, arXiv
1912.08193, §3.3; Mask2Former, arXiv 2112.01527, §3.3.2)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from segcli.layers.points import sample

# Bytes of truth masks turned into floats at once.
TRUTH_BYTES = 16 << 20


class Draw(Protocol):
    """Where random numbers come from: uniform in [0, 1), a function of the image, the purpose, and the training step.

    Drawn for an image and not for a batch, so that the same image sees the same points whatever its company.
    """

    def __call__(self, image_id: str, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """-> float32 of this shape."""


def truth_at(masks: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of masks [N, H, W] bool at points [P, 2] -> float32 [N, P]."""
    size = max(1, TRUTH_BYTES // (4 * max(1, masks[0].numel()))) if len(masks) else 1
    parts = [sample(part.unsqueeze(0), points.unsqueeze(0))[0] for part in masks.split(size)]
    return torch.cat(parts) if parts else points.new_zeros(0, points.shape[0])


def candidate_points(draw: Draw, image_id: str, num_points: int, oversample: float, importance: float) -> Tensor:
    """Points to choose from, shared by all masks and layers of an image -> [oversample · P + random ones, 2].

    The first `oversample · P` compete by uncertainty, the rest are taken as they are (`uncertain_points`).
    """
    count = int(num_points * oversample) + num_points - int(num_points * importance)
    return draw(image_id, "loss-points", (count, 2))


@torch.no_grad()
def uncertain_points(logits: Tensor, num_points: int, oversample: float, importance: float) -> Tensor:
    """Which candidates each mask is compared at: logits [M, candidates] -> indices [M, P].

    `importance` of them are those whose logits are nearest zero, the rest are the last candidates.
    """
    competing, chosen = int(num_points * oversample), int(num_points * importance)
    uncertain = _smallest(logits[:, :competing].abs(), chosen)
    others = torch.arange(competing, logits.shape[1], device=logits.device).expand(len(logits), -1)
    return torch.cat((uncertain, others), dim=1)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Where the `count` smallest of each row of values [M, N] are, in no order -> [M, count]."""
    if values.device.type == "cpu" and 0 < count < values.shape[1]:
        # NumPy divides with the processor's wide registers, in a quarter of the time of topk.
        return torch.from_numpy(np.argpartition(values.float().numpy(), count - 1, axis=1)[:, :count])
    return values.topk(count, dim=1, largest=False, sorted=False).indices


def chosen(values: Tensor, at: Tensor) -> Tensor:
    """values [M, N] at indices [M, P] -> [M, P]: `gather`, whose own backward pass keeps all values for their shape."""
    picked: Tensor = _Chosen.apply(values, at)
    return picked


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, at: Tensor) -> Tensor:
        ctx.shape = values.shape
        ctx.save_for_backward(at.int())
        return values.gather(1, at)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (at,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).scatter_add_(1, at.long(), gradient), None
