"""One update of the weights, from micro-batches to the optimizer, and the state that must survive between updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from segcli.data.loading.draws import torch_generator
from segcli.distributed import Ranks
from segcli.layers.stochastic import per_image
from segcli.objective.criterion import Normalisers
from segcli.objective.pilots import MaskPilots
from segcli.training.ema import WeightAverage
from segcli.training.objectives import objective_of
from segcli.training.optim import (
    Rates,
    Schedule,
    build_optimizer,
    clip_gradients,
    freeze_backbone,
    set_rates,
    training_mode,
)
from segcli.training.recipe import FullRecipe
from segcli.training.teacher import Teacher
from segcli.types import Batch, Target
from segcli.weights.checkpoint import LoadedModel

MicroBatch = tuple[Batch, list[Target]]


@dataclass(frozen=True)
class StepOutcome:
    """The result of one update."""

    loss: float  # weighted sum of the terms of all layers
    terms: dict[str, float]  # of the last layer, unweighted
    gradient: float  # its norm before clipping
    problem: str | None = None  # why the update was skipped


@dataclass
class Learner:
    """A model, its objective and its optimizer; `step` counts updates, also those that were skipped."""

    loaded: LoadedModel
    recipe: FullRecipe
    schedule: Schedule
    lr: float
    ranks: Ranks
    autocast: torch.dtype | None
    step: int = 0
    teacher: Teacher | None = None
    pilots: MaskPilots | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        loss, config = self.recipe.loss, self.loaded.config
        self.criterion = objective_of(config, loss)
        if self.recipe.model.freeze_backbone:
            freeze_backbone(self.loaded.model)
        modules: dict[str, nn.Module] = {"model": self.loaded.model}
        if loss.pilots:
            self.pilots = MaskPilots(config.num_classes, config.hidden_dim).to(self.loaded.device)
            modules["pilots"] = self.pilots
        self.ranks.share_weights(*modules.values())
        self._names = [
            f"{module}.{name}"
            for module in modules
            for name, p in modules[module].named_parameters()
            if p.requires_grad
        ]
        self._parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
        table = self.recipe.schedule
        rates = Rates(
            self.lr, table.backbone_lr, table.layer_decay, table.joint_decay, table.weight_decay, table.decay_all
        )
        self.optimizer = build_optimizer(self.loaded.model, rates, {k: m for k, m in modules.items() if k != "model"})
        self.average = WeightAverage(self.loaded.model, table.ema)
        needs_scaling = self.autocast is torch.float16
        self.scaler = torch.amp.GradScaler(self.loaded.device.type, enabled=needs_scaling)
        self._reach()

    # ------------------------------------------------------------------------------------------------------ one update

    def update(self, parts: Sequence[MicroBatch]) -> StepOutcome:
        """Learn from this rank's micro-batches. What is not finite on any rank is learnt from on none."""
        training_mode(self.loaded.model)
        set_rates(self.optimizer, self.schedule, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        normalisers = self._normalisers([target for _, targets in parts for target in targets])
        names = self._terms
        totals = torch.zeros(1 + len(names))  # loss, and the last layer's terms
        finite = True
        for batch, targets in parts:
            loss, terms, good = self._loss(_to(batch, self.loaded.device), targets, normalisers)
            totals += torch.stack([loss.detach(), *terms]).float().cpu()
            finite = finite and good
            if not finite:
                break
            self.scaler.scale(loss).backward()
        bad, *sums = self.ranks.sum([float(not finite), *totals.tolist()])
        outcome = StepOutcome(sums[0], dict(zip(names, sums[1:], strict=True)), float("nan"))
        self.step += 1
        if bad:
            self._reach()
            return _with(outcome, problem="the loss is not finite")
        outcome = self._apply(outcome)
        self._reach()
        return outcome

    def _reach(self) -> None:
        """The model learns how far the run is."""
        self.loaded.model.query_decoder.reach(self.step / self.schedule.steps)

    def _apply(self, outcome: StepOutcome) -> StepOutcome:
        """Gradients of all ranks -> new weights."""
        self.ranks.sum_gradients(self._parameters)
        self.scaler.unscale_(self.optimizer)
        gradient = clip_gradients(self._parameters, self.recipe.schedule.clip)
        problem, finite = None, math.isfinite(gradient)
        if finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # fp16: a step whose gradients overflowed is left out, the scale lowered
            self.scaler.update()
        if finite:
            self.average.update()
        elif not self.scaler.is_enabled() or self.scaler.get_scale() < 1:  # gradients that nothing needs to enlarge
            problem = "the gradient is not finite"
        self.optimizer.zero_grad(set_to_none=True)
        return _with(outcome, gradient=gradient, problem=problem)

    def _loss(self, batch: Batch, targets: list[Target], normalisers: Normalisers) -> tuple[Tensor, list[Tensor], bool]:
        """One micro-batch forward -> its share of the loss, of the last layer's terms, whether it is finite."""
        device = self.loaded.device
        targets = [_target_to(target, device) for target in targets]
        generators = [self._generator(target.image_id, "network") for target in targets]
        autocast = torch.autocast(device.type, self.autocast) if self.autocast else nullcontext()
        with per_image(generators), autocast:
            pilots = None if self.pilots is None else self.pilots(targets, self._draw)
            layers = self.loaded.model(batch, every_layer=True, pilots=pilots)
        report = self.criterion(layers, targets, self._draw, normalisers)
        terms = [report.terms[name][-1] for name in self.criterion.names]
        if self.teacher is None:
            return report.total, terms, report.finite
        taught = self.teacher.loss(batch, layers[-1], normalisers.masks, self.autocast)
        return report.total + taught, [*terms, taught.detach()], report.finite and bool(taught.isfinite())

    @property
    def _terms(self) -> tuple[str, ...]:
        return (*self.criterion.names, "teacher") if self.teacher else self.criterion.names

    def _normalisers(self, targets: Sequence[Target]) -> Normalisers:
        """Of all images of this update, on whichever rank and in whichever micro-batch they are."""
        own = self.criterion.normalisers(targets, self.loaded.config.num_queries)
        masks, classes = self.ranks.sum([own.masks, own.classes])
        return Normalisers(masks, classes).shared()

    def _generator(self, image_id: str, purpose: str) -> torch.Generator:
        return torch_generator(self.recipe.run.seed, self.step, image_id, purpose)

    def _draw(self, image_id: str, purpose: str, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self._generator(image_id, purpose))

    # ----------------------------------------------------------------------------------------------------------- state

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, by name."""
        state = {f"model.{name}": tensor for name, tensor in self.loaded.model.state_dict().items()}
        if self.pilots is not None:
            state |= {f"pilots.{name}": tensor for name, tensor in self.pilots.state_dict().items()}
        state |= {f"ema.{name}": tensor for name, tensor in self.average.state().items()}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"optimizer.{key}.{name}"] = value
        return state

    def numbers(self) -> dict[str, Any]:
        """The rest of it, as JSON."""
        return {"step": self.step, "ema_updates": self.average.updates, "scaler": self.scaler.state_dict()}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Continue from what `tensors` and `numbers` gave."""
        self.step = int(numbers["step"])
        self.loaded.model.load_state_dict(_part(tensors, "model."))
        if self.pilots is not None:
            self.pilots.load_state_dict(_part(tensors, "pilots."))
        self.average.load(_part(tensors, "ema."), int(numbers["ema_updates"]))
        self._reach()
        if numbers["scaler"]:
            self.scaler.load_state_dict(numbers["scaler"])
        for name, parameter in zip(self._names, self._parameters, strict=True):
            keys = ("step", "exp_avg", "exp_avg_sq")
            found = {key: tensors[f"optimizer.{key}.{name}"] for key in keys if f"optimizer.{key}.{name}" in tensors}
            if found:
                device = parameter.device
                self.optimizer.state[parameter] = {key: value.to(device) for key, value in found.items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _with(outcome: StepOutcome, **changes: Any) -> StepOutcome:
    return StepOutcome(**{**outcome.__dict__, **changes})


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.images.to(device, non_blocking=True), batch.padding.to(device), batch.sizes)


def _target_to(target: Target, device: torch.device) -> Target:
    if device.type == "cpu":
        return target
    moved = {
        name: getattr(target, name).to(device, non_blocking=True) for name in ("labels", "masks", "boxes", "crowd")
    }
    return Target(**moved, image_id=target.image_id)


def trainable(model: nn.Module) -> int:
    """Numbers that can be learnt."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
