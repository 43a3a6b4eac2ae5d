"""What queries are compared with objects by, beside their classes: for matching, and for the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from segcli.layers.masks import concatenate
from segcli.objective.costs import focal_costs, mask_costs
from segcli.objective.losses import focal_losses, mask_losses
from segcli.objective.matcher import Match
from segcli.objective.sampling import Draw, candidate_points, chosen, truth_at, uncertain_points
from segcli.types import Masks, QueryPredictions, Target

PAIRS = 64  # compared at all candidate points at once: the largest tensors of a loss, of which a third is kept


class Compared(Protocol):
    """The queries of several predictions and the objects of one image."""

    def costs(self, predictions: int) -> list[dict[str, Tensor]]:
        """Of the first `predictions`: the unweighted cost of every query and object, [Q, N] each, by name."""

    def losses(self, matches: Sequence[Match]) -> dict[str, Tensor]:
        """Of every prediction: the unweighted loss summed over its pairs, [predictions] each, by name."""


class Terms(Protocol):
    """Costs and losses of one kind, such as those of masks or of boxes. weights: by name, for both."""

    @property
    def weights(self) -> Mapping[str, float]: ...

    def images(self, predictions: Sequence[QueryPredictions], targets: Sequence[Target], draw: Draw) -> list[Compared]:
        """One comparison an image of the batch; `predictions` are those of all layers."""


class View(Protocol):
    """Masks of one image where they are compared."""

    def every(self, count: int) -> tuple[Tensor, Tensor]:
        """For matching: logits of the first `count` queries [count, P], truth of all objects [N, P], float."""

    def pairs(self, rows: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """For the loss: logits of queries `rows` [M, P], truth of `objects` [M, P]."""


class MaskPlaces(Protocol):
    """Where masks are compared."""

    def view(self, masks: Masks, target: Target, draw: Draw) -> View:
        """masks [1, ΣQ, ...] of one image, of all predictions after each other."""


@dataclass(frozen=True)
class MaskTerms:
    """Masks: cross-entropy or focal loss, and dice."""

    places: MaskPlaces
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    focal: bool = False

    @property
    def weights(self) -> Mapping[str, float]:
        return {"mask": self.mask_weight, "dice": self.dice_weight}

    def images(self, predictions: Sequence[QueryPredictions], targets: Sequence[Target], draw: Draw) -> list[Compared]:
        images = concatenate([p.masks for p in predictions if p.masks is not None]).images()
        sizes = [p.classes.shape[1] for p in predictions]
        return [
            _ComparedMasks(self.places.view(masks, target, draw), sizes, self.focal)
            for masks, target in zip(images, targets, strict=True)
        ]


@dataclass(frozen=True)
class _ComparedMasks:
    """sizes: queries of each prediction."""

    view: View
    sizes: list[int]
    focal: bool

    def costs(self, predictions: int) -> list[dict[str, Tensor]]:
        sizes = self.sizes[:predictions]
        logits, truth = self.view.every(sum(sizes))
        cost = focal_costs if self.focal else mask_costs
        return [dict(zip(("mask", "dice"), cost(part, truth), strict=True)) for part in logits.split(sizes)]

    def losses(self, matches: Sequence[Match]) -> dict[str, Tensor]:
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        rows = torch.cat([match.queries + start for match, start in zip(matches, starts, strict=True)])
        logits, truth = self.view.pairs(rows, torch.cat([match.targets for match in matches]))
        losses = focal_losses(logits, truth) if self.focal else mask_losses(logits, truth)
        counts = [len(match.queries) for match in matches]
        return {
            name: torch.stack([part.sum() for part in loss.split(counts)])
            for name, loss in zip(("mask", "dice"), losses, strict=True)
        }


@dataclass(frozen=True)
class FinalMaskTerms:
    """Masks of the last prediction alone, and no part of the matching (DETR): a mask head is too costly for more. It is
    run for the matched queries only.
    """

    mask_weight: float = 1.0
    dice_weight: float = 1.0

    @property
    def weights(self) -> Mapping[str, float]:
        return {"mask": self.mask_weight, "dice": self.dice_weight}

    def images(self, predictions: Sequence[QueryPredictions], targets: Sequence[Target], draw: Draw) -> list[Compared]:
        """One comparison an image."""
        masks = predictions[-1].masks
        assert masks is not None  # a network with masks is asked for them
        return [_FinalMasks(_PixelView(own, target.masks)) for own, target in zip(masks.images(), targets, strict=True)]


@dataclass(frozen=True)
class _FinalMasks:
    view: View

    def costs(self, predictions: int) -> list[dict[str, Tensor]]:
        return [{} for _ in range(predictions)]

    def losses(self, matches: Sequence[Match]) -> dict[str, Tensor]:
        logits, truth = self.view.pairs(matches[-1].queries, matches[-1].targets)
        before = logits.new_zeros(len(matches) - 1)
        focal, dice = focal_losses(logits, truth)
        return {"mask": torch.cat((before, focal.sum()[None])), "dice": torch.cat((before, dice.sum()[None]))}


@dataclass(frozen=True)
class AtPoints:
    """Mask2Former: at random points for matching, at uncertain ones for the loss. Masks stay factorised: features are
    sampled once an image at points that all layers share, and only matched masks are multiplied out for the loss.
    """

    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75

    def view(self, masks: Masks, target: Target, draw: Draw) -> View:
        device = target.masks.device
        places = draw(target.image_id, "match-points", (self.num_points, 2)).to(device)
        candidates = candidate_points(draw, target.image_id, self.num_points, self.oversample, self.importance)
        candidates = candidates.to(device)
        truth = truth_at(target.masks, torch.cat((places, candidates)))  # [N, P + candidates]
        there, of_candidates = truth.split([len(places), len(candidates)], dim=1)
        return _PointView(masks, places, candidates, there, of_candidates, self)


@dataclass(frozen=True)
class _PointView:
    masks: Masks
    places: Tensor
    candidates: Tensor
    truth_there: Tensor  # [N, P]
    truth_candidates: Tensor  # [N, candidates]
    rule: AtPoints

    def every(self, count: int) -> tuple[Tensor, Tensor]:
        everyone = torch.arange(count, device=self.places.device)
        return self.masks.select(0, everyone).at(self.places.unsqueeze(0))[0], self.truth_there

    def pairs(self, rows: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self._some(*part) for part in zip(rows.split(PAIRS), objects.split(PAIRS), strict=True)]
        logits, truth = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(truth)

    def _some(self, rows: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.masks.select(0, rows).at(self.candidates.unsqueeze(0))[0]  # [M, candidates]
        rule = self.rule
        at = uncertain_points(logits, rule.num_points, rule.oversample, rule.importance)
        return chosen(logits, at), self.truth_candidates[objects].gather(1, at)


@dataclass(frozen=True)
class AllPixels:
    """MaskFormer and DETR: at every cell of the masks for matching, at every pixel of the image for the loss."""

    def view(self, masks: Masks, target: Target, draw: Draw) -> View:
        return _PixelView(masks, target.masks)


@dataclass(frozen=True)
class _PixelView:
    masks: Masks
    truth: Tensor  # [N, H, W] bool

    def every(self, count: int) -> tuple[Tensor, Tensor]:
        logits = self.masks.select(0, torch.arange(count, device=self.truth.device)).dense()[0]
        truth = F.interpolate(self.truth[None].float(), size=logits.shape[1:], mode="nearest")[0]
        return logits.flatten(1), truth.flatten(1)

    def pairs(self, rows: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        masks = self.masks.select(0, rows)
        if not len(rows):  # nothing, but still a function of the network's output
            none = masks.dense()[0].flatten(1)
            return none, torch.zeros_like(none, dtype=torch.bool)
        logits = masks.resized((self.truth.shape[1], self.truth.shape[2]))[0]
        return logits.flatten(1), self.truth[objects].flatten(1)
