"""AdamW with the paper's parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW

ScheduleName = Literal["poly", "step", "constant"]
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
# Learned tables that are looked up or added, never multiplied with an activation: decay would pull them to nothing.
_EMBEDDINGS = ("query_features", "query_positions", "level_embed", "bias_table")


@dataclass(frozen=True)
class Schedule:
    """Factor on every learning rate at a step.

    name: poly falls to zero as (1 - step/steps)^power; step multiplies by `gamma` at each milestone.
    milestones: shares of the run in (0, 1).
    """

    name: ScheduleName
    steps: int
    warmup: int = 0
    warmup_factor: float = 0.001
    power: float = 0.9
    milestones: tuple[float, ...] = (0.889, 0.963)
    gamma: float = 0.1

    def factor(self, step: int) -> float:
        """The factor for the update that follows `step` finished ones."""
        value = 1.0
        if self.name == "poly":
            value = max(0.0, 1 - step / self.steps) ** self.power
        elif self.name == "step":
            value = self.gamma ** sum(step >= math.floor(share * self.steps) for share in self.milestones)
        if step < self.warmup:
            share = step / self.warmup
            value *= self.warmup_factor * (1 - share) + share
        return value


def scaled_lr(lr: float, reference_batch: int, batch: int) -> float:
    """The learning rate for another batch size: with the square root of their ratio, the rule for Adam's family.

    Adam divides by the gradient's standard deviation, which shrinks with the root of the batch (arXiv 2205.10287);
    the linear rule of SGD would overshoot. reference_batch 0: the rate is meant as it is.
    """
    if not reference_batch:
        return lr
    return lr * math.sqrt(batch / reference_batch)


def build_optimizer(modules: Mapping[str, nn.Module], lr: float, backbone_factor: float, weight_decay: float) -> AdamW:
    """AdamW over the parameters that want a gradient; every group keeps its own base rate as `base_lr`.

    modules: the network as "model", and what else is trained along.
    Norms, biases and embeddings are not decayed; the backbone learns `backbone_factor` times as fast.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for prefix, module in modules.items():
        for name, parameter, decays in _parameters(module):
            in_backbone = prefix == "model" and name.startswith("backbone.")
            groups.setdefault((in_backbone, decays), []).append(parameter)
    options: list[dict[str, Any]] = []
    for (in_backbone, decays), parameters in sorted(groups.items(), key=lambda item: item[0]):
        base = lr * backbone_factor if in_backbone else lr
        options.append(
            {"params": parameters, "lr": base, "base_lr": base, "weight_decay": weight_decay if decays else 0.0}
        )
    fused = all(p.device.type in ("cpu", "cuda") for group in options for p in group["params"])
    return AdamW(options, lr=lr, fused=fused)


def set_rates(optimizer: AdamW, factor: float) -> None:
    """Every group's learning rate = its base × `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> float:
    """Scale all gradients so that their common norm is at most `limit` (0 = leave them); -> the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf, foreach=None)
    return float(norm)


def freeze_backbone(model: nn.Module) -> None:
    """The backbone keeps its weights."""
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            parameter.requires_grad_(False)


def training_mode(model: nn.Module) -> None:
    """Training mode, but a BatchNorm keeps its stored statistics: batches here are too small for their own."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Name, parameter, whether weight decay applies."""
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            plain = isinstance(module, (*_NORMS, nn.Embedding)) or name.endswith("bias") or name in _EMBEDDINGS
            yield f"{prefix}.{name}".lstrip("."), parameter, not plain
