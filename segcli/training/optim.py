"""AdamW with the paper's parameter groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import AdamW

from segcli.models.segmenter import Segmenter

ScheduleName = Literal["poly", "step", "constant", "warm-poly"]
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
# Learned tables that are looked up or added, never multiplied with an activation: decay would pull them to nothing.
_EMBEDDINGS = (
    "query_features", "query_positions", "level_embed", "bias_table", "positions", "class_token", "registers",
)  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """Factor on every learning rate at a step.

    name: poly falls to zero as (1 - step/steps)^power; step multiplies by `gamma` at each milestone. warm-poly (EoMT)
        rises from zero over the warm-up and is poly over the steps that remain; the backbone rests in the meantime,
        then has a warm-up of its own and the steps that remain after that.
    milestones: shares of the run in (0, 1).
    """

    name: ScheduleName
    steps: int
    warmup: int = 0
    backbone_warmup: int = 0  # warm-poly
    warmup_factor: float = 0.001
    power: float = 0.9
    milestones: tuple[float, ...] = (0.889, 0.963)
    gamma: float = 0.1

    def factor(self, step: int, backbone: bool = False) -> float:
        """The factor for the update that follows `step` finished ones, of the backbone or of the rest."""
        if self.name == "warm-poly":
            first = self.warmup if backbone else 0
            return self._warm(step, first, self.backbone_warmup if backbone else self.warmup)
        value = 1.0
        if self.name == "poly":
            value = max(0.0, 1 - step / self.steps) ** self.power
        elif self.name == "step":
            value = self.gamma ** sum(step >= math.floor(share * self.steps) for share in self.milestones)
        if step < self.warmup:
            share = step / self.warmup
            value *= self.warmup_factor * (1 - share) + share
        return value

    def _warm(self, step: int, first: int, rising: int) -> float:
        """Nothing until `first`, up over `rising` steps, and down over those that remain."""
        begun = step - first
        if begun < rising:
            return max(0.0, begun / rising)
        return max(0.0, 1 - (begun - rising) / max(1, self.steps - first - rising)) ** self.power


def scaled_lr(lr: float, reference_batch: int, batch: int) -> float:
    """The learning rate for another batch size: with the square root of their ratio, the rule for Adam's family.

    Adam divides by the gradient's standard deviation, which shrinks with the root of the batch (arXiv 2205.10287);
    the linear rule of SGD would overshoot. reference_batch 0: the rate is meant as it is.
    """
    if not reference_batch:
        return lr
    return lr * math.sqrt(batch / reference_batch)


@dataclass(frozen=True)
class Rates:
    """How fast which weights learn, as a recipe's [schedule] has it."""

    lr: float
    backbone_lr: float = 1.0  # of the backbone's last layer, as a share of lr
    layer_decay: float = 1.0  # each of its layers learns so much as fast as the next
    joint_decay: bool = True  # …, also those that lie in the query decoder
    weight_decay: float = 0.0
    decay_all: bool = False  # norms, biases and embeddings too

    def of_backbone(self, model: Segmenter) -> dict[nn.Parameter, float]:
        """The rate of every weight of the backbone, wherever in the model it lies."""
        layers = model.backbone_layers()
        decaying = len(layers) if self.joint_decay else len(model.backbone.layers())
        rates = [self.backbone_lr * self.layer_decay ** max(0, decaying - 1 - index) for index in range(decaying)]
        rates += [self.backbone_lr] * (len(layers) - decaying)
        return {weight: self.lr * rate for layer, rate in zip(layers, rates, strict=True) for weight in layer}


def build_optimizer(model: Segmenter, rates: Rates, others: Mapping[str, nn.Module] | None = None) -> AdamW:
    """AdamW over the parameters that want a gradient; every group keeps its own base rate as `base_lr`, and whether it
    is of the backbone.

    others: what else is trained along. Norms, biases and embeddings are not decayed, unless the rates say so.
    """
    backbone = rates.of_backbone(model)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for module in (model, *(others or {}).values()):
        for parameter, decays in _parameters(module):
            key = (parameter in backbone, backbone.get(parameter, rates.lr), decays or rates.decay_all)
            groups.setdefault(key, []).append(parameter)
    options: list[dict[str, Any]] = []
    for (in_backbone, base, decays), parameters in sorted(groups.items(), key=lambda item: item[0]):
        decay = rates.weight_decay if decays else 0.0
        options.append(
            {"params": parameters, "lr": base, "base_lr": base, "backbone": in_backbone, "weight_decay": decay}
        )
    fused = all(p.device.type in ("cpu", "cuda") for group in options for p in group["params"])
    return AdamW(options, lr=rates.lr, fused=fused)


def set_rates(optimizer: AdamW, schedule: Schedule, step: int) -> None:
    """Every group's learning rate for the update that follows `step` finished ones."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * schedule.factor(step, group["backbone"])


def clip_gradients(parameters: list[nn.Parameter], limit: float) -> float:
    """Scale all gradients so that their common norm is at most `limit` (0 = leave them); -> the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf, foreach=None)
    return float(norm)


def freeze_backbone(model: Segmenter) -> None:
    """The backbone keeps its weights."""
    for layer in model.backbone_layers():
        for parameter in layer:
            parameter.requires_grad_(False)


def training_mode(model: nn.Module) -> None:
    """Training mode, but a BatchNorm keeps its stored statistics: batches here are too small for their own."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Parameters that learn, and whether weight decay applies to them."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            plain = isinstance(module, (*_NORMS, nn.Embedding)) or name.endswith("bias") or name in _EMBEDDINGS
            yield parameter, not plain
