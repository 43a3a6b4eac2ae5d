"""The loss of a training step (Mask2Former, arXiv 2112.01527, §3.3): match, compare at points, at every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segcli.layers.masks import concatenate
from segcli.objective.losses import class_loss, mask_losses
from segcli.objective.matcher import HungarianMatcher, Match, assign
from segcli.objective.sampling import Draw, candidate_points, truth_at, uncertain_points
from segcli.types import Masks, QueryPredictions, Target


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
    terms: unweighted, normalised, detached; one value a prediction layer, [L] each: "class", "mask", "dice", and with
        pilots "pilot_class", "pilot_mask", "pilot_dice"
    matches: L × B
    finite: whether every cost and the total are; a batch that is not should not be learnt from
    """

    total: Tensor
    terms: dict[str, Tensor]
    matches: list[list[Match]]
    finite: bool


@dataclass(frozen=True)
class SetCriterion:
    """Hungarian matching and the losses of the matched pairs, summed over the prediction layers.

    Crowd regions are no objects: they are left out, as in the original. Masks stay factorised: for matching, features
    are sampled once an image at points that all layers share; for the losses only matched masks are multiplied out,
    those of all layers in one product, and each is compared at the places it is least certain of.
    """

    num_classes: int
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object: float = 0.1
    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75

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

    def _report(
        self, layers: Sequence[QueryPredictions], targets: list[Target], draw: Draw, normalisers: Normalisers
    ) -> LossReport:
        piloted = [layer.piloted for layer in layers if layer.piloted is not None]
        every = [*layers, *piloted]
        images = concatenate([p.masks for p in every if p.masks is not None]).images()
        pairs, finite, terms = [], True, []
        for b, target in enumerate(targets):
            found, good, losses = self._image(images[b], [p.classes[b] for p in every], target, len(layers), draw)
            pairs.append(found)
            terms.append(losses)
            finite = finite and good
        matches = [[found[i] for found in pairs] for i in range(len(every))]
        mask, dice = torch.stack(terms).sum(0).div(normalisers.masks)  # [L + pilots]
        count = len(layers)
        parts = {
            "class": self._classes(layers, matches[:count], targets) / normalisers.classes,
            "mask": mask[:count],
            "dice": dice[:count],
        }
        if piloted:
            parts["pilot_class"] = (
                self._classes(piloted, matches[count:], targets, ignore_rest=True) / normalisers.masks
            )
            parts |= {"pilot_mask": mask[count:], "pilot_dice": dice[count:]}
        weights = {"class": self.class_weight, "mask": self.mask_weight, "dice": self.dice_weight}
        total = sum(
            (weights[name.removeprefix("pilot_")] * part.sum() for name, part in parts.items()), mask.new_zeros(())
        )
        finite = finite and bool(torch.isfinite(total))
        return LossReport(total, {name: part.detach() for name, part in parts.items()}, matches[:count], finite)

    def _image(
        self, masks: Masks, classes: list[Tensor], target: Target, num_matched: int, draw: Draw
    ) -> tuple[list[Match], bool, Tensor]:
        """One image: masks [1, ΣQ, ...] and classes of every layer [Q, K + 1] each; those from `num_matched` on belong
        to pilots, which need no matching -> its matches, whether all costs are finite, (mask, dice) losses [2, layers].
        """
        device = classes[0].device
        places = draw(target.image_id, "match-points", (self.num_points, 2)).to(device)
        candidates = candidate_points(draw, target.image_id, self.num_points, self.oversample, self.importance)
        candidates = candidates.to(device)
        truth = truth_at(target.masks, torch.cat((places, candidates)))  # [N, P + candidates]
        matches, finite = self._match(masks, classes[:num_matched], target, places, truth[:, : len(places)])
        own = torch.arange(len(target.labels), device=device)
        matches += [Match(own, own)] * (len(classes) - num_matched)
        counts = [len(match.queries) for match in matches]
        starts = [0]
        for part in classes:
            starts.append(starts[-1] + len(part))
        rows = torch.cat([match.queries + start for match, start in zip(matches, starts, strict=False)])
        logits = masks.select(0, rows).at(candidates.unsqueeze(0))[0]  # [ΣM, candidates]
        at = uncertain_points(logits, self.num_points, self.oversample, self.importance)
        objects = torch.cat([match.targets for match in matches])
        wanted = truth[:, len(places) :][objects].gather(1, at)
        losses = torch.stack(mask_losses(logits.gather(1, at), wanted))  # [2, ΣM]
        return matches, finite, torch.stack([part.sum(1) for part in losses.split(counts, dim=1)], dim=1)

    @torch.no_grad()
    def _match(
        self, masks: Masks, classes: list[Tensor], target: Target, places: Tensor, truth: Tensor
    ) -> tuple[list[Match], bool]:
        """The assignment of every layer -> L matches, and whether all costs are finite."""
        matcher = HungarianMatcher(self.class_weight, self.mask_weight, self.dice_weight)
        queries = len(classes[0])
        if not len(target.labels):
            none = torch.zeros(0, dtype=torch.int64, device=places.device)
            return [Match(none, none)] * len(classes), True
        everyone = torch.arange(queries * len(classes), device=places.device)
        logits = masks.select(0, everyone).at(places.unsqueeze(0))[0]  # [L·Q, P]
        costs = [
            matcher.costs(part, rows, target.labels, truth)
            for part, rows in zip(classes, logits.split(queries), strict=True)
        ]
        return [assign(cost) for cost in costs], all(bool(torch.isfinite(cost).all()) for cost in costs)

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
