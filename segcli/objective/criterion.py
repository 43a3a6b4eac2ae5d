"""The loss of a training step (DETR, arXiv 2005.12872, §3.1; MaskFormer; Mask2Former, arXiv 2112.01527, §3.3): match,
then compare the pairs, at every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from segcli.objective.costs import class_cost
from segcli.objective.losses import class_loss
from segcli.objective.matcher import Match, assign
from segcli.objective.sampling import Draw
from segcli.objective.terms import Compared, Terms
from segcli.types import QueryPredictions, Target


@dataclass(frozen=True)
class Normalisers:
    """What sums of losses are divided by. Both follow from the targets alone, so a loop can add them up over the parts
    of an accumulated batch and over ranks before the first forward pass; then parts and whole agree.
    """

    masks: float  # objects
    classes: float  # class weights of all queries: 1 for one that gets an object, `no_object` for the others

    def __add__(self, other: Normalisers) -> Normalisers:
        return Normalisers(self.masks + other.masks, self.classes + other.classes)

    def shared(self, ranks: int = 1) -> Normalisers:
        """For one of `ranks` whose gradients are averaged, from the sums over all of them; at least one mask."""
        return Normalisers(max(self.masks, 1.0) / ranks, self.classes / ranks)


@dataclass(frozen=True)
class LossReport:
    """One batch's loss.

    total: scalar, weighted; to be differentiated
    terms: unweighted, normalised, detached; one value a prediction layer, [L] each: "class", those of the objective's
        `Terms`, and with pilots each of them again as "pilot_…"
    matches: L × B
    finite: whether every cost and the total are; a batch that is not should not be learnt from
    """

    total: Tensor
    terms: dict[str, Tensor]
    matches: list[list[Match]]
    finite: bool


class Objective(Protocol):
    """What a network is trained for. names: of its terms, as in `LossReport.terms`."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def normalisers(self, targets: Sequence[Target], num_queries: int) -> Normalisers:
        """Of these images alone; add those of others, then call `shared`."""

    def __call__(
        self,
        layers: Sequence[QueryPredictions],
        targets: Sequence[Target],
        draw: Draw,
        normalisers: Normalisers | None = None,
    ) -> LossReport:
        """The loss of every layer's predictions; without `normalisers` the batch stands for itself."""


@dataclass(frozen=True)
class SetCriterion:
    """Hungarian matching and the losses of the matched pairs, summed over the prediction layers.

    Crowd regions are no objects: they are left out, as in the originals.
    terms: what queries and objects are compared by, beside classes.
    """

    num_classes: int
    terms: tuple[Terms, ...]
    class_weight: float = 2.0
    no_object: float = 0.1

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._weights)

    @property
    def _weights(self) -> dict[str, float]:
        return {"class": self.class_weight} | {name: w for terms in self.terms for name, w in terms.weights.items()}

    def normalisers(self, targets: Sequence[Target], num_queries: int) -> Normalisers:
        """Of these images alone; add those of others, then call `shared`."""
        counts = [int((~target.crowd).sum()) for target in targets]
        matched = sum(min(count, num_queries) for count in counts)
        rest = num_queries * len(targets) - matched
        return Normalisers(float(sum(counts)), matched + self.no_object * rest)

    def __call__(
        self,
        layers: Sequence[QueryPredictions],
        targets: Sequence[Target],
        draw: Draw,
        normalisers: Normalisers | None = None,
    ) -> LossReport:
        """The loss of every layer's predictions; without `normalisers` the batch stands for itself."""
        targets = [without_crowd(target) for target in targets]
        if normalisers is None:
            normalisers = self.normalisers(targets, layers[0].classes.shape[1]).shared()
        with torch.autocast(layers[0].classes.device.type, enabled=False):
            return self._report(layers, targets, draw, normalisers)

    @torch.no_grad()
    def costs(self, prediction: QueryPredictions, targets: Sequence[Target], draw: Draw) -> list[dict[str, Tensor]]:
        """What each pair of query and object of each image costs: weighted, [Q, N] each, by name."""
        targets = [without_crowd(target) for target in targets]
        compared = [terms.images([prediction], targets, draw) for terms in self.terms]
        return [
            self._costs([classes], target, [image[b] for image in compared])[0]
            for b, (classes, target) in enumerate(zip(prediction.classes, targets, strict=True))
        ]

    def _report(
        self, layers: Sequence[QueryPredictions], targets: list[Target], draw: Draw, normalisers: Normalisers
    ) -> LossReport:
        piloted = [layer.piloted for layer in layers if layer.piloted is not None]
        every = [*layers, *piloted]
        count = len(layers)
        compared = [terms.images(every, targets, draw) for terms in self.terms]
        pairs, finite = [], True
        sums: dict[str, list[Tensor]] = {}
        for b, target in enumerate(targets):
            image = [part[b] for part in compared]
            found, good = self._match([p.classes[b] for p in layers], target, image)
            own = torch.arange(len(target.labels), device=target.labels.device)
            found += [Match(own, own)] * len(piloted)  # pilots need no matching
            for part in image:
                for name, loss in part.losses(found).items():
                    sums.setdefault(name, []).append(loss)
            pairs.append(found)
            finite = finite and good
        matches = [[found[i] for found in pairs] for i in range(len(every))]
        losses = {name: torch.stack(parts).sum(0) / normalisers.masks for name, parts in sums.items()}
        parts = {"class": self._classes(layers, matches[:count], targets) / normalisers.classes}
        parts |= {name: loss[:count] for name, loss in losses.items()}
        if piloted:
            classes = self._classes(piloted, matches[count:], targets, ignore_rest=True)
            parts["pilot_class"] = classes / normalisers.masks
            parts |= {f"pilot_{name}": loss[count:] for name, loss in losses.items()}
        weights = self._weights
        total = torch.stack([weights[name.removeprefix("pilot_")] * part.sum() for name, part in parts.items()]).sum()
        finite = finite and bool(torch.isfinite(total))
        return LossReport(total, {name: part.detach() for name, part in parts.items()}, matches[:count], finite)

    @torch.no_grad()
    def _match(self, classes: list[Tensor], target: Target, compared: Sequence[Compared]) -> tuple[list[Match], bool]:
        """The assignment of every layer, classes [Q, K + 1] each -> L matches, and whether all costs are finite."""
        if not len(target.labels):
            none = torch.zeros(0, dtype=torch.int64, device=target.labels.device)
            return [Match(none, none)] * len(classes), True
        costs = [torch.stack(list(terms.values())).sum(0) for terms in self._costs(classes, target, compared)]
        return [assign(cost) for cost in costs], all(bool(torch.isfinite(cost).all()) for cost in costs)

    def _costs(self, classes: list[Tensor], target: Target, compared: Sequence[Compared]) -> list[dict[str, Tensor]]:
        """The weighted costs of one image, by name; one dictionary a layer."""
        weights = self._weights
        costs = [{"class": self.class_weight * class_cost(part, target.labels)} for part in classes]
        for part in compared:
            for layer, found in zip(costs, part.costs(len(classes)), strict=True):
                layer |= {name: weights[name] * cost for name, cost in found.items()}
        return costs

    def _classes(
        self,
        layers: Sequence[QueryPredictions],
        matches: list[list[Match]],
        targets: list[Target],
        ignore_rest: bool = False,
    ) -> Tensor:
        """Summed weighted cross-entropy of each layer -> [L]. Unmatched queries are to say "no object", or nothing."""
        shape, device = layers[0].classes.shape[:2], layers[0].classes.device
        weights = torch.ones(self.num_classes + 1, device=device)
        weights[-1] = 0 if ignore_rest else self.no_object
        sums = []
        for layer, found in zip(layers, matches, strict=True):
            wanted = torch.full(shape, self.num_classes, device=device)
            for b, match in enumerate(found):
                wanted[b, match.queries] = targets[b].labels[match.targets]
            sums.append(class_loss(layer.classes, wanted, weights))
        return torch.stack(sums)


def without_crowd(target: Target) -> Target:
    """The objects that were told apart."""
    if not bool(target.crowd.any()):
        return target
    keep = ~target.crowd
    return replace(
        target,
        labels=target.labels[keep],
        masks=target.masks[keep],
        boxes=target.boxes[keep],
        crowd=target.crowd[keep],
    )
